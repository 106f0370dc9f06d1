"""The actors of the benchmark in Ray, and the contestants that they are."""

from __future__ import annotations

import pathlib
import tempfile
import time
from collections.abc import Callable
from typing import Any

import object_store
import ray
import tables
from crew import ANSWER_TIMEOUT_S, CrewError
from ray_cases import Contestant
from ray_rank import Rank

_BARRIER_BYTES = 4096
_TRIAL_STEPS = 3


def get(refs: list[Any], timeout_s: float = ANSWER_TIMEOUT_S) -> list[Any]:
    """What the tasks return. Raises CrewError if one fails."""
    try:
        return list(ray.get(refs, timeout=timeout_s))
    except ray.exceptions.RayTaskError as error:
        raise CrewError(f"{type(error.cause).__name__}: {error.cause}".split("\n")[0]) from error
    except ray.exceptions.GetTimeoutError as error:
        raise CrewError(f"an actor does not answer in {timeout_s:g} s") from error
    except ray.exceptions.RayError as error:
        raise CrewError(str(error).split("\n")[0]) from error


class Actors:
    """As many as a group has, the same for all contestants. Ready when made."""

    def __init__(self, world_size: int, library: str = "") -> None:
        """With `library`, that of barrier.cc, they can run operations by themselves."""
        # In memory, so that the barrier's page is never written to a disk.
        self._folder = tempfile.TemporaryDirectory(prefix="tutti-bench-", dir="/dev/shm")
        path = pathlib.Path(self._folder.name) / "barrier"
        path.write_bytes(bytes(_BARRIER_BYTES))
        self.world_size = world_size
        self._barrier = (library, str(path)) if library else None
        self.all: list[Any] = []
        for rank in range(world_size):
            self.add(rank)
        self.pids = self.ask("pid")

    def add(self, rank: int) -> Any:
        """One more, or one in the place of one that is lost."""
        make = ray.remote(num_cpus=0)(Rank)
        self.all.append(make.remote(rank, self.world_size, self._barrier))
        return self.all[-1]

    def ask(self, method: str, *arguments: Any, timeout_s: float = ANSWER_TIMEOUT_S) -> list[Any]:
        """Calls a method of each."""
        tasks = [getattr(actor, method).remote(*arguments) for actor in self.all]
        return get(tasks, timeout_s)

    def close(self) -> None:
        for actor in self.all:
            ray.kill(actor)
        self._folder.cleanup()

    def __enter__(self) -> Actors:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class RayCrew:
    """One contestant, as measure.py knows them: takes the commands of serve.h."""

    def __init__(self, contestant: Contestant, actors: Actors) -> None:
        self.name = contestant.name
        self._contestant = contestant
        self._actors = actors
        self._step: Callable[[], Any] = lambda: self._actors.ask("step", self.name)
        if contestant.flavour == "sum":
            self._use(object_store.new_sum)
        # Whether there is something to be checked at the end.
        self._works = False

    def ask(self, line: str) -> list[str]:
        words = line.split()
        if words[0] == "prepare":
            return self._prepare(int(words[2]))
        if words[0] == "drop":
            return self._drop()
        raise ValueError(f"no such command: {line}")

    def run(self, temperature: str, samples: int, batch: int) -> list[float]:
        """Nanoseconds of one operation, sample by sample."""
        del temperature
        try:
            return self._time(samples, batch, max(1, batch // 4))
        except CrewError:
            self._works = False
            raise

    def _prepare(self, size_bytes: int) -> list[str]:
        allocated = self._actors.ask("prepare", self.name, self._contestant.flavour, size_bytes)
        note = self._choose() if self._contestant.flavour == "store" else ""
        first_ns, wrong = self._checked()
        if wrong:
            return [wrong]
        self._works = True
        return [f"ok {allocate_ns} {first_ns} {note}" for allocate_ns in allocated]

    def _drop(self) -> list[str]:
        """The last operation is checked as the first was."""
        wrong = self._checked()[1] if self._works else ""
        self._works = False
        self._actors.ask("drop", self.name)
        if wrong:
            raise CrewError(f"{wrong}, at the end")
        return ["ok"]

    def _checked(self) -> tuple[float, str]:
        """Runs an operation on new data: how long it took, and what is wrong with its result."""
        self._actors.ask("fill", self.name)
        (first_ns,) = self._time(1, 1, 0)
        return first_ns, next(filter(None, self._actors.ask("check", self.name)), "")

    def _time(self, samples: int, batch: int, untimed: int) -> list[float]:
        if not self._contestant.by_steps:
            figures = self._actors.ask("run", self.name, samples, batch, untimed)
            return [max(of_ranks) for of_ranks in zip(*figures, strict=True)]
        for _ in range(untimed):
            self._step()
        return [self._sample_ns(batch) for _ in range(samples)]

    def _sample_ns(self, batch: int) -> float:
        start = time.perf_counter_ns()
        for _ in range(batch):
            self._step()
        return (time.perf_counter_ns() - start) / batch

    def _choose(self) -> str:
        """The fastest way to use the object store, and a note of all."""
        taken_ns = {}
        for way, step in object_store.WAYS.items():
            self._use(step)
            _, wrong = self._checked()
            if wrong:
                raise CrewError(f"{way}: {wrong}")
            taken_ns[way] = min(self._time(_TRIAL_STEPS, 1, 0))
        best = min(taken_ns, key=lambda way: taken_ns[way])
        self._use(object_store.WAYS[best])
        rest = [f"{way} {tables.duration(ns)}" for way, ns in taken_ns.items() if way != best]
        return f"{best} ({tables.duration(taken_ns[best])}; {', '.join(rest)})"

    def _use(self, step: object_store.Step) -> None:
        def run() -> None:
            try:
                step(self._actors.all, self.name)
            except ray.exceptions.RayError as error:
                raise CrewError(str(error).split("\n")[0]) from error

        self._step = run
