"""Groups that the driver declares, and operations that it states: tutti.ray.*_refs."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import ray
from ranks import error_of

import tutti
import tutti.ray


@ray.remote(num_cpus=0)
class Actor:
    """Some tensors, and who has seen them."""

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.tensor = np.full(6, rank + 1.0, np.float32)

    @tutti.ray.method
    def own(self) -> Any:
        """Stays here."""
        return self.tensor

    @tutti.ray.method
    def new(self, value: float, count: int = 6) -> Any:
        """Stays here as well, but is nobody's."""
        return np.full(count, value, np.float32)

    def plain(self, value: float, count: int = 6) -> Any:
        """Through the object store."""
        return np.full(count, value, np.float32)

    @tutti.ray.method
    def parts(self, count: int) -> Any:
        """A list, part n of which is 10 * rank + n."""
        return [np.full(3, 10 * self.rank + n, np.int32) for n in range(count)]

    @tutti.ray.method
    def half(self) -> Any:
        """NumPy has no such dtype."""
        import torch

        return torch.full((2, 3), self.rank + 1.0, dtype=torch.bfloat16)

    def fail(self) -> Any:
        """No tensor at all."""
        raise KeyError("nothing here, " + "наш " * 2000)

    @tutti.ray.method
    def wrong(self) -> Any:
        """Neither."""
        return "no tensor"

    def is_own(self, tensor: Any) -> bool:
        """Whether it is the very tensor."""
        return tensor is self.tensor

    def values(self, tensor: Any) -> Any:
        """As a method of the user sees what it is given."""
        return tensor.tolist() if isinstance(tensor, np.ndarray) else repr(tensor)

    def kept(self) -> int:
        """How many tensors are kept for others."""
        from tutti.ray import _buffers

        return len(_buffers._kept)

    def slow(self, seconds: float) -> None:
        """Is busy."""
        time.sleep(seconds)


@pytest.fixture(scope="module")
def actors(cluster: None) -> list[Any]:
    del cluster
    return [Actor.remote(rank) for rank in range(3)]


@pytest.fixture
def group(actors: list[Any], name: str) -> Iterator[tutti.ray.DeclaredGroup]:
    made = tutti.ray.create_group(actors, name, timeout=60)
    yield made
    made.destroy()


def first(refs: Any) -> list[float]:
    return [float(np.asarray(tensor).ravel()[0]) for tensor in tutti.ray.get(refs)]


@pytest.mark.usefixtures("group")
def test_the_promise_of_the_talk(actors: list[Any]) -> None:
    """In place, and nothing of it in the object store."""
    refs = tutti.ray.allreduce_refs([actor.own.remote() for actor in actors])
    pairs = zip(actors, refs, strict=True)
    assert ray.get([actor.is_own.remote(ref) for actor, ref in pairs]) == [True] * 3
    total = first(refs)
    assert total == [total[0]] * 3
    assert isinstance(ray.get(refs[0]), tutti.ray.Buffer)
    assert "float32, shape (6,)" in repr(ray.get(refs[0]))
    assert "Buffer in actor" in ray.get(actors[1].values.remote(refs[0]))


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize("kind", ["new", "plain"])
def test_every_operation(actors: list[Any], kind: str) -> None:
    def each() -> list[Any]:
        return [getattr(actor, kind).remote(n + 1.0) for n, actor in enumerate(actors)]

    t = tutti.ray
    assert first(t.allreduce_refs(each())) == [6.0] * 3
    assert first(t.allreduce_refs(each(), tutti.ReduceOp.AVG)) == [2.0] * 3
    assert first(t.allreduce_refs(each()[::-1])) == [6.0] * 3
    assert first([t.reduce_refs(each(), 1, tutti.ReduceOp.MAX)]) == [3.0]
    assert first(t.broadcast_refs(each(), 2)) == [3.0] * 3
    assert first(t.broadcast_refs(each()[1], 1)) == [2.0] * 3
    for rows in tutti.ray.get(t.allgather_refs(each())):
        assert rows.shape == (3, 6)
        assert rows[:, 5].tolist() == [1, 2, 3]
    assert t.get(t.gather_refs(each(), 2))[:, 0].tolist() == [1, 2, 3]
    assert first([t.send_ref(each()[0], 2)]) == [1.0]


@pytest.mark.usefixtures("group")
def test_lists_of_parts(actors: list[Any]) -> None:
    t = tutti.ray

    def each() -> list[Any]:
        return [actor.parts.remote(3) for actor in actors]

    assert first(t.scatter_refs(actors[2].parts.remote(3), 2)) == [20, 21, 22]
    assert first(t.reducescatter_refs(each())) == [30, 33, 36]
    assert [rows[:, 0].tolist() for rows in t.get(t.alltoall_refs(each()))] == [
        [0, 10, 20], [1, 11, 21], [2, 12, 22]
    ]
    coalesced = t.get(t.allreduce_refs(each()))
    assert [[int(part[0]) for part in parts] for parts in coalesced] == [[30, 33, 36]] * 3
    # Rows of one tensor do as well: results are such.
    rows = t.alltoall_refs(each())
    assert first(t.scatter_refs(rows[1], 1)) == [1, 11, 21]
    assert first(t.reducescatter_refs(rows)) == [3, 33, 63]


@pytest.mark.usefixtures("group")
def test_torch(actors: list[Any]) -> None:
    summed = tutti.ray.allreduce_refs([actor.half.remote() for actor in actors])
    gathered = tutti.ray.allgather_refs([actor.half.remote() for actor in actors])
    (copied,) = tutti.ray.get([tutti.ray.broadcast_refs(actors[0].half.remote())[2]])
    assert (str(copied.dtype), copied.shape) == ("torch.bfloat16", (2, 3))
    assert tutti.ray.get(summed[1]).flatten().tolist() == [6.0] * 6
    assert tutti.ray.get(gathered[1])[:, 0, 0].tolist() == [1, 2, 3]


@pytest.mark.usefixtures("group")
def test_what_is_in_the_object_store_stays_what_it_is(actors: list[Any]) -> None:
    """Others may read it."""
    refs = [actor.plain.remote(n + 1.0, 1_000_000) for n, actor in enumerate(actors)]
    assert first(tutti.ray.allreduce_refs(refs)) == [6.0] * 3
    assert [float(array[0]) for array in ray.get(refs)] == [1.0, 2.0, 3.0]
    # Nor need it come from the actors: then the order is that of the ranks.
    put = [ray.put(np.full(4, 10.0**n)) for n in range(3)]
    with pytest.raises(ValueError, match="group="):
        tutti.ray.allreduce_refs(put)


def test_refs_from_elsewhere(group: tutti.ray.DeclaredGroup) -> None:
    put = [ray.put(np.full(4, 10.0**n)) for n in range(3)]
    assert first(tutti.ray.allreduce_refs(put, group=group)) == [111.0] * 3
    with pytest.raises(ValueError, match="one ref of each rank"):
        tutti.ray.allreduce_refs(put[:2], group=group)
    with pytest.raises(ValueError, match="say src_rank"):
        tutti.ray.send_ref(put[0], 1, group=group)
    assert first([tutti.ray.send_ref(put[2], 1, 2, group=group)]) == [100.0]
    with pytest.raises(TypeError, match="remote"):
        tutti.ray.allreduce_refs([np.zeros(3)] * 3)


@pytest.mark.skipif(ray.__version__.startswith("2.56."), reason="Ray 2.56 does not tell")
@pytest.mark.usefixtures("group")
def test_what_nobody_refers_to_is_let_go(actors: list[Any]) -> None:
    def kept() -> list[int]:
        return ray.get([actor.kept.remote() for actor in actors])

    def await_kept(wanted: int) -> None:
        deadline = time.monotonic() + 20
        while any(count != wanted for count in kept()):
            assert time.monotonic() < deadline, kept()
            time.sleep(0.05)

    await_kept(0)
    refs = [actor.new.remote(1.0, 1000) for actor in actors]
    await_kept(1)
    results = tutti.ray.allreduce_refs(refs)
    ray.get(results)
    del refs
    await_kept(1)  # the results'
    assert first(results) == [3.0] * 3
    del results
    await_kept(0)


@pytest.mark.usefixtures("group")
def test_an_actor_that_has_no_tensor(actors: list[Any], group: tutti.ray.DeclaredGroup) -> None:
    """It raises what it has raised; nobody waits for it, and the group goes on."""
    for method, says in (("fail", "KeyError"), ("wrong", "TypeError")):
        refs = [actors[0].own.remote(), getattr(actors[1], method).remote(), actors[2].own.remote()]
        started = time.monotonic()
        results = tutti.ray.allreduce_refs(refs)
        for rank in (0, 2):
            error = error_of(results[rank])
            assert isinstance(error, tutti.InvalidError), error
            assert says in str(error)
            assert error.culprits == (1,)
        assert type(error_of(results[1])).__name__ == says
        assert time.monotonic() - started < 20
    assert isinstance(error_of(tutti.ray.send_ref(actors[1].fail.remote(), 0)), tutti.InvalidError)
    # What the operation itself would refuse, when the others have begun it.
    one, *others = actors
    for wrong in (
        tutti.ray.reducescatter_refs([a.parts.remote(3 - n // 2) for n, a in enumerate(actors)]),
        tutti.ray.allgather_refs([one.own.remote(), *(a.parts.remote(3) for a in others)]),
    ):
        errors = [error_of(ref) for ref in wrong]
        assert isinstance(errors[0], tutti.InvalidError)
        assert isinstance(errors[2], tutti.ArgumentError)
    lengths = [actor.new.remote(1, 5 + rank // 2) for rank, actor in enumerate(actors)]
    results = tutti.ray.allreduce_refs(lengths)
    assert all(isinstance(error_of(ref), tutti.MismatchError) for ref in results)
    tutti.ray.barrier(group)


def test_any_order_of_one_driver(actors: list[Any], name: str) -> None:
    """Overlapping groups, operations and sends at random: no order is wrong."""
    chosen = random.Random(seed := random.randrange(2**32))
    print(f"seed {seed}")
    members = {"ab": (0, 1), "bc": (1, 2), "ca": (2, 0), "abc": (0, 1, 2)}
    groups = {
        key: tutti.ray.create_group([actors[n] for n in ranks], name + key, timeout=60)
        for key, ranks in members.items()
    }
    results, wanted = [], []
    for _ in range(60):
        key = chosen.choice(list(members))
        ranks = list(members[key])
        refs = [actors[n].new.remote(n + 1.0) for n in ranks]
        if chosen.random() < 0.5:
            results += tutti.ray.allreduce_refs(refs, group=groups[key])
            wanted += [sum(n + 1.0 for n in ranks)] * len(ranks)
        else:
            a, b = chosen.sample(range(len(ranks)), 2)
            results.append(tutti.ray.send_ref(refs[a], b, group=groups[key]))
            wanted.append(ranks[a] + 1.0)
    assert first(results) == wanted
    with pytest.raises(ValueError, match="several groups"):
        tutti.ray.allreduce_refs([actor.own.remote() for actor in actors[:2]])
    for group in groups.values():
        group.destroy()


@pytest.mark.parametrize("options", [{"max_concurrency": 4}], ids=["threads"])
def test_actors_with_threads(cluster: None, options: dict[str, Any]) -> None:
    del cluster
    actors = [Actor.options(**options).remote(rank) for rank in range(2)]
    group = tutti.ray.create_group(actors, timeout=60)
    results = [
        ref
        for _ in range(20)
        for ref in tutti.ray.allreduce_refs([actor.new.remote(1.0) for actor in actors])
    ]
    assert first(results) == [2.0] * 40
    group.destroy()


# --- Groups ---


def test_an_actor_dies_and_ray_restarts_it(cluster: None, name: str) -> None:
    del cluster
    actors = [Actor.options(max_restarts=1).remote(rank) for rank in range(3)]
    group = tutti.ray.create_group(actors, name, timeout=60)

    def step() -> list[Any]:
        return tutti.ray.allreduce_refs([actor.own.remote() for actor in actors], group=group)

    ray.get(step())
    ray.kill(actors[1], no_restart=False)
    for rank in (0, 2):
        error = error_of(step()[rank])
        assert isinstance(error, tutti.CollectiveError)
        assert error.culprits == (1,)
    group.reform()
    assert len(ray.get(step())) == 3
    # Now it is gone for good: the others go on without.
    ray.kill(actors[1])
    with pytest.raises(tutti.RankLostError) as caught:
        group.reform()
    assert caught.value.culprits == (1,)
    del actors[1]
    group.reform(actors)
    assert len(ray.get(step())) == 2
    assert group.world_size == 2


def test_making_one_is_bounded(actors: list[Any], name: str, monkeypatch: Any) -> None:
    monkeypatch.setattr("tutti.ray._declared._GRACE_S", 1.0)
    busy = actors[1].slow.remote(8)
    with pytest.raises(tutti.DeadlineError) as caught:
        tutti.ray.create_group(actors, name, timeout=1)
    assert caught.value.missing == (1,)
    ray.get(busy)
    tutti.ray.create_group(actors, name, timeout=60).destroy()


def test_the_same_name_again(actors: list[Any], name: str) -> None:
    tutti.ray.create_group(actors, name, timeout=60)
    again = tutti.ray.create_group(actors[::-1], name, timeout=60)
    rows = tutti.ray.allgather_refs([actor.new.remote(n) for n, actor in enumerate(actors)])
    assert tutti.ray.get(rows[0])[:, 0].tolist() == [2, 1, 0]
    again.destroy()
    late = tutti.ray.allreduce_refs([actor.own.remote() for actor in actors], group=again)
    assert all(isinstance(error_of(ref), tutti.GroupClosedError) for ref in late)


@pytest.mark.parametrize("wrong", [[], [0, 0]])
def test_wrong_actors(actors: list[Any], wrong: list[int]) -> None:
    with pytest.raises(ValueError, match="one actor at least"):
        tutti.ray.create_group([actors[n] for n in wrong])
