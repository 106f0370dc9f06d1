"""How the tensors of one work are placed, over a pool of mere memory."""

from __future__ import annotations

import mmap
import random
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tutti.arena import Arena, Block, Pool
from tutti.binding import Bound, Part, bind, whole
from tutti.tensors import describe


class CountingPool(Pool):
    """Counts blocks that are out."""

    def __init__(self) -> None:
        super().__init__(lambda size: Arena(7, mmap.mmap(-1, size)))
        self.taken: list[int] = []
        self.freed = 0

    def allocate(self, size_bytes: int) -> Block:
        block = super().allocate(size_bytes)
        self.taken.append(size_bytes)
        return block

    def free(self, block: Block) -> None:
        self.freed += 1
        super().free(block)


@pytest.fixture
def pool() -> CountingPool:
    return CountingPool()


def parts_of(*arrays: Any) -> list[Part]:
    return [whole(describe(array, f"array[{n}]")) for n, array in enumerate(arrays)]


def rows_of(array: Any, *rows: int) -> list[Part]:
    memory = describe(array)
    return [Part(memory, tuple(row * array[:1].nbytes for row in rows))]


def bytes_at(pool: Pool, span: Any) -> Any:
    return pool._table[1][0].bytes[span[1] : span[1] + span[2]]


def places(spans: Any) -> list[tuple[int, int]]:
    return [span[1:] for span in spans]


def offset_in(pool: Pool, array: Any) -> int:
    return int(array.__array_interface__["data"][0]) - pool._table[1][0].address


def test_all_that_is_staged_is_one_block(pool: CountingPool) -> None:
    arrays = [np.full(100 + n, n, np.float32) for n in range(20)]
    bound = bind(parts_of(*arrays[:10]), parts_of(*arrays[10:]), pool, 0)
    assert len(pool.taken) == 1
    spans = [*bound.outputs, *bound.inputs]
    ends = [offset + length for _, offset, length in spans]
    assert all(after[1] >= end for end, after in zip(ends, spans[1:], strict=False))
    assert all(offset % 64 == 0 for _, offset, _ in spans)
    for array, span in zip(arrays, bound.inputs, strict=False):
        assert bytes_at(pool, span).tobytes() == array.tobytes()
    for span in bound.outputs:
        bytes_at(pool, span).view(np.float32)[:] = 100 + span[2]
    bound.finish(True)
    assert pool.freed == 1
    for number, array in enumerate(arrays):
        assert (array == (100 + array.nbytes if number >= 10 else number)).all()


def test_rows_of_one_tensor_are_copied_as_one(
    pool: CountingPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = np.arange(24).reshape(6, 4)
    copies = []
    view = Block.view

    def counted(*given: Any) -> Any:
        copies.append(given)
        return view(*given)

    monkeypatch.setattr(Block, "view", counted)
    bound = bind(rows_of(array, 1, 0, 3, 2), [], pool, 0)
    assert len(copies) == 1
    start = bound.inputs[0][1]
    assert places(bound.inputs) == [(start, 32), (0, 0), (start + 32, 96), (start + 128, 64)]
    bound.finish(True)
    assert len(copies) == 1, "what is only read is not copied back"


def test_what_is_only_written_is_not_copied_in(
    pool: CountingPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = np.zeros(10)
    with monkeypatch.context() as patch:
        patch.setattr(Block, "view", None)
        bound = bind([], parts_of(array), pool, 0)
    bytes_at(pool, bound.outputs[0])[:] = 1
    bound.finish(True)
    assert array.tobytes() == b"\1" * 80


def test_what_is_in_place_has_one_span(pool: CountingPool) -> None:
    for array in (np.arange(5.0), pool.array((5,), np.float64), np.arange(10.0)[::2]):
        parts = parts_of(array)
        for inputs in (parts, parts_of(array)):  # the same tensor twice is enough
            bound = bind(inputs, parts, pool, 0)
            assert bound.inputs == bound.outputs
            bound.finish(True)


def test_empty_tensors_need_no_memory(pool: CountingPool) -> None:
    bound = bind(parts_of(np.zeros((0, 3))), parts_of(np.zeros((2, 0))), pool, 0)
    assert places([*bound.inputs, *bound.outputs]) == [(0, 0), (0, 0)]
    assert not pool.taken
    bound.finish(True)


class TestInTheArena:
    """Where tensors live decides if the work can be in place."""

    def test_own_element_of_a_list(self, pool: CountingPool) -> None:
        rows = pool.array((4, 10), np.int32)
        pool.taken.clear()
        for given, taken in (
            (parts_of(rows[2]), parts_of(*rows)),  # allgather, gather
            (parts_of(*rows), parts_of(rows[2])),  # scatter, reduce_scatter
            (parts_of(rows[2]), rows_of(rows, 1, 1, 1, 1)),
            (rows_of(rows, 1, 1, 1, 1), parts_of(rows[2])),
        ):
            bound = bind(given, taken, pool, 2)
            own = (offset_in(pool, rows[2]), 40)
            assert own in places(bound.inputs)
            assert own in places(bound.outputs)
            bound.finish(True)
        assert not pool.taken, "nothing was staged"

    def test_another_element_of_the_list_is_staged(self, pool: CountingPool) -> None:
        rows = pool.array((4, 10), np.int32)
        rows[...] = np.arange(40).reshape(4, 10)
        bound = bind(parts_of(rows[1]), parts_of(*rows), pool, 2)
        assert bound.inputs[0][1] != offset_in(pool, rows[1])
        assert bytes_at(pool, bound.inputs[0]).tobytes() == rows[1].tobytes()
        assert places(bound.outputs) == [(offset_in(pool, row), 40) for row in rows]
        bound.finish(True)

    def test_lists_in_place(self, pool: CountingPool) -> None:
        rows = pool.array((4, 10), np.int32)
        pool.taken.clear()
        for given in (parts_of(*rows), rows_of(rows, 1, 1, 1, 1)):
            for taken in (parts_of(*rows), rows_of(rows, 1, 1, 1, 1)):
                bound = bind(given, taken, pool, 0)
                assert bound.inputs == bound.outputs
                bound.finish(True)
        assert not pool.taken

    def test_lists_in_another_order(self, pool: CountingPool) -> None:
        rows = pool.array((4, 10), np.int32)
        rows[...] = np.arange(40).reshape(4, 10)
        bound = bind(parts_of(*rows[::-1]), parts_of(*rows), pool, 0)
        assert not set(places(bound.inputs)) & set(places(bound.outputs))
        for span, row in zip(bound.inputs, rows[::-1], strict=True):
            assert bytes_at(pool, span).tobytes() == row.tobytes()
        bound.finish(True)

    def test_the_same_memory_cut_otherwise(self, pool: CountingPool) -> None:
        rows = pool.array((4, 10), np.int32)
        bound = bind(rows_of(rows, 1, 3), rows_of(rows, 3, 1), pool, 0)
        assert not set(places(bound.inputs)) & set(places(bound.outputs))
        bound.finish(True)

    def test_inputs_may_overlap(self, pool: CountingPool) -> None:
        rows = pool.array((4, 10), np.int32)
        pool.taken.clear()
        bound = bind(parts_of(rows, rows[1], rows[1:3]), [], pool, 0)
        assert places(bound.inputs)[1] == (offset_in(pool, rows[1]), 40)
        assert not pool.taken

    def test_never_what_the_daemon_would_refuse(self, pool: CountingPool) -> None:
        """Any tensors of one arena array: spans overlap only where the work may be in place."""
        seed = random.randrange(1 << 32)
        print(f"seed {seed}")
        generator = random.Random(seed)
        base = pool.array((64,), np.uint8)
        for _ in range(2000):
            base[:] = np.arange(64)
            size, world = generator.randrange(1, 6), generator.randrange(1, 5)
            starts = generator.sample(range(0, 64 - size, size), world)
            outputs = [base[at : at + size] for at in starts]
            inputs = [
                base[at : at + size]
                for at in (generator.randrange(64 - size) for _ in range(world))
            ]
            if generator.random() < 0.3:
                inputs[0] = outputs[0]
            one_in, one_out = generator.choice([(False, False), (True, False), (False, True)])
            inputs = inputs[:1] if one_in else inputs
            outputs = outputs[:1] if one_out else outputs
            rank = generator.randrange(world)
            bound = bind(parts_of(*inputs), parts_of(*outputs), pool, rank)
            for k, source in enumerate(bound.inputs):
                assert bytes_at(pool, source).tobytes() == inputs[k].tobytes()
                for o, output in enumerate(bound.outputs):
                    apart = (
                        source[1] + size <= output[1]
                        or output[1] + size <= source[1]
                    )
                    equal = len(bound.inputs) == len(bound.outputs)
                    allowed = k == o if equal else max(k, o) == rank
                    assert apart or (allowed and source == output)
            bound.finish(True)
        assert pool.freed == len(pool.taken) - 1


class TestOutputs:
    """Outputs that can't all keep their results are refused; nothing is allocated for them."""

    def test_overlapping(self, pool: CountingPool) -> None:
        for base in (np.zeros(20), pool.array((20,), np.float64)):
            pool.taken.clear()
            for outputs in (
                [base, base],
                [base[:10], base[12:], base[5:6]],
                [base[9:11], base[:10]],
                [base[::2], base[::2]],
            ):
                with pytest.raises(ValueError, match=r"array\[\d\] and array\[\d\] overlap"):
                    bind([], parts_of(*outputs), pool, 0)
            assert not pool.taken

    def test_side_by_side(self, pool: CountingPool) -> None:
        base = np.zeros((10, 4))
        columns = [base[:, n] for n in range(4)]
        bound = bind([], parts_of(*columns), pool, 0)
        for number, span in enumerate(bound.outputs):
            bytes_at(pool, span).view(np.float64)[:] = number
        bound.finish(True)
        assert (base == np.arange(4)).all()
        for outputs in ([base[:5], base[5:]], [base[:0], base, base[:0]]):
            bind([], parts_of(*outputs), pool, 0).finish(True)

    def test_read_only_pages_are_found_in_lists(self, pool: CountingPool, tmp_path: Path) -> None:
        path = tmp_path / "array"
        np.arange(1000.0).tofile(path)
        mapped = np.memmap(path, np.float64, "r")
        marked = np.arange(5.0)
        marked.flags.writeable = False
        with pytest.raises(ValueError, match=r"array\[1\] lies in memory .* only read"):
            bind([], parts_of(marked, mapped), pool, 0)
        bind(parts_of(marked, mapped), parts_of(marked), pool, 0).finish(True)


def test_a_failed_copy_gives_the_block_back(
    pool: CountingPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    array = np.zeros(10)
    with monkeypatch.context() as patch:
        patch.setattr(Block, "view", fail)
        with pytest.raises(MemoryError):
            bind(parts_of(array), [], pool, 0)
    bound = bind([], parts_of(array), pool, 0)
    with monkeypatch.context() as patch:
        patch.setattr(Block, "view", fail)
        with pytest.raises(MemoryError):
            bound.finish(True)
    assert pool.freed == len(pool.taken) == 2


def test_ctrl_c_while_copying(pool: CountingPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Into the block: it is given back. Back from it: the next call does all of it."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    array = np.zeros(10)
    with monkeypatch.context() as patch:
        patch.setattr(Block, "view", interrupt)
        with pytest.raises(KeyboardInterrupt):
            bind(parts_of(array), [], pool, 0)
    assert pool.freed == 1
    bound = bind([], parts_of(array), pool, 0)
    bytes_at(pool, bound.outputs[0])[:] = 1
    with monkeypatch.context() as patch:
        patch.setattr(Block, "view", interrupt)
        with pytest.raises(KeyboardInterrupt):
            bound.finish(True)
    assert pool.freed == 1
    for _ in range(2):
        bound.finish(True)
        assert pool.freed == 2
    assert array.tobytes() == b"\1" * 80


def test_a_signal_handler_while_copying(
    pool: CountingPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends the work, and the block is another's then: the interrupted one copies no more."""
    arrays = [np.zeros(10), np.zeros(10)]
    bound = bind([], parts_of(*arrays), pool, 0)
    for span in bound.outputs:
        bytes_at(pool, span)[:] = 1
    view = Block.view

    def interrupted(*given: Any) -> Any:
        monkeypatch.undo()
        staged = view(*given)
        bound.finish(True)
        assert pool.freed == 1
        for span in bound.outputs:
            bytes_at(pool, span)[:] = 2
        return staged

    monkeypatch.setattr(Block, "view", interrupted)
    bound.finish(True)
    assert pool.freed == 1
    assert [array.tobytes() for array in arrays] == [b"\1" * 80] * 2


def test_a_block_is_given_back_once(pool: CountingPool) -> None:
    bounds: list[Bound] = [bind(parts_of(np.zeros(3)), [], pool, 0) for _ in range(200)]

    def finish() -> None:
        for bound in bounds:
            bound.finish(False)

    threads = [threading.Thread(target=finish) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pool.freed == 200
