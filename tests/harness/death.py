"""One rank of a group dies, at a chosen point of a chosen work: used by the tests of death, and by
the tests of their checkers.

Every phase submits work k ("big", 64 MiB) and work k+1 ("small") at the survivors, kills the
victim, and returns what the survivors were told. The groups are called dp.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from node import Node
from rank import Rank, Verdict, must_all, submit_all, wait_all

T = TypeVar("T")

GROUP = "dp"
BIG_ELEMENTS = (64 << 20) // 4
SMALL_ELEMENTS = 1024

# A work of 64 MiB and four ranks has 1024 chunks. It is held where what is left takes far less than
# 100 ms: work k+1 fails only once work k has ended, which is not what is to be measured.
_CHUNKS = 1024


@dataclass(frozen=True)
class Death:
    """What the survivors were told of works k and k+1, by rank; and since when they could know."""

    since_ns: int
    work_k: dict[int, Verdict]
    next_work: dict[int, Verdict]


@dataclass(frozen=True)
class Scene:
    """Who is there when a rank dies."""

    node: Node
    ranks: Sequence[Rank]
    victim: int
    chance: random.Random

    def survivors(self) -> list[Rank]:
        return without(self.ranks, self.victim)

    def by_rank(self, verdicts: Sequence[Verdict]) -> dict[int, Verdict]:
        return dict(zip(without(range(len(self.ranks)), self.victim), verdicts, strict=True))


def without(items: Sequence[T], index: int) -> list[T]:
    return [*items[:index], *items[index + 1 :]]


def make_tensors(ranks: Sequence[Rank]) -> None:
    must_all(ranks, f"tensor big float32 {BIG_ELEMENTS}")
    must_all(ranks, f"tensor small float32 {SMALL_ELEMENTS}")


def before_others_wait(scene: Scene) -> Death:
    """Before work k: the others wait in it."""
    alive = scene.survivors()
    first, second = _submit_both(alive)
    killed = scene.ranks[scene.victim].kill()
    return _hear(scene, killed, first, second)


def before_anyone(scene: Scene) -> Death:
    """Before work k: nobody has submitted it."""
    killed = scene.ranks[scene.victim].kill()
    first, second = _submit_both(scene.survivors())
    return _hear(scene, killed, first, second)


def during(scene: Scene) -> Death:
    """Work k is held between two of its chunks."""
    hit = scene.chance.randrange(3 * _CHUNKS // 4, _CHUNKS)
    return _held(scene, "local.mid_chunk", hit)


def after_executed(scene: Scene) -> Death:
    """Work k has been executed; the control loop does not know it yet."""
    return _held(scene, "execute.after_run", 1)


def after_some_told(scene: Scene) -> Death:
    """The control loop has told some ranks of work k's end, and is held before the next."""
    return _held(scene, "complete.before_deliver", scene.chance.randint(1, len(scene.ranks)))


Phase = Callable[[Scene], Death]
PHASES: tuple[Phase, ...] = (
    before_others_wait,
    before_anyone,
    during,
    after_executed,
    after_some_told,
)
# In these work k can't succeed: the victim has not submitted it.
BEFORE = (before_others_wait, before_anyone)


def _held(scene: Scene, failpoint: str, hit: int) -> Death:
    admin, victim = scene.node.admin, scene.ranks[scene.victim]
    with admin.paused(failpoint, hit):
        first = submit_all(scene.ranks, f"allreduce {GROUP} big sum")
        admin.wait_held(failpoint)
        second = submit_all(scene.survivors(), f"allreduce {GROUP} small sum")
        victim.kill()
        victim.wait_exit()
        released = time.monotonic_ns()
    return _hear(scene, released, without(first, scene.victim), second)


def _submit_both(alive: Sequence[Rank]) -> tuple[list[int], list[int]]:
    return (
        submit_all(alive, f"allreduce {GROUP} big sum"),
        submit_all(alive, f"allreduce {GROUP} small sum"),
    )


def _hear(scene: Scene, since_ns: int, first: Sequence[int], second: Sequence[int]) -> Death:
    alive = scene.survivors()
    return Death(
        since_ns=since_ns,
        work_k=scene.by_rank(wait_all(alive, first)),
        next_work=scene.by_rank(wait_all(alive, second)),
    )
