"""What users build from it, whole: weights that go from a trainer to rollout actors, and training
that goes on when a worker dies.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import ray
from ranks import all_of, error_of, start_all

import tutti
from tutti import collective as ours

BUCKET_BYTES = 1 << 20


def sync_weights(actor: Any, rank: int, size: int, name: str, version: int) -> str:
    """The calls of a checkpoint engine: the group is made at the first time, and then kept. Buckets
    of bytes go out in turn from two buffers.
    """
    import torch
    from ray.util import collective as col

    if not col.is_group_initialized(name):
        col.init_collective_group(size, rank, backend="TUTTI", group_name=name)
    col.barrier(name)
    weights = actor.kept.setdefault("weights", torch.zeros(5 * BUCKET_BYTES // 8 + 3))
    if rank == 0:
        weights.copy_(torch.arange(len(weights)) * version)
    raw = weights.view(torch.uint8)
    buffers = [torch.empty(BUCKET_BYTES, dtype=torch.uint8) for _ in range(2)]
    for n, begin in enumerate(range(0, len(raw), BUCKET_BYTES)):
        bucket = raw[begin : begin + BUCKET_BYTES]
        buffer = buffers[n % 2][: len(bucket)]
        if rank == 0:
            buffer.copy_(bucket)
        col.broadcast(buffer, 0, name)
        if rank != 0:
            bucket.copy_(buffer)
    assert torch.equal(weights, torch.arange(len(weights)) * float(version))
    return str(weights.sum().item())


def test_weights_of_a_trainer_reach_rollout_actors(new_ranks: Any, name: str) -> None:
    pytest.importorskip("torch")
    actors = new_ranks(3)
    for version in (1, 2, 3):
        assert len(set(all_of(actors, sync_weights, name, version))) == 1

    def leave(actor: Any, rank: int, size: int) -> None:
        from ray.util import collective as col

        del actor, rank, size
        col.destroy_collective_group(name)

    # A rollout actor dies, another comes, and the group grows by one.
    ray.kill(actors.pop())
    all_of(actors, leave)
    actors += new_ranks(2)
    assert len(set(all_of(actors, sync_weights, name, 4))) == 1


# --- Least squares by gradient descent, each rank with its part of the data ---

FEATURES, ROWS, STEPS = 20, 600, 300
SHARDS = 3


def data() -> tuple[Any, Any]:
    generator = np.random.default_rng(7)
    inputs = generator.normal(size=(ROWS, FEATURES))
    return inputs, inputs @ np.arange(FEATURES) + generator.normal(size=ROWS)


def join(actor: Any, rank: int, size: int, name: str) -> int:
    """Of the step that the group goes on with: parameters are those of who has come furthest."""
    state = actor.kept.setdefault("state", {"step": 0, "parameters": tutti.zeros(FEATURES)})
    ours.init_collective_group(size, rank, group_name=name)
    steps = np.zeros(size, np.int64)
    ours.allgather(steps, np.array([state["step"]]), name)
    ours.broadcast(state["parameters"], int(steps.argmax()), name)
    state["step"] = int(steps.max())
    return int(state["step"])


def train(actor: Any, rank: int, size: int, name: str, until: int) -> Any:
    """Whoever is interrupted has done all of a step, or nothing of it."""
    state = actor.kept["state"]
    inputs, targets = (part[rank::size] for part in data())
    while state["step"] < until:
        gradient = tutti.from_numpy(inputs.T @ (inputs @ state["parameters"] - targets))
        ours.allreduce(gradient, name)
        state["parameters"] -= 0.001 * gradient
        state["step"] += 1
    return state["parameters"].copy()


def leave(actor: Any, rank: int, size: int, name: str) -> None:
    del actor, rank, size
    ours.destroy_collective_group(name)


@pytest.mark.parametrize("replaced", [True, False], ids=["replaced", "fewer"])
def test_training_goes_on_when_a_worker_dies(new_ranks: Any, name: str, replaced: bool) -> None:
    """And ends where it would have ended, with a replacement or without."""
    inputs, targets = data()
    wanted = np.zeros(FEATURES)
    for _ in range(STEPS):
        wanted -= 0.001 * (inputs.T @ (inputs @ wanted - targets))

    actors = new_ranks(SHARDS)
    all_of(actors, join, name)
    all_of(actors, train, name, STEPS // 3)
    running = start_all(actors, train, name, 1_000_000)
    victim = actors.pop(1)
    ray.kill(victim)
    for ref in (running[0], running[2]):
        error = error_of(ref)
        assert isinstance(error, tutti.RankLostError), error
        assert error.culprits == (1,)
    all_of(actors, leave, name)
    if replaced:
        actors += new_ranks(1)
    begun = all_of(actors, join, name)
    assert begun[0] >= STEPS // 3
    assert len(set(begun)) == 1
    results = all_of(actors, train, name, max(STEPS, begun[0] + 1))
    for parameters in results:
        assert np.array_equal(parameters, results[0])
        assert np.allclose(parameters, wanted, atol=1e-3)


def test_a_task_that_fails_leaves_nothing_in_the_way(cluster: None, name: str) -> None:
    """Another task may get its process, which is in the group still."""
    del cluster

    @ray.remote(num_cpus=0, max_retries=0)
    def task(rank: int, fails: bool) -> list[float]:
        ours.init_collective_group(2, rank, group_name=name, timeout=30)
        array = np.ones(2)
        ours.allreduce(array, name)
        if fails:
            raise KeyError("the user's own")
        ours.destroy_collective_group(name)
        return array.tolist()  # type: ignore[no-any-return]

    good, bad = task.remote(0, False), task.remote(1, True)
    assert isinstance(error_of(bad), KeyError)
    assert ray.get(good) == [2.0, 2.0]
    for _ in range(3):
        refs = [task.remote(rank, False) for rank in range(2)]
        assert ray.get(refs) == [[2.0, 2.0]] * 2
