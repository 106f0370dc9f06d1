"""How long groups take in Ray: to make, and to make anew when an actor was killed."""

from __future__ import annotations

import os
import random
import signal
import time

from crew import CrewError
from ray_crew import Actors, get
from ray_events import FLAVOURS, Event

# How long a recovery may take.
_PATIENCE_S = 60.0


def creation(world_size: int, rounds: int, seed: int) -> list[Event]:
    """From the first actor's init_collective_group until its first barrier has returned on all:
    the first group in new actors, and the same again when it was destroyed.
    """
    first = {name: Event("group, first in its actors", world_size, name) for name in FLAVOURS}
    again = {name: Event("group, made again", world_size, name) for name in FLAVOURS}
    order = random.Random(seed)
    for _ in range(rounds):
        with Actors(world_size) as actors:
            turns = order.sample(list(FLAVOURS), len(FLAVOURS))
            for flavour in turns:
                _join(actors, first[flavour])
            for flavour in turns:
                if first[flavour].status == "ok":
                    _join(actors, again[flavour], leave=True)
    return [*first.values(), *again.values()]


def _join(actors: Actors, event: Event, leave: bool = False) -> None:
    try:
        if leave:
            actors.ask("leave", event.flavour)
        spans = actors.ask("join", event.flavour, timeout_s=_PATIENCE_S)
    except CrewError as error:
        event.status = str(error)
        return
    event.samples_ns.append(max(end for _, end in spans) - min(begin for begin, _ in spans))


def recovery(world_size: int, flavour: str, rounds: int) -> list[Event]:
    """From the kill -9 of one actor: until all others have an error, and until they and a
    replacement, which runs already, have completed an allreduce in a new group.
    """
    told = Event("kill -9, until all survivors know", world_size, flavour)
    whole = Event("kill -9, until an allreduce with a replacement", world_size, flavour)
    for _ in range(rounds):
        if whole.status == "ok":
            with Actors(world_size) as actors:
                spare = actors.add(world_size - 1)
                get([spare.pid.remote()])
                try:
                    _recover(actors, told, whole)
                except CrewError as error:
                    hangs = "does not answer" in str(error)
                    whole.status = f"hangs for {_PATIENCE_S:g} s" if hangs else str(error)
                    if not told.samples_ns:
                        told.status = whole.status
    return [told, whole]


def _recover(actors: Actors, told: Event, whole: Event) -> None:
    flavour, last = whole.flavour, actors.world_size - 1
    *members, spare = actors.all
    get([actor.join.remote(flavour) for actor in members])
    working = [actor.allreduce_until_lost.remote(flavour) for actor in members[:last]]
    lost = members[last].allreduce_until_lost.remote(flavour)
    # Until they are in the middle of it.
    time.sleep(0.5)
    killed_ns = time.monotonic_ns()
    os.kill(actors.pids[last], signal.SIGKILL)
    del lost
    told.samples_ns.append(max(at_ns for at_ns, _ in get(working, _PATIENCE_S)) - killed_ns)
    crew = [*members[:last], spare]
    left_s = _PATIENCE_S - (time.monotonic_ns() - killed_ns) / 1e9
    again = [actor.rejoin.remote(flavour, rank) for rank, actor in enumerate(crew)]
    whole.samples_ns.append(max(get(again, max(left_s, 0.0))) - killed_ns)
