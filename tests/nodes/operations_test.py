"""Every operation over several nodes, with uneven numbers of ranks, against what NumPy says."""

from __future__ import annotations

import os
import random
from collections.abc import Callable

import pytest
import tutti
from actors import Actors
from conftest import Nodes

pytest.importorskip("torch", reason="PyTorch is not installed (TUTTI_TORCH=0)")

from random_steps import Steps

_STEPS = 40
# Of each rank, its node.
_PLACES = {
    "1+3": (0, 1, 1, 1),
    "2+2": (0, 0, 1, 1),
    "2+1+2": (0, 0, 1, 2, 2),
    "mixed": (1, 0, 1, 0),
}


def walk(rank: int, world_size: int, seed: int, folders: list[str], lane: str) -> None:
    os.environ["TUTTI_LANE"] = lane
    with (
        tutti.Client(socket_dir=folders[rank]) as client,
        client.join("walk", rank, world_size, timeout=60) as group,
    ):
        Steps(group, seed).take(_STEPS)


@pytest.mark.parametrize("lane", ["ring", "grpc"])
@pytest.mark.parametrize("place", _PLACES)
def test_random_operations_give_what_numpy_says(
    new_nodes: Callable[..., Nodes], place: str, lane: str
) -> None:
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")  # pytest shows it if the test fails
    where = _PLACES[place]
    nodes = new_nodes(max(where) + 1)
    folders = [str(nodes.nodes[node].socket_dir) for node in where]
    with Actors(len(where)) as actors:
        actors.all(walk, seed, folders, lane)
    for node in nodes.nodes:
        node.check_alive()
