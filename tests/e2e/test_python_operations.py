"""Every operation from Python, on every type, with tensors held in every way: random steps."""

from __future__ import annotations

import random

import pytest
import tutti
from actors import Actors
from daemon import DaemonProcess

pytest.importorskip("torch", reason="PyTorch is not installed (TUTTI_TORCH=0)")

from random_steps import Steps

_STEPS = 120

# Every test runs on both lanes.
pytestmark = pytest.mark.usefixtures("lane")


def walk(rank: int, world_size: int, seed: int) -> None:
    with tutti.Client() as client, client.join("walk", rank, world_size, timeout=60) as group:
        Steps(group, seed).take(_STEPS)


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
def test_random_operations_give_what_numpy_says(daemon: DaemonProcess, world_size: int) -> None:
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")  # pytest shows it if the test fails
    with Actors(world_size) as actors:
        actors.all(walk, seed)
    assert daemon.is_alive()
