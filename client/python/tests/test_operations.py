"""Every operation against the fake daemon: what comes out, whatever form tensors are given in."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fake_daemon import FakeDaemon
from ranks import in_threads

import tutti
from tutti import ReduceOp
from tutti.ops import DTYPES

NUMPY_DTYPES = [name for name in DTYPES if name != "bfloat16"]


@pytest.fixture(params=[1, 2, 3])
def ranks(request: pytest.FixtureRequest, client: tutti.Client) -> list[tutti.Group]:
    """All ranks of a group, in one session."""
    return join(client, request.param)


@pytest.fixture
def three(client: tutti.Client) -> list[tutti.Group]:
    return join(client, 3)


def join(client: tutti.Client, count: int) -> list[tutti.Group]:
    return in_threads(count, lambda rank: client.join("ranks", rank, count))


def on_all(groups: list[tutti.Group], body: Callable[[tutti.Group], Any]) -> list[Any]:
    return in_threads(len(groups), lambda rank: body(groups[rank]))


def value(rank: int, shape: tuple[int, ...] = (2, 3), dtype: Any = np.float64) -> Any:
    """Different at each rank and in each element; small, so that all dtypes hold sums of it."""
    count = int(np.prod(shape))
    return ((np.arange(count) + 3 * rank + 1) % 7).astype(dtype).reshape(shape)


def total(world: int, shape: tuple[int, ...] = (2, 3), dtype: Any = np.float64) -> Any:
    return sum(value(rank, shape, np.int64) for rank in range(world)).astype(dtype)


@pytest.mark.parametrize("dtype", NUMPY_DTYPES)
def test_allreduce(ranks: list[tutti.Group], dtype: str) -> None:
    def body(group: tutti.Group) -> None:
        array = value(group.rank, dtype=dtype)
        group.allreduce(array)
        assert (array == total(len(ranks), dtype=dtype)).all()
        group.allreduce(array, ReduceOp.MAX)
        assert (array == total(len(ranks), dtype=dtype)).all()

    on_all(ranks, body)


def test_allreduce_coalesced(three: list[tutti.Group], daemon: FakeDaemon) -> None:
    shapes = [(2, 3), (), (0,), (5,), (1, 1, 7)]

    def body(group: tutti.Group) -> None:
        tensors = [value(group.rank, shape) for shape in shapes]
        tensors.append(group.client.from_numpy(value(group.rank, (4,))))
        given = list(tensors)
        group.allreduce_coalesced(tensors, ReduceOp.SUM)
        assert all(one is other for one, other in zip(tensors, given, strict=True))
        for tensor in tensors:
            assert (tensor == total(3, tensor.shape)).all()
        group.allreduce_coalesced(tuple(tensors), ReduceOp.AVG)
        for tensor in tensors:
            assert (tensor == total(3, tensor.shape)).all()

    on_all(three, body)
    assert len(daemon.works) == 6, "one work for all tensors"


def test_reduce(ranks: list[tutti.Group]) -> None:
    def body(group: tutti.Group) -> None:
        for root in range(len(ranks)):
            array = value(group.rank)
            group.reduce(array, root)
            expected = total(len(ranks)) if group.rank == root else value(group.rank)
            assert (array == expected).all()
        array = value(group.rank)
        group.reduce(array, op=ReduceOp.MIN)
        lowest = np.min([value(rank) for rank in range(len(ranks))], axis=0)
        assert (array == (lowest if group.rank == 0 else value(group.rank))).all()

    on_all(ranks, body)


@pytest.mark.parametrize("dtype", NUMPY_DTYPES)
def test_broadcast(ranks: list[tutti.Group], dtype: str) -> None:
    def body(group: tutti.Group) -> None:
        for root in range(len(ranks)):
            array = value(group.rank, dtype=dtype)
            group.broadcast(array, root)
            assert (array == value(root, dtype=dtype)).all()

    on_all(ranks, body)


# Ways to give a list of tensors of a shape: a name, and what makes it and gives its elements.
def numpy_list(client: tutti.Client, world: int, shape: Any, dtype: Any) -> Any:
    del client
    return [np.zeros(shape, dtype) for _ in range(world)]


def numpy_tuple(client: tutti.Client, world: int, shape: Any, dtype: Any) -> Any:
    return tuple(numpy_list(client, world, shape, dtype))


def strided_list(client: tutti.Client, world: int, shape: Any, dtype: Any) -> Any:
    del client
    return list(np.moveaxis(np.zeros((*shape, world), dtype), -1, 0))


def stack(client: tutti.Client, world: int, shape: Any, dtype: Any) -> Any:
    del client
    return np.zeros((world, *shape), dtype)


def strided_stack(client: tutti.Client, world: int, shape: Any, dtype: Any) -> Any:
    return stack(client, 2 * world, shape, dtype)[::-2]


def joined(client: tutti.Client, world: int, shape: Any, dtype: Any) -> Any:
    del client
    return np.zeros((world * shape[0], *shape[1:]), dtype)


def arena_rows(client: tutti.Client, world: int, shape: Any, dtype: Any) -> Any:
    return list(client.zeros((world, *shape), dtype))


def arena_stack(client: tutti.Client, world: int, shape: Any, dtype: Any) -> Any:
    return client.zeros((world, *shape), dtype)


def mixed_list(client: tutti.Client, world: int, shape: Any, dtype: Any) -> Any:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    makers = [
        lambda: torch.zeros(shape, dtype=getattr(torch, np.dtype(dtype).name)),
        lambda: np.zeros(shape, dtype),
        lambda: client.zeros(shape, dtype),
    ]
    return [makers[rank % 3]() for rank in range(world)]


LISTS = [
    numpy_list,
    numpy_tuple,
    strided_list,
    stack,
    strided_stack,
    joined,
    arena_rows,
    arena_stack,
    mixed_list,
]


def fill(tensors: Any, world: int, elements: Callable[[int], Any]) -> Any:
    for rank in range(world):
        target = part(tensors, world, rank)
        target[...] = elements(rank)
    return tensors


def part(tensors: Any, world: int, rank: int) -> Any:
    """The element of a list, however it is given, as a NumPy array that shares its memory."""
    if not isinstance(tensors, np.ndarray):
        return np.asarray(tensors[rank])
    if len(tensors) == world:
        return tensors[rank]
    rows = len(tensors) // world
    return tensors[rank * rows : (rank + 1) * rows]


@pytest.mark.parametrize("make", LISTS)
@pytest.mark.parametrize("dtype", ["float64", "int8"])
class TestLists:
    """The operations on lists, for each form that a list may have."""

    def test_allgather(self, ranks: list[tutti.Group], make: Any, dtype: str) -> None:
        world = len(ranks)

        def body(group: tutti.Group) -> None:
            tensors = make(group.client, world, (2, 3), dtype)
            array = value(group.rank, dtype=dtype)
            group.allgather(tensors, array)
            for rank in range(world):
                assert (part(tensors, world, rank) == value(rank, dtype=dtype)).all()
            assert (array == value(group.rank, dtype=dtype)).all()

        on_all(ranks, body)

    def test_gather(self, ranks: list[tutti.Group], make: Any, dtype: str) -> None:
        world = len(ranks)

        def body(group: tutti.Group) -> None:
            for root in range(world):
                array = value(group.rank, dtype=dtype)
                if group.rank != root:
                    group.gather(array, None, root)
                    continue
                tensors = make(group.client, world, (2, 3), dtype)
                group.gather(array, tensors, root)
                for rank in range(world):
                    assert (part(tensors, world, rank) == value(rank, dtype=dtype)).all()

        on_all(ranks, body)

    def test_scatter(self, ranks: list[tutti.Group], make: Any, dtype: str) -> None:
        world = len(ranks)

        def body(group: tutti.Group) -> None:
            for root in range(world):
                array = np.zeros((2, 3), dtype)
                tensors = None
                if group.rank == root:
                    tensors = make(group.client, world, (2, 3), dtype)
                    fill(tensors, world, lambda rank: value(rank, dtype=dtype))
                group.scatter(array, tensors, root)
                assert (array == value(group.rank, dtype=dtype)).all()

        on_all(ranks, body)

    def test_reducescatter(self, ranks: list[tutti.Group], make: Any, dtype: str) -> None:
        world = len(ranks)

        def body(group: tutti.Group) -> None:
            tensors = make(group.client, world, (2, 3), dtype)
            fill(tensors, world, lambda rank: value(group.rank + rank, dtype=dtype))
            array = np.zeros((2, 3), dtype)
            group.reducescatter(array, tensors)
            expected = sum(value(group.rank + rank, dtype=np.int64) for rank in range(world))
            assert (array == expected.astype(dtype)).all()
            for rank in range(world):  # which Ray's Gloo overwrites
                kept = value(group.rank + rank, dtype=dtype)
                assert (part(tensors, world, rank) == kept).all()

        on_all(ranks, body)


# alltoall_single takes what is joined.
@pytest.mark.parametrize("make", [each for each in LISTS if each is not joined])
def test_alltoall(ranks: list[tutti.Group], make: Any) -> None:
    world = len(ranks)

    def body(group: tutti.Group) -> None:
        inputs = make(group.client, world, (2, 3), np.int64)
        fill(inputs, world, lambda rank: value(10 * group.rank + rank))
        outputs = make(group.client, world, (2, 3), np.int64)
        group.alltoall(outputs, inputs)
        for rank in range(world):
            expected = value(10 * rank + group.rank)
            assert (part(outputs, world, rank) == expected).all()
            kept = value(10 * group.rank + rank)
            assert (part(inputs, world, rank) == kept).all()
        group.alltoall(inputs, inputs)  # in place
        for rank in range(world):
            expected = value(10 * rank + group.rank)
            assert (part(inputs, world, rank) == expected).all()

    on_all(ranks, body)


def test_alltoall_of_any_shapes(three: list[tutti.Group]) -> None:
    def body(group: tutti.Group) -> None:
        me = group.rank
        inputs = [np.full((me + 1, rank), 10 * me + rank) for rank in range(3)]
        outputs = [np.zeros((rank + 1) * me, int) for rank in range(3)]
        group.alltoall(outputs, inputs)
        for rank, output in enumerate(outputs):
            assert (output == 10 * rank + me).all()

    on_all(three, body)


def test_alltoall_single(ranks: list[tutti.Group]) -> None:
    world = len(ranks)

    def body(group: tutti.Group) -> None:
        source = value(group.rank, (2 * world, 3))
        expected = np.concatenate(
            [value(rank, (2 * world, 3))[2 * group.rank :][:2] for rank in range(world)]
        )
        for output in (np.zeros_like(source), group.client.zeros(source.shape)):
            group.alltoall_single(output, source)
            assert (output == expected).all()
        group.alltoall_single(source, source)
        assert (source == expected).all()

    on_all(ranks, body)


@pytest.mark.parametrize("arena", [False, True])
def test_alltoall_single_with_random_splits(three: list[tutti.Group], arena: bool) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    generator = random.Random(seed)
    world = 3
    for _ in range(20):
        splits = [[generator.choice((0, 1, 2, 5)) for _ in range(world)] for _ in range(world)]
        tail = generator.choice([(), (3,), (2, 2), (0,)])

        def body(group: tutti.Group, splits: Any = splits, tail: Any = tail) -> None:
            me = group.rank
            given, taken = splits[me], [splits[rank][me] for rank in range(world)]
            source = value(me, (sum(given), *tail), np.int32)
            output = np.full((sum(taken), *tail), -1, np.int32)
            if arena:
                source, output = (group.client.from_numpy(each) for each in (source, output))
            group.alltoall_single(output, source, taken, np.array(given))
            pieces = []
            for rank in range(world):
                theirs = value(rank, (sum(splits[rank]), *tail), np.int32)
                first = sum(splits[rank][:me])
                pieces.append(theirs[first : first + splits[rank][me]])
            assert (output == np.concatenate(pieces)).all()

        on_all(three, body)


class TestTransfers:
    """send and recv: in order per pair, and whatever else goes on."""

    def test_in_order(self, three: list[tutti.Group]) -> None:
        def body(group: tutti.Group) -> None:
            others = [rank for rank in range(3) if rank != group.rank]
            works = []
            for size in (3, 20_000, 0, 5):  # 20,000 float64 are more than what is sent eagerly
                for rank in others:
                    array = np.full(size, 10.0 * group.rank + rank + size)
                    works.append(group.send(array, rank, async_op=True))
            group.barrier()
            for size in (3, 20_000, 0, 5):
                for rank in reversed(others):
                    array = np.zeros(size)
                    group.recv(array, rank)
                    assert (array == 10.0 * rank + group.rank + size).all()
            for work in works:
                work.wait(10)

        on_all(three, body)

    def test_a_small_send_does_not_wait(self, pair: list[tutti.Group]) -> None:
        source, target = np.arange(5), np.zeros(5, int)
        pair[0].send(source, 1)
        source[:] = 0
        pair[1].recv(target, 0)
        assert (target == np.arange(5)).all()

    def test_a_large_send_waits(self, pair: list[tutti.Group], daemon: FakeDaemon) -> None:
        source, target = np.arange(100_000), np.zeros(100_000, int)
        work = pair[0].send(source, 1, async_op=True)
        daemon.wait_for(lambda: bool(daemon.works))
        assert not work.done()
        pair[1].recv(target, 0)
        work.wait(10)
        assert (target == source).all()

    def test_what_does_not_fit(self, pair: list[tutti.Group]) -> None:
        array = np.arange(3.0)
        pair[0].send(np.zeros(4), 1)
        with pytest.raises(tutti.MismatchError):
            pair[1].recv(array, 0)
        assert (array == np.arange(3.0)).all()
        pair[0].send(np.ones(3), 1)
        pair[1].recv(array, 0)
        assert (array == 1).all()


def test_agree(three: list[tutti.Group]) -> None:
    def body(group: tutti.Group) -> None:
        assert group.agree(True) is True
        assert group.agree(group.rank != 1) is False
        assert group.agree(np.bool_(True), timeout=5) is True
        assert group.agree(False) is False

    on_all(three, body)


@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 0), (3, 1, 2)])
def test_any_shape(three: list[tutti.Group], shape: tuple[int, ...]) -> None:
    def body(group: tutti.Group) -> None:
        array = value(group.rank, shape)
        tensors = [np.zeros(shape) for _ in range(3)]
        group.allgather(tensors, array)
        for rank in range(3):
            assert (tensors[rank] == value(rank, shape)).all()
        stacked = np.zeros((3, *shape))
        group.allgather(stacked, array)
        assert (stacked == np.array(tensors)).all()
        group.reducescatter(array, tensors)
        assert (array == 3 * value(group.rank, shape)).all()
        group.scatter(array, stacked if group.rank == 2 else None, 2)
        group.gather(array, stacked if group.rank == 1 else None, 1)
        assert (stacked == np.array(tensors)).all()
        group.reduce(array)
        group.broadcast(array, 0)
        assert (array == total(3, shape)).all()

    on_all(three, body)


def test_read_only_arrays_are_written_in_place(three: list[tutti.Group]) -> None:
    """As Ray delivers them."""

    def body(group: tutti.Group) -> None:
        array = value(group.rank)
        outputs = [np.zeros((2, 3)) for _ in range(3)]
        for each in (array, *outputs):
            each.flags.writeable = False
        group.allgather(outputs, array)
        for rank in range(3):
            assert (outputs[rank] == value(rank)).all()
        group.allreduce(array)
        assert (array == total(3)).all()
        assert not array.flags.writeable

    on_all(three, body)


@pytest.mark.parametrize("arena", [False, True])
class TestAliasing:
    """One tensor as input and output: the result is that of reading all inputs first."""

    def test_own_element(self, three: list[tutti.Group], arena: bool) -> None:
        def body(group: tutti.Group) -> None:
            me = group.rank
            rows = make(group, arena)
            rows[me] = value(me)
            group.allgather(list(rows), rows[me])
            assert all((rows[rank] == value(rank)).all() for rank in range(3))
            group.reducescatter(rows[me], rows)
            for rank in range(3):
                assert (rows[rank] == value(rank) * (3 if rank == me else 1)).all()
            for root in range(3):
                rows[:] = np.stack([value(10 + rank) for rank in range(3)])
                given = rows if me == root else None
                group.scatter(rows[me], given, root)
                assert (rows[me] == value(10 + me)).all()
                group.gather(rows[me], given, root)
                assert all((rows[rank] == value(10 + rank)).all() for rank in range(3))

        on_all(three, body)

    def test_another_element(self, three: list[tutti.Group], arena: bool) -> None:
        def body(group: tutti.Group) -> None:
            me, other = group.rank, (group.rank + 1) % 3
            rows = make(group, arena)
            rows[other] = value(me)
            group.allgather(rows, rows[other])
            assert all((rows[rank] == value(rank)).all() for rank in range(3))
            group.reducescatter(rows[other], rows)
            assert (rows[other] == 3 * value(me)).all()

        on_all(three, body)

    def test_swapped_lists(self, three: list[tutti.Group], arena: bool) -> None:
        def body(group: tutti.Group) -> None:
            me = group.rank
            rows = make(group, arena)
            for rank in range(3):
                rows[rank] = value(10 * me + rank)
            group.alltoall(rows[::-1], list(rows))
            for rank in range(3):
                assert (rows[2 - rank] == value(10 * rank + me)).all()

        on_all(three, body)

    def test_inputs_twice(self, three: list[tutti.Group], arena: bool) -> None:
        def body(group: tutti.Group) -> None:
            array = make(group, arena)[0]
            array[:] = value(group.rank)
            group.reducescatter(array, [array] * 3)
            assert (array == total(3)).all()

        on_all(three, body)


def make(group: tutti.Group, arena: bool) -> Any:
    return group.client.zeros((3, 2, 3)) if arena else np.zeros((3, 2, 3))


class TestTorch:
    """PyTorch tensors, all dtypes."""

    @pytest.fixture(autouse=True)
    def torch(self) -> Any:
        self.t: Any = pytest.importorskip("torch", reason="PyTorch is not installed")

    @pytest.mark.parametrize("name", list(DTYPES))
    def test_every_dtype(self, three: list[tutti.Group], name: str) -> None:
        def tensor(rank: int) -> Any:
            return self.t.from_numpy(value(rank)).to(getattr(self.t, name))

        def body(group: tutti.Group) -> None:
            me = group.rank
            given = tensor(me)
            group.allreduce(given)
            summed = self.t.from_numpy(total(3)).to(given.dtype)
            assert self.t.equal(given, summed)
            outputs = [self.t.zeros_like(given) for _ in range(3)]
            group.allgather(outputs, tensor(me))
            assert all(self.t.equal(outputs[rank], tensor(rank)) for rank in range(3))
            group.reducescatter(given, self.t.stack(outputs).transpose(0, 1).transpose(0, 1))
            assert self.t.equal(given, (3 * tensor(me).double()).to(given.dtype))
            stacked = self.t.stack([tensor(me)] * 3)
            group.alltoall_single(stacked, stacked.clone())
            assert self.t.equal(stacked, self.t.stack(outputs))
            if me == 0:
                group.send(tensor(5), 1)
            elif me == 1:
                group.recv(given, 0)
                assert self.t.equal(given, tensor(5))

        on_all(three, body)

    def test_numpy_here_torch_there(self, three: list[tutti.Group]) -> None:
        def body(group: tutti.Group) -> None:
            array = value(group.rank)
            given = self.t.from_numpy(array) if group.rank else array
            group.allreduce(given)
            assert (np.asarray(given) == total(3)).all()

        on_all(three, body)

    def test_bfloat16_rounds_once(self, pair: list[tutti.Group]) -> None:
        def body(group: tutti.Group) -> None:
            given = self.t.tensor([1.0, 256.0, -3.5]).bfloat16()
            if group.rank:
                given = self.t.tensor([1 / 256, 1.0, 3.5]).bfloat16()
            group.allreduce(given)
            assert given.tolist() == [1.0, 256.0, 0.0]

        on_all(pair, body)


class TestWhatTheDaemonSees:
    """Spans: where tensors are used where they are, and what is staged."""

    def test_rows_of_an_arena_array(self, single: tutti.Group, daemon: FakeDaemon) -> None:
        base = single.client.zeros((4, 16), np.float32)
        single.allreduce(base)
        start = daemon.works[-1].inputs[0].offset
        single.allgather([base[1]], base[2])
        work = daemon.works[-1]
        assert (work.outputs[0].offset, work.inputs[0].offset) == (start + 64, start + 128)
        single.alltoall_single(base[:1], base[3:], [1], [1])
        work = daemon.works[-1]
        assert (work.outputs[0].offset, work.inputs[0].offset) == (start, start + 192)

    def test_sides_that_are_not_used(self, three: list[tutti.Group], daemon: FakeDaemon) -> None:
        def body(group: tutti.Group) -> None:
            array = np.zeros(3)
            root = group.rank == 0
            group.reduce(array)
            group.broadcast(array)
            group.gather(array, np.zeros((3, 3)) if root else None)
            group.scatter(array, np.zeros((3, 3)) if root else [])

        on_all(three, body)
        kinds: dict[int, list[tuple[int, int]]] = {}
        for work in daemon.works:
            kinds.setdefault(work.kind, []).append((len(work.inputs), len(work.outputs)))
        assert [sorted(sides) for _, sides in sorted(kinds.items())] == [
            [(1, 0), (1, 0), (1, 1)],
            [(0, 1), (0, 1), (1, 0)],
            [(1, 0), (1, 0), (1, 3)],
            [(0, 1), (0, 1), (3, 1)],
        ]

    def test_memory_is_given_back(self, three: list[tutti.Group]) -> None:
        def body(group: tutti.Group) -> None:
            for _ in range(30):
                group.allgather([np.zeros(10_000) for _ in range(3)], np.zeros(10_000))
                with pytest.raises(tutti.MismatchError):
                    group.allgather(np.zeros((3, 5 + group.rank)), np.zeros(5 + group.rank))

        on_all(three, body)
        assert three[0].client._pool.size_bytes == 4 << 20


def test_many_threads_and_groups_at_once(client: tutti.Client) -> None:
    """Two ranks in each of four groups, eight threads: collectives, and transfers both ways."""
    groups = [in_threads(2, lambda rank, n=n: client.join(f"group {n}", rank, 2)) for n in range(4)]

    def body(number: int) -> None:
        rank, lane = number % 2, number // 2
        if lane == 3:  # transfers of group 0, while its collectives go on
            group = groups[0][rank]
            for step in range(50):
                target = np.zeros(step)
                sent = group.send(np.full(step, 1.0 * rank + step), 1 - rank, async_op=True)
                group.recv(target, 1 - rank)
                sent.wait(10)
                assert (target == 1 - rank + step).all()
            return
        for step in range(20):
            works, arrays = [], []
            for group in (groups[lane][rank], groups[3][rank])[: 2 if lane == 0 else 1]:
                for _ in range(3):
                    arrays.append(np.full(step * 100, rank + step))
                    works.append(group.allreduce(arrays[-1], async_op=True))
            for work, array in zip(works, arrays, strict=True):
                work.wait(10)
                assert (array == 2 * step + 1).all()

    in_threads(8, body)


class TestInterrupted:
    """Ctrl-C while a work is being submitted: memory is given back once, and never too early."""

    def test_before_it_is_sent(self, single: tutti.Group, monkeypatch: pytest.MonkeyPatch) -> None:
        pool, lane = single.client._pool, single.client._lane
        freed = count_freed(pool, monkeypatch)

        def interrupted(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(lane, "submit", interrupted)
            with pytest.raises(KeyboardInterrupt):
                single.allgather([np.zeros(10)], np.zeros(10))
        assert len(freed) == 1
        single.barrier()

    def test_after_it_was_sent(
        self, single: tutti.Group, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pool, lane = single.client._pool, single.client._lane
        freed = count_freed(pool, monkeypatch)
        submit = lane.submit

        def interrupted(*given: Any) -> None:
            submit(*given)
            raise KeyboardInterrupt

        daemon.hold = True
        output = np.zeros(10)
        with monkeypatch.context() as patch:
            patch.setattr(lane, "submit", interrupted)
            with pytest.raises(KeyboardInterrupt):
                single.allgather([output], np.ones(10))
        assert not freed, "the daemon may still write it"
        daemon.release()
        single.barrier()
        assert len(freed) == 1
        assert (output == 1).all()


def count_freed(pool: Any, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    freed: list[Any] = []
    free = pool.free
    monkeypatch.setattr(pool, "free", lambda block: (freed.append(block), free(block)))
    return freed
