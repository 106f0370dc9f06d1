"""Fixtures of the tests in Ray: real clusters. The daemons come up by themselves, from TUTTID."""

from __future__ import annotations

import itertools
import os
import pathlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "harness"))

# Ray would open a port to the world, and ask for tokens of its own.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
from ranks import Rank, all_of

_FOLDER = str(pathlib.Path(__file__).parent)
HOOK = "tutti.ray.register"
_names = itertools.count(1)


def pytest_configure() -> None:
    if "TUTTID" not in os.environ:
        raise pytest.UsageError("set TUTTID to what Bazel has built")
    # The daemons of Ray's nodes are meant here, and no other.
    os.environ.pop("TUTTI_SOCKET_DIR", None)
    os.environ.pop("TUTTI_NAMESPACE", None)


def start_ray(**options: Any) -> None:
    """A driver of a cluster, as a user would have it; of a new one, unless an address is given."""
    options.setdefault("address", "local")
    ray.init(
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={
            "worker_process_setup_hook": HOOK,
            "env_vars": {
                "TUTTID": os.environ["TUTTID"],
                # Where workers find the functions of tests.
                "PYTHONPATH": os.pathsep.join([_FOLDER, os.environ.get("PYTHONPATH", "")]),
            },
        },
        **options,
    )


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """One node."""
    start_ray(num_cpus=8)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def crew(cluster: None) -> list[Any]:
    """Four actors that the tests of a module share, and leave alive."""
    del cluster
    actors = [Rank.remote() for _ in range(4)]
    all_of(actors, lambda *_: None)
    return actors


@pytest.fixture
def name() -> str:
    """Of a group that no other test has."""
    return f"group {next(_names)}"


@pytest.fixture
def new_ranks(cluster: None) -> Iterator[Callable[..., list[Any]]]:
    """Makes actors that a test may kill."""
    del cluster
    made: list[Any] = []

    def make(count: int, **options: Any) -> list[Any]:
        actors = [Rank.options(**options).remote() for _ in range(count)]
        made.extend(actors)
        return actors

    yield make
    for actor in made:
        ray.kill(actor)
