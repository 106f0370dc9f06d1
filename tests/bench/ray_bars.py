"""The bars of the issue about Ray, and how what was measured compares with them."""

from __future__ import annotations

import dataclasses

from bars import Bar, Results, worst
from cases import KIB, MIB, Case, size_name
from ray_cases import (
    ARENA,
    ARENA_STEP,
    GLOO,
    PLAIN,
    PLAIN_STEP,
    RAY,
    SIZES,
    STORES,
    WORLDS,
    Contestant,
)


@dataclasses.dataclass(frozen=True)
class _Wanted:
    """At least `bound` times as fast as `peer`, at all of these sizes."""

    peer: Contestant
    ours: tuple[Contestant, ...]
    sizes: tuple[int, ...]
    bound: float


_MIDDLE = tuple(size for size in SIZES if 64 * KIB <= size <= 16 * MIB)
_ABOVE = tuple(size for size in SIZES if size > 16 * MIB)
_LARGE = 64 * MIB

# With the object store those by steps are compared like with like.
_WANTED = (
    *(_Wanted(store, (ARENA_STEP, ARENA), SIZES, 10.0) for store in STORES),
    *(_Wanted(store, (PLAIN_STEP, PLAIN), _MIDDLE, 5.0) for store in STORES),
    *(_Wanted(store, (PLAIN_STEP, PLAIN), _ABOVE, 3.0) for store in STORES),
    _Wanted(GLOO, (ARENA, PLAIN), (KIB,), 20.0),
    _Wanted(GLOO, (ARENA,), (_LARGE,), 5.0),
    _Wanted(GLOO, (PLAIN,), (_LARGE,), 2.0),
)


def ray_bars(results: Results) -> list[Bar]:
    """In the order of the issue."""
    return [
        _bar(results, wanted, ours, world_size)
        for wanted in _WANTED
        for ours in wanted.ours
        for world_size in WORLDS
    ]


def _bar(results: Results, wanted: _Wanted, ours: Contestant, world_size: int) -> Bar:
    cases = [Case("allreduce", size, world_size, RAY) for size in wanted.sizes]

    def times(case: Case) -> float | None:
        return results.times(case, wanted.peer.name, ours.name, "warm")

    names = [size_name(wanted.sizes[0]), size_name(wanted.sizes[-1])]
    sizes = " to ".join(dict.fromkeys(names))
    name = f"{sizes}, {world_size} actors, {ours.title}: times as fast as {wanted.peer.title}"
    return worst(Bar(name, None, wanted.bound, "times"), cases, ours.name, times, results)
