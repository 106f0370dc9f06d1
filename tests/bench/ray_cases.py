"""The benchmark in Ray: sizes, numbers of actors, who takes part."""

from __future__ import annotations

import dataclasses

from cases import KIB, MIB, Case

RAY = "ray"

SIZES = (
    KIB,
    16 * KIB,
    64 * KIB,
    256 * KIB,
    MIB,
    4 * MIB,
    16 * MIB,
    64 * MIB,
    256 * MIB,
)
WORLDS = (2, 4)
LARGEST = SIZES[-1]


@dataclasses.dataclass(frozen=True)
class Contestant:
    """What is measured under one name."""

    name: str
    title: str
    # What the actors make for it, and run: "store" and "sum" (object_store.py), "gloo", "arena",
    # "plain" or "empty".
    flavour: str
    # Timed in the driver, each operation a task of every actor. Otherwise in the actors.
    by_steps: bool
    description: str


STORE = Contestant(
    "objectstore",
    "object store",
    "store",
    True,
    "ray.get of others' arrays, in place: the fastest of several ways; timed in the driver",
)
STORE_SUM = Contestant(
    "objectstore_sum",
    "object store, new sum",
    "sum",
    True,
    "ray.get of all arrays in every actor, and their sum as a new array; timed in the driver",
)
GLOO = Contestant(
    "ray_gloo",
    "Ray's Gloo",
    "gloo",
    False,
    'ray.util.collective, backend="GLOO", torch tensors; timed in the actors',
)
ARENA = Contestant(
    "tutti_arena",
    "Tutti, arena",
    "arena",
    False,
    'ray.util.collective, backend="TUTTI", arrays of tutti.empty; timed in the actors',
)
PLAIN = Contestant(
    "tutti_plain",
    "Tutti, plain",
    "plain",
    False,
    'ray.util.collective, backend="TUTTI", ordinary NumPy arrays; timed in the actors',
)


def _by_steps(contestant: Contestant) -> Contestant:
    return dataclasses.replace(
        contestant,
        name=f"{contestant.name}_step",
        title=f"{contestant.title}, by steps",
        by_steps=True,
        description=f"as {contestant.name}, but timed in the driver: a task for each operation",
    )


EMPTY_STEP = Contestant(
    "empty_step",
    "empty step",
    "empty",
    True,
    "a task of every actor that does nothing; timed in the driver",
)
GLOO_STEP, ARENA_STEP, PLAIN_STEP = _by_steps(GLOO), _by_steps(ARENA), _by_steps(PLAIN)

CONTESTANTS = (
    STORE,
    STORE_SUM,
    GLOO,
    ARENA,
    PLAIN,
    GLOO_STEP,
    ARENA_STEP,
    PLAIN_STEP,
    EMPTY_STEP,
)
# Those that need no collective: what the issue calls assembled by ray.get.
STORES = (STORE, STORE_SUM)
GLOOS = (GLOO, GLOO_STEP)
TITLES = {each.name: each.title for each in CONTESTANTS}


def ray_cases(world_size: int, largest: int = LARGEST) -> list[Case]:
    """The largest first, as in the other sections."""
    sizes = [size for size in SIZES if size <= largest]
    return [Case("allreduce", size, world_size, RAY) for size in reversed(sizes)]
