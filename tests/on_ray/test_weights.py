"""Weights that a trainer sends: every receiver has them, by name, bit for bit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import ray
from ranks import all_of, error_of, start_all

import tutti
from tutti import strategies
from tutti.collective import init_collective_group

BUCKET_BYTES = 1 << 16


def weights_of(version: int) -> Iterator[tuple[str, Any]]:
    """Of one memory, which each of them overwrites: many small ones, of all sorts, and some that
    are larger than a bucket.
    """
    generator = np.random.default_rng(version)
    memory = tutti.empty(1 << 20, np.uint8)
    dtypes = ("float32", "float16", "int64", "uint8", "float64")
    for number in range(60):
        count = int(generator.integers(0, 3000)) if number % 20 else 50_001
        tensor = memory[: count * np.dtype(dtypes[number % 5]).itemsize].view(dtypes[number % 5])
        tensor[...] = generator.integers(0, 200, count)
        yield f"layer {number}/ü", tensor
    yield "columns", memory[:300_000].view(np.float32).reshape(-1, 3)[:, ::2]
    yield "few columns", memory[:300].view(np.float32).reshape(-1, 3)[:, ::2]
    yield "scalar", np.array(version)


def digest(weights: Iterator[tuple[str, Any]]) -> list[tuple[str, str, tuple[int, ...], str]]:
    return [
        (name, str(tensor.dtype), tensor.shape, hashlib.sha256(tensor.tobytes()).hexdigest())
        for name, tensor in weights
    ]


def transfer(actor: Any, rank: int, size: int, name: str, src: int) -> list[Any]:
    del actor
    init_collective_group(size, rank, group_name=name)
    digests = []
    for version in range(3):
        if rank == src:
            strategies.send_weights(weights_of(version), name, BUCKET_BYTES)
            digests.append(digest(weights_of(version)))
        else:
            digests.append(digest(strategies.receive_weights(src, name)))
    return digests


@pytest.mark.parametrize("src", [0, 2])
def test_all_have_them(crew: list[Any], name: str, src: int) -> None:
    digests = all_of(crew[:3], transfer, name, src)
    assert len(digests[src][0]) == 63
    assert digests[0] == digests[1] == digests[2]


def none_at_all(actor: Any, rank: int, size: int, name: str) -> list[Any]:
    del actor
    init_collective_group(size, rank, group_name=name)
    if rank == 0:
        strategies.send_weights([], name)
        return []
    return list(strategies.receive_weights(0, name))


def test_no_weights(crew: list[Any], name: str) -> None:
    assert all_of(crew[:2], none_at_all, name) == [[], []]


def torch_weights(actor: Any, rank: int, size: int, name: str) -> Any:
    """bfloat16, parameters that need gradients, and one that is transposed and large."""
    import torch

    del actor
    init_collective_group(size, rank, group_name=name)
    torch.manual_seed(rank)
    model = torch.nn.Sequential(torch.nn.Linear(7, 300), torch.nn.Linear(300, 2)).bfloat16()
    extra = torch.arange(30_000.0).reshape(100, 300).T
    if rank == 0:
        named = [*model.state_dict(keep_vars=True).items(), ("extra", extra)]
        strategies.send_weights(named, name, BUCKET_BYTES)
        return [model.state_dict(), extra]
    state = {key: tensor.clone() for key, tensor in strategies.receive_weights(0, name)}
    extra = state.pop("extra")
    model.load_state_dict(state)
    return [model.state_dict(), extra]


def test_of_a_torch_model(crew: list[Any], name: str) -> None:
    torch = pytest.importorskip("torch")
    (sent, extra), (got, got_extra) = all_of(crew[:2], torch_weights, name)
    assert list(sent) == list(got)
    assert all(torch.equal(sent[key], got[key]) for key in sent)
    assert torch.equal(extra, got_extra)


def failing(actor: Any, rank: int, size: int, name: str, kind: str) -> Any:
    def weights() -> Iterator[tuple[str, Any]]:
        yield "good", np.ones(BUCKET_BYTES, np.uint8)
        yield "one more", np.ones(10, np.uint8)
        if kind == "file":
            raise OSError("the checkpoint is torn")
        if kind == "group":
            raise tutti.RankLostError("another group has torn")
        yield "torn", np.array([{}]) if kind == "objects" else "no tensor"

    del actor
    init_collective_group(size, rank, group_name=name)
    if rank == 0:
        with pytest.raises((OSError, TypeError, AttributeError, tutti.RankLostError)):
            strategies.send_weights(weights(), name, BUCKET_BYTES)
        tutti.collective.barrier(name)
        return []
    got = []
    with pytest.raises(tutti.CollectiveError, match=r"rank 0 could not ") as caught:
        for key, _ in strategies.receive_weights(0, name):
            got.append(key)
    assert caught.value.culprits == (0,)
    tutti.collective.barrier(name)
    return got


@pytest.mark.parametrize("kind", ["file", "group", "objects", "text"])
def test_a_sender_that_fails_tells_the_others(crew: list[Any], name: str, kind: str) -> None:
    """And the group is as good as before."""
    results = all_of(crew[:3], failing, name, kind)
    assert results[1] == results[2] == ["good"]


def join(actor: Any, rank: int, size: int, name: str) -> None:
    del actor
    init_collective_group(size, rank, group_name=name)


def endless(actor: Any, rank: int, size: int, name: str) -> None:
    del actor, size
    if rank == 0:
        tensor = np.ones(BUCKET_BYTES, np.uint8)
        strategies.send_weights((("again", tensor) for _ in iter(int, 1)), name, BUCKET_BYTES)
    else:
        for _ in strategies.receive_weights(0, name):
            pass


@pytest.mark.parametrize("killed", [0, 1], ids=["sender", "receiver"])
def test_one_that_is_killed_is_named(new_ranks: Any, name: str, killed: int) -> None:
    actors = new_ranks(3)
    all_of(actors, join, name)
    running = start_all(actors, endless, name)
    # Most often in the middle; it has to be right wherever it comes.
    ray.wait(running, timeout=0.5)
    ray.kill(actors[killed])
    for rank in {0, 1, 2} - {killed}:
        error = error_of(running[rank])
        assert isinstance(error, tutti.RankLostError), error
        assert error.culprits == (killed,)
