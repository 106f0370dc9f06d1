"""One rank of a group dies, at a chosen point of a chosen work: used by the tests of death, and by
the tests of their checkers.

Every phase submits work k ("big", 64 MiB) and work k+1 ("small") at the survivors, kills the
victim, and returns what the survivors were told. The groups are called dp.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
    """What the survivors were told of works k and k+1, by rank; and since when they could know.

    `since_ns`: the kill, or the release of a failpoint that held work k, or the submission if that
    was later. `exit_ns`: when this process saw that the kernel had ended the victim; nobody can
    know of a death before that.
    """

    # A kernel that is slow to end a process is not the daemon's doing: for 64 MiB it needs 6 ms of
    # a processor, if it gets one. Where it took more than this, the bar counts from the end.
    SLOW_EXIT_MS = 25.0

    since_ns: int
    exit_ns: int
    work_k: dict[int, Verdict]
    next_work: dict[int, Verdict]

    def exit_was_slow(self) -> bool:
        return self.exit_ns - self.since_ns > 1e6 * self.SLOW_EXIT_MS

    def counts_from_ns(self) -> int:
        return self.exit_ns if self.exit_was_slow() else self.since_ns


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
    victim = scene.ranks[scene.victim]
    killed = victim.kill()
    victim.wait_exit()
    return _hear(scene, killed, time.monotonic_ns(), first, second)


def before_anyone(scene: Scene) -> Death:
    """Before work k: nobody has submitted it, so that it counts from when they have."""
    victim = scene.ranks[scene.victim]
    victim.kill()
    first, second = _submit_both(scene.survivors())
    submitted = time.monotonic_ns()
    victim.wait_exit()
    return _hear(scene, submitted, time.monotonic_ns(), first, second)


def before_arrived(scene: Scene) -> Death:
    """All have submitted work k; the control loop is held before it takes one of these works.

    If it takes the victim's, work k is executed after the release; so work k+1 counts from its end.
    """
    hit = scene.chance.randint(1, len(scene.ranks))
    told = _held(scene, "lane.before_submit", hit)
    ended_ns = max(verdict.monotonic_ns for verdict in told.work_k.values())
    return replace(told, since_ns=max(told.since_ns, ended_ns))


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
    before_arrived,
    during,
    after_executed,
    after_some_told,
)
# In these work k can't succeed: the victim has not submitted it.
BEFORE = (before_others_wait, before_anyone)
# In this one it depends on what the daemon learns first.
EITHER = (before_arrived,)


def _held(scene: Scene, failpoint: str, hit: int) -> Death:
    admin, victim = scene.node.admin, scene.ranks[scene.victim]
    with admin.paused(failpoint, hit):
        first = submit_all(scene.ranks, f"allreduce {GROUP} big sum")
        admin.wait_held(failpoint)
        second = submit_all(scene.survivors(), f"allreduce {GROUP} small sum")
        victim.kill()
        victim.wait_exit()
        released = time.monotonic_ns()
    return _hear(scene, released, released, without(first, scene.victim), second)


def _submit_both(alive: Sequence[Rank]) -> tuple[list[int], list[int]]:
    return (
        submit_all(alive, f"allreduce {GROUP} big sum"),
        submit_all(alive, f"allreduce {GROUP} small sum"),
    )


def _hear(
    scene: Scene, since_ns: int, exit_ns: int, first: Sequence[int], second: Sequence[int]
) -> Death:
    alive = scene.survivors()
    return Death(
        since_ns=since_ns,
        exit_ns=exit_ns,
        work_k=scene.by_rank(wait_all(alive, first)),
        next_work=scene.by_rank(wait_all(alive, second)),
    )
