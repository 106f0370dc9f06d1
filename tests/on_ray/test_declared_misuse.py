"""What users do with declared groups that was not meant, or goes wrong: the error comes at once, to
the right ranks, and the group goes on where it can.
"""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import ray
from ranks import error_of

import tutti
import tutti.ray

# Where something would wait for a deadline of 5 minutes.
SOON_S = 40.0


@ray.remote(num_cpus=0)
class Actor:
    """Tensors of all sorts."""

    def __init__(self, rank: int) -> None:
        self.rank = rank

    @tutti.ray.method
    def new(self, value: float = 1.0) -> Any:
        """A good one."""
        return np.full(4, value, np.float32)

    @tutti.ray.method
    def same_twice(self) -> Any:
        """Two results in one place."""
        tensor = np.ones(4, np.float32)
        return [tensor, tensor]

    @tutti.ray.method
    def many(self) -> Any:
        """More than one operation takes."""
        return [np.ones(1, np.float32) for _ in range(1025)]

    @tutti.ray.method
    def expanded(self) -> Any:
        """Four elements in the place of one."""
        return np.lib.stride_tricks.as_strided(np.ones(1, np.float32), (4,), (0,))

    @tutti.ray.method
    def argument(self, array: Any) -> Any:
        """What Ray has delivered."""
        return array

    def fail(self, kind: str) -> Any:
        """Raises what can't be shown."""

        class Rude(Exception):
            def __repr__(self) -> str:
                raise ValueError("no")

        raise Rude if kind == "repr" else tutti.CollectiveError("\n\nlate news")

    def values(self, tensor: Any) -> Any:
        """As a method of the user sees what it is given."""
        return tensor.tolist() if isinstance(tensor, np.ndarray) else repr(tensor)

    def seats(self) -> int:
        """In how many declared groups it is."""
        from tutti.ray import _member

        return len(_member._members)

    def busy(self, seconds: float) -> None:
        """Does nothing else meanwhile."""
        threading.Event().wait(seconds)


@ray.remote(num_cpus=0)
class AsyncActor:
    async def ping(self) -> str:
        return "pong"


@pytest.fixture(scope="module")
def pair(cluster: None) -> list[Any]:
    del cluster
    return [Actor.remote(rank) for rank in range(2)]


@pytest.fixture
def group(pair: list[Any], name: str) -> Iterator[tutti.ray.DeclaredGroup]:
    made = tutti.ray.create_group(pair, name, timeout=60)
    yield made
    made.destroy()


def values(refs: Any) -> list[Any]:
    return [tensor.tolist() for tensor in tutti.ray.get(refs)]


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize("wrong", ["same_twice", "many", "expanded"])
def test_tensors_that_cannot_hold_results(pair: list[Any], wrong: str) -> None:
    """That rank's error, which the other is told; the group goes on."""
    results = tutti.ray.allreduce_refs([getattr(pair[0], wrong).remote(), pair[1].new.remote()])
    assert isinstance(error_of(results[0]), ValueError)
    error = error_of(results[1])
    assert isinstance(error, tutti.InvalidError)
    assert error.culprits == (0,)
    summed = tutti.ray.allreduce_refs([actor.new.remote() for actor in pair])
    assert values(summed) == [[2.0] * 4] * 2


@pytest.mark.usefixtures("group")
def test_tensors_that_need_not_hold_results(pair: list[Any]) -> None:
    reduced = tutti.ray.reduce_refs([pair[0].new.remote(2.0), pair[1].expanded.remote()], 0)
    copied = tutti.ray.broadcast_refs([pair[0].expanded.remote(), pair[1].new.remote(5.0)], 0)
    assert values([reduced, copied[1]]) == [[3.0] * 4, [1.0] * 4]


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize(("kind", "says"), [("repr", "Rude"), ("newline", "late news")])
def test_errors_that_are_hard_to_show(pair: list[Any], kind: str, says: str) -> None:
    results = tutti.ray.allreduce_refs([pair[0].fail.remote(kind), pair[1].new.remote()])
    error = error_of(results[1])
    assert isinstance(error, tutti.InvalidError)
    assert says in str(error)


def test_refs_that_are_none_or_too_many(pair: list[Any], group: Any) -> None:
    ref = pair[0].new.remote()
    with pytest.raises(TypeError, match="not NoneType"):
        tutti.ray.allreduce_refs([ref, None], group=group)
    with pytest.raises(TypeError, match="not list"):
        tutti.ray.scatter_refs([ref, ref], group=group)


@pytest.mark.usefixtures("group")
def test_what_others_read_in_the_object_store_is_not_written(pair: list[Any]) -> None:
    """Also if a method returns what Ray has delivered to it."""
    shared = ray.put(np.ones(100_000, np.float32))
    for _ in range(2):
        refs = tutti.ray.allreduce_refs([actor.argument.remote(shared) for actor in pair])
        assert [array[0] for array in tutti.ray.get(refs)] == [2.0, 2.0]
    assert ray.get(shared).max() == 1.0


def test_buffers_of_an_actors_former_life(cluster: None, name: str) -> None:
    """Are nobody's: not a tensor of its new life that has come after as many."""
    del cluster
    one, other = Actor.options(max_restarts=1).remote(0), Actor.remote(1)
    group = tutti.ray.create_group([one, other], name, timeout=60)
    old = one.new.remote(111.0)
    ray.get(old)
    ray.kill(one, no_restart=False)
    group.reform()
    new = one.new.remote(222.0)
    assert values([new]) == [[222.0] * 4]
    assert "Buffer in actor" in ray.get(one.values.remote(old))
    with pytest.raises(tutti.InvalidError, match="is gone"):
        tutti.ray.get(old)
    error = error_of(tutti.ray.allreduce_refs([old, other.new.remote()], group=group)[0])
    assert isinstance(error, tutti.InvalidError)
    assert "restarted" in str(error)
    assert values([new]) == [[222.0] * 4]


def test_results_outlive_the_group(pair: list[Any], name: str) -> None:
    group = tutti.ray.create_group(pair, name, timeout=60)
    results = tutti.ray.allreduce_refs([actor.new.remote() for actor in pair], group=group)
    group.destroy()
    assert values(results) == [[2.0] * 4] * 2
    # Nor does a tensor need one, nor the driver.
    get = ray.remote(num_cpus=0)(lambda refs: [array.tolist() for array in tutti.ray.get(refs)])
    assert ray.get(get.remote([pair[0].new.remote(5.0)])) == [[5.0] * 4]


def test_a_handle_of_a_group_that_was_made_again(pair: list[Any], name: str) -> None:
    old = tutti.ray.create_group(pair, name, timeout=60)
    refs = tutti.ray.allreduce_refs([actor.new.remote() for actor in pair], group=old)
    new = tutti.ray.create_group(pair, name, timeout=60)
    assert tutti.ray.get_group(name) is new
    assert values(refs) == [[2.0] * 4] * 2
    late = tutti.ray.allreduce_refs([actor.new.remote() for actor in pair], group=old)
    for ref in late:
        error = error_of(ref)
        assert isinstance(error, tutti.GroupClosedError)
        assert "made again" in str(error)
    old.destroy()
    assert tutti.ray.get_group(name) is new
    tutti.ray.barrier(new)
    new.destroy()
    with pytest.raises(ValueError, match="no group"):
        tutti.ray.get_group(name)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"timeout": -1}, "timeout"),
        ({"work_timeout": "x"}, "work_timeout"),
        ({"actors": [1]}, "not int"),
    ],
)
def test_wrong_arguments_are_refused_here(
    pair: list[Any], wrong: dict[str, Any], says: str
) -> None:
    arguments = {"actors": pair, **wrong}
    with pytest.raises((TypeError, ValueError), match=says):
        tutti.ray.create_group(**arguments)


def test_a_group_cannot_be_passed_on(group: Any) -> None:
    with pytest.raises(TypeError, match="belongs to the driver"):
        pickle.dumps(group)


def test_those_who_are_left_out_have_no_seat(cluster: None, name: str) -> None:
    del cluster
    actors = [Actor.remote(rank) for rank in range(3)]
    group = tutti.ray.create_group(actors, name, timeout=60)
    group.reform(actors[:2])
    assert ray.get([actor.seats.remote() for actor in actors]) == [1, 1, 0]
    group.destroy()
    assert ray.get([actor.seats.remote() for actor in actors]) == [0, 0, 0]


def test_a_task_keeps_nothing(cluster: None) -> None:
    del cluster
    task = ray.remote(num_cpus=0)(tutti.ray.method(lambda: np.ones(3)))
    assert "methods of actors" in str(error_of(task.remote()))


def test_destroy_lets_what_was_stated_take_place(cluster: None, name: str) -> None:
    """In actors with threads, too."""
    del cluster
    pair = [Actor.options(max_concurrency=4).remote(rank) for rank in range(2)]
    for n in range(5):
        group = tutti.ray.create_group(pair, f"{name} {n}", timeout=60)
        results = [
            ref
            for _ in range(10)
            for ref in tutti.ray.allreduce_refs([a.new.remote() for a in pair], group=group)
        ]
        group.destroy()
        assert values(results) == [[2.0] * 4] * 20


def test_asynchronous_actors_are_refused(pair: list[Any], name: str) -> None:
    """Of such, no order of operations can be promised."""
    with pytest.raises(tutti.InvalidError, match=r"ranks \[1\] .* asynchronous .*to_thread"):
        tutti.ray.create_group([pair[0], AsyncActor.remote()], name)


def test_an_actor_that_dies_while_the_group_is_made(cluster: None, name: str) -> None:
    """Nobody waits for it, and the others are free again."""
    del cluster
    actors = [Actor.remote(rank) for rank in range(3)]
    ray.get([actor.values.remote(0) for actor in actors])
    began = time.monotonic()
    # It is located, and then busy until it is killed.
    threading.Timer(3.0, ray.kill, [actors[1]]).start()
    original = tutti.ray._declared._check_places

    def check_places(*arguments: Any) -> None:
        original(*arguments)
        actors[1].busy.remote(600)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tutti.ray._declared, "_check_places", check_places)
        with pytest.raises(tutti.RankLostError) as caught:
            tutti.ray.create_group(actors, name)
    assert caught.value.culprits == (1,)
    group = tutti.ray.create_group([actors[0], actors[2]], name, timeout=60)
    assert time.monotonic() - began < SOON_S
    group.destroy()


def test_actors_of_several_namespaces(pair: list[Any], name: str) -> None:
    """Such as detached actors of another job."""
    environment = {"env_vars": {"TUTTI_NAMESPACE": "elsewhere"}}
    other = Actor.options(runtime_env=environment).remote(2)
    with pytest.raises(tutti.InvalidError, match="different jobs.*rank 1 in elsewhere"):
        tutti.ray.create_group([pair[0], other], name)


def test_decorators_of_ray() -> None:
    """On either side."""

    class Two:
        @ray.method(num_returns=1)
        @tutti.ray.method
        def outside(self) -> Any:
            return np.ones(2)

        @tutti.ray.method
        @ray.method(concurrency_group="io")
        def inside(self, first: int, second: int = 2) -> Any:
            return np.full(first, second)

    actor = ray.remote(num_cpus=0, concurrency_groups={"io": 1})(Two).remote()
    assert values([actor.outside.remote(), actor.inside.remote(1)]) == [[1.0, 1.0], [2]]
    with pytest.raises(TypeError, match="one ref"):
        tutti.ray.method(ray.method(num_returns=2)(lambda self: self))
