"""ray.util.collective with backend="TUTTI": each function does what it says there, and what users
rely on besides.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest
import ray
from ranks import Rank, all_of, error_of, start_all

import tutti
import tutti.ray


def col() -> Any:
    """As actors import it."""
    from ray.util import collective

    return collective


def init(actor: Any, rank: int, size: int, name: str) -> None:
    del actor
    col().init_collective_group(size, rank, backend="TUTTI", group_name=name)


def destroy(actor: Any, rank: int, size: int, name: str) -> None:
    del actor, rank, size
    col().destroy_collective_group(name)


@pytest.fixture
def group(crew: list[Any], name: str) -> str:
    """Of all of the crew."""
    all_of(crew, init, name)
    return name


# --- Operations ---


def tensors(rank: int, kind: str, shape: tuple[int, ...] = (5,)) -> Any:
    array = np.full(shape, rank + 1, np.float32)
    if kind == "numpy":
        return array
    import torch

    return torch.from_numpy(array.copy())


KINDS = pytest.mark.parametrize("kind", ["numpy", "torch"])


def reduce_all(actor: Any, rank: int, size: int, name: str, kind: str) -> None:
    del actor
    ops = col().types.ReduceOp
    for op, want in ((ops.SUM, 10), (ops.PRODUCT, 24), (ops.MIN, 1), (ops.MAX, 4)):
        tensor = tensors(rank, kind)
        assert col().allreduce(tensor, name, op) is None
        assert (np.asarray(tensor) == want).all()
    for root in range(size):
        tensor = tensors(rank, kind)
        col().reduce(tensor, root, name)
        assert (np.asarray(tensor) == (10 if rank == root else rank + 1)).all()
        col().reduce(tensor, root, name, ops.MAX)
        assert (np.asarray(tensor).max() == 10) == (rank == root)
        tensor = tensors(rank, kind)
        col().broadcast(tensor, root, name)
        assert (np.asarray(tensor) == root + 1).all()
    col().barrier(name)


@KINDS
def test_reductions_and_broadcast(crew: list[Any], group: str, kind: str) -> None:
    all_of(crew, reduce_all, group, kind)


def use_lists(actor: Any, rank: int, size: int, name: str, kind: str) -> None:
    del actor
    outputs = [tensors(90, "torch" if n % 2 else kind) for n in range(size)]
    mine = tensors(rank, kind)
    col().allgather(outputs, mine, name)
    assert [float(output[0]) for output in outputs] == [1, 2, 3, 4]
    inputs = [tensors(rank + n, kind, (2, 3)) for n in range(size)]
    part = tensors(90, kind, (2, 3))
    col().reducescatter(part, inputs, name)
    assert (np.asarray(part) == 10 + 4 * rank).all()
    assert [float(each[0, 0]) for each in inputs] == [rank + n + 1 for n in range(size)]
    right, left = (rank + 1) % size, (rank - 1) % size
    got = tensors(90, kind)
    if rank % 2:
        col().recv(got, left, name)
        col().send(mine, right, name)
    else:
        col().send(mine, right, name)
        col().recv(got, left, name)
    assert (np.asarray(got) == left + 1).all()


@KINDS
def test_lists_that_mix_and_pairs(crew: list[Any], group: str, kind: str) -> None:
    all_of(crew, use_lists, group, kind)


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "float64", "int64"])
def test_types_and_sizes(crew: list[Any], group: str, dtype: str) -> None:
    def body(actor: Any, rank: int, size: int) -> None:
        del actor, size
        for count in (2, 1000, 2**20):
            array = np.full(count, rank + 1).astype(dtype)
            col().allreduce(array, group)
            assert (array == 10).all()

    all_of(crew, body)


def overwrite(actor: Any, array: Any, name: str) -> tuple[bool, float]:
    del actor
    readonly = not array.flags.writeable
    col().allreduce(array, name)
    return readonly, float(array[-1])


@pytest.mark.parametrize("count", [10, 1_000_000])
def test_what_ray_delivers_is_written_in_place(crew: list[Any], group: str, count: int) -> None:
    """Though it is marked read-only. Large ones lie in Ray's object store."""
    arrays = [np.full(count, rank + 1, np.float32) for rank in range(4)]
    done = [actor.take.remote(a, overwrite, group) for actor, a in zip(crew, arrays, strict=True)]
    assert ray.get(done) == [(True, 10.0)] * 4


# --- Errors of the caller, before anything is sent ---


def wrong_calls(actor: Any, rank: int, size: int, name: str) -> None:
    del actor
    array = np.zeros(5, np.float32)
    with pytest.raises(RuntimeError):
        col().allgather([array] * (size - 1), array, name)
    with pytest.raises(RuntimeError):
        col().allgather([np.zeros(4, np.float32)] * size, array, name)
    with pytest.raises(RuntimeError):
        col().reducescatter(array, [array] * (size + 1), name)
    with pytest.raises(RuntimeError):
        col().send(array, rank, name)
    with pytest.raises(ValueError, match="rank"):
        col().recv(array, size, name)
    with pytest.raises(RuntimeError):
        col().allreduce("no tensor", name)
    with pytest.raises(RuntimeError, match="GPU"):
        col().get_group_handle(name).allreduce([array, array])
    with pytest.raises(RuntimeError, match="not initialized"):
        col().allreduce(array, "no such group")
    col().barrier(name)


def test_wrong_calls_raise_on_every_rank_and_leave_the_group(crew: list[Any], group: str) -> None:
    all_of(crew, wrong_calls, group)


def test_ranks_that_disagree(crew: list[Any], group: str) -> None:
    """Where Ray's own backends hang or corrupt."""

    def body(actor: Any, rank: int, size: int) -> None:
        del actor, size
        with pytest.raises(tutti.MismatchError) as caught:
            col().allreduce(np.zeros(5 + rank // 3, np.float32), group)
        assert caught.value.culprits == (3,)
        col().barrier(group)

    all_of(crew, body)


# --- Groups ---


def test_facts(crew: list[Any], group: str) -> None:
    def body(actor: Any, rank: int, size: int) -> None:
        del actor
        assert col().is_group_initialized(group)
        assert (col().get_rank(group), col().get_collective_group_size(group)) == (rank, size)
        assert (col().get_rank("other"), col().get_collective_group_size("other")) == (-1, -1)
        with pytest.raises(RuntimeError, match="second time"):
            col().init_collective_group(size, rank, "TUTTI", group)
        handle = col().get_group_handle(group)
        assert (handle.rank, handle.world_size, handle.group_name) == (rank, size, group)
        assert handle.backend() == "TUTTI"
        assert col().is_backend_available("TUTTI")

    all_of(crew, body)


def test_destroy_is_local_and_the_name_is_free_at_once(crew: list[Any], group: str) -> None:
    """Also with the ranks reversed, and fewer of them."""

    def check(actor: Any, rank: int, size: int) -> int:
        del actor
        array = np.array([rank])
        col().broadcast(array, 0, group)
        assert col().get_rank(group) == rank
        outputs = [np.zeros(1, int) for _ in range(size)]
        col().allgather(outputs, np.array([rank]), group)
        return [int(output[0]) for output in outputs] == list(range(size))

    for actors in (crew, crew[::-1], crew[1:3]):
        all_of(crew, destroy, group)
        all_of(actors, init, group)
        assert all(all_of(actors, check))
    all_of(crew[1:3], destroy, group)
    with pytest.raises(RuntimeError, match="not initialized"):
        ray.get(crew[0].call.remote(check, 0, 4))


def test_one_rank_alone_destroys(crew: list[Any], group: str) -> None:
    """The others are told, by name; then all form it again."""

    def use(actor: Any, rank: int, size: int) -> None:
        del actor, rank, size
        col().allreduce(np.zeros(5), group)

    all_of(crew[:1], destroy, group)
    for ref in start_all(crew[1:], use):
        error = error_of(ref)
        assert isinstance(error, tutti.GroupClosedError), error
        assert error.culprits == (0,)
    all_of(crew[1:], destroy, group)
    all_of(crew, init, group)
    all_of(crew, use)


def test_groups_that_overlap_are_made_and_used_in_any_order(crew: list[Any], name: str) -> None:
    """Making one waits for nobody: so no order of two is wrong."""
    members = {"a": (0, 1), "b": (1, 2), "c": (2, 0), "all": (3, 2, 1, 0)}

    def body(actor: Any, rank: int, size: int) -> None:
        del actor
        mine = [group for group, ranks in members.items() if rank in ranks]
        for group in mine if rank % 2 else mine[::-1]:
            ranks = members[group]
            col().init_collective_group(len(ranks), ranks.index(rank), "TUTTI", name + group)
        for group in ("c", "all", "b", "a"):
            if group in mine:
                ranks = members[group]
                array = np.array([10.0**rank])
                col().allreduce(array, name + group)
                assert array[0] == sum(10.0**each for each in ranks)

    all_of(crew, body)


def test_a_group_that_is_destroyed_before_it_was_ready(crew: list[Any], name: str) -> None:
    """The seat is free at once, whatever the others have done meanwhile."""

    def give_up(actor: Any, rank: int, size: int) -> None:
        for _ in range(20):
            init(actor, rank, size, name)
            col().destroy_collective_group(name)

    all_of(crew[:1], lambda actor, rank, size: give_up(actor, 0, 2))
    all_of(crew[:2], init, name)
    all_of(crew[:2], lambda actor, rank, size: col().barrier(name))


@pytest.mark.parametrize("odd", ["123?34!", "a/b\n", "наш", "x" * 256])
def test_any_name(crew: list[Any], odd: str) -> None:
    all_of(crew[:2], init, odd)
    all_of(crew[:2], lambda actor, rank, size: col().barrier(odd))
    all_of(crew[:2], destroy, odd)


def test_ten_groups_of_one_pair(crew: list[Any], name: str) -> None:
    def body(actor: Any, rank: int, size: int) -> None:
        for n in range(10):
            init(actor, rank, size, f"{name}.{n}")
        for n in reversed(range(10)):
            array = np.full(3, float(n))
            col().allreduce(array, f"{name}.{n}")
            assert (array == 2 * n).all()

    all_of(crew[:2], body)


def test_world_size_one(crew: list[Any], name: str) -> None:
    def body(actor: Any, rank: int, size: int) -> None:
        init(actor, rank, size, name)
        array = np.arange(5.0)
        col().allreduce(array, name)
        col().broadcast(array, 0, name)
        col().barrier(name)
        assert (array == np.arange(5.0)).all()

    all_of(crew[:1], body)


def test_a_driver_makes_the_group(crew: list[Any], name: str) -> None:
    """Each actor joins when it first uses it, also by our own module."""
    tutti.ray.register()  # the hook is the workers'
    col().create_collective_group(crew[:3], 3, [2, 0, 1], backend="TUTTI", group_name=name)

    def body(actor: Any, rank: int, size: int) -> None:
        from tutti import collective

        del actor
        want = [2, 0, 1][rank]
        rows = np.zeros((size, 1))
        collective.allgather(rows, np.array([float(want)]), name)
        assert rows.ravel().tolist() == [0, 1, 2]
        assert col().get_rank(name) == want
        col().barrier(name)

    all_of(crew[:3], body)


def test_tasks_are_ranks_as_well(cluster: None, name: str) -> None:
    del cluster

    @ray.remote(num_cpus=0)
    def task(rank: int) -> float:
        init(None, rank, 3, name)
        array = np.array([rank + 1.0])
        col().allreduce(array, name)
        col().destroy_collective_group(name)
        return float(array[0])

    for _ in range(2):
        assert ray.get([task.remote(rank) for rank in range(3)]) == [6.0] * 3


def test_our_module_has_the_same_group(crew: list[Any], group: str) -> None:
    """And what Ray's lacks."""

    def body(actor: Any, rank: int, size: int) -> None:
        import torch

        from tutti import collective as ours

        del actor
        rows = np.zeros((size, 3)) if rank == 1 else None
        ours.gather(np.full(3, float(rank)), rows, 1, group)
        assert rows is None or rows[:, 0].tolist() == [0, 1, 2, 3]
        half = torch.full((7,), rank + 1.0, dtype=torch.bfloat16)
        ours.allreduce(half, group, ours.ReduceOp.AVG)
        assert half.tolist() == [2.5] * 7
        work = ours.allreduce(np.zeros(3), group, async_op=True)
        work.wait(10)
        assert ours.agree(True, group)
        assert not ours.agree(rank != 2, group)
        with pytest.raises(RuntimeError, match="already initialized"):
            ours.init_collective_group(size, rank, group_name=group)

    all_of(crew, body)


# --- Death ---


def test_survivors_are_told_who_has_died_and_go_on_with_another(
    new_ranks: Any, name: str
) -> None:
    actors = new_ranks(3)
    all_of(actors, init, name)

    def use(actor: Any, rank: int, size: int) -> float:
        del actor, size
        array = np.full(1000, rank + 1.0)
        col().allreduce(array, name)
        return float(array[0])

    all_of(actors, use)
    started = start_all(actors[:2], use)
    ray.kill(actors[2])
    for ref in started:
        error = error_of(ref)
        assert isinstance(error, tutti.RankLostError), error
        assert error.culprits == (2,)
    all_of(actors[:2], destroy, name)
    again = [*actors[:2], *new_ranks(1)]
    all_of(again, init, name)
    assert all_of(again, use) == [6.0] * 3
    # And without: two go on.
    ray.kill(again[2])
    all_of(actors[:2], destroy, name)
    all_of(actors[:2], init, name)
    assert all_of(actors[:2], use) == [3.0] * 2


def test_an_actor_that_ray_restarts_takes_its_seat_again(new_ranks: Any, name: str) -> None:
    actors = new_ranks(2, max_restarts=1)
    all_of(actors, init, name)

    def crash(actor: Any) -> None:
        del actor
        ctypes.string_at(0)

    ray.get(actors[0].pid.remote())
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(actors[1].call.remote(crash))

    def use(actor: Any, rank: int, size: int) -> None:
        del actor, rank, size
        col().barrier(name)

    error = error_of(actors[0].call.remote(use, 0, 2))
    assert isinstance(error, tutti.RankLostError)
    assert error.culprits == (1,)
    all_of(actors[:1], destroy, name)
    ray.get(actors[1].pid.options(max_task_retries=-1).remote())  # it has been restarted
    all_of(actors, init, name)
    all_of(actors, use)


def test_too_old_a_ray_is_said_to_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    import tutti.ray

    monkeypatch.setattr(ray, "__file__", str(tmp_path / "__init__.py"))
    with pytest.raises(RuntimeError, match="2.56"):
        tutti.ray.register()


def test_registering_twice(crew: list[Any]) -> None:
    def body(actor: Any, rank: int, size: int) -> None:
        del actor, rank, size
        import tutti.ray

        tutti.ray.register()
        assert col().is_backend_available("TUTTI")
        tutti.ray.register()

    all_of(crew[:1], body)
    body(None, 0, 0)


def test_the_hook_imports_nothing_large(cluster: None) -> None:
    """A worker that does not use collectives does not wait for PyTorch."""
    del cluster

    def loaded(actor: Any) -> list[str]:
        import sys

        del actor
        return [name for name in ("torch", "ray.util.collective") if name in sys.modules]

    assert ray.get(Rank.remote().call.remote(loaded)) == []
