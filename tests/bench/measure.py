"""Measures one case: all contestants in turn, round by round, so that noise meets all alike."""

from __future__ import annotations

import dataclasses
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from cases import Case
from crew import CrewError

# A sample is as many operations, back to back after one common start, as take about this long: the
# start costs a microsecond or more, and a small operation as much. For the first milliseconds after
# it the kernel still moves the ranks that it has woken from one processor to another.
_SAMPLE_NS = 10e6
_BATCH_MAX = 10_000

# Nanoseconds of a processor that something has taken.
CpuClock = Callable[[], int]


class Measured(Protocol):
    """What a turn needs of a contestant's processes: crew.py has it, and so has ray_crew.py."""

    name: str

    def ask(self, line: str) -> list[str]:
        """Sends a command to all, and returns what each answers. Raises CrewError."""

    def run(self, temperature: str, samples: int, batch: int) -> list[float]:
        """Nanoseconds of one operation, sample by sample. Raises CrewError."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """How much is measured. `samples` is per round and contestant."""

    rounds: int
    samples: int
    seed: int


@dataclasses.dataclass
class Series:
    """One contestant in one case. `status`: "ok", "unsupported", or what went wrong."""

    case: Case
    contestant: str
    status: str = "ok"
    # Of the first operation: to make the buffers, and to run on them.
    allocate_ns: float = 0.0
    first_ns: float = 0.0
    note: str = ""
    batch: int = 1
    # "warm" or "cold" -> rounds -> samples, in nanoseconds per operation.
    rounds: dict[str, list[list[float]]] = dataclasses.field(default_factory=dict)
    # Processor time of the daemon while these operations ran, if that was watched.
    daemon_ns: int = 0
    daemon_operations: int = 0

    def of_rounds(self, temperature: str) -> list[float]:
        return [statistics.median(samples) for samples in self.rounds.get(temperature, [])]

    def median_ns(self, temperature: str) -> float | None:
        samples = self._samples(temperature)
        return statistics.median(samples) if samples else None

    def min_ns(self, temperature: str) -> float | None:
        return min(self._samples(temperature), default=None)

    def daemon_ns_per_operation(self) -> float | None:
        return self.daemon_ns / self.daemon_operations if self.daemon_operations else None

    def _samples(self, temperature: str) -> list[float]:
        return [sample for samples in self.rounds.get(temperature, []) for sample in samples]


def ratio(slower: Series, faster: Series, temperature: str) -> float | None:
    """How many times as long `slower` takes: the median over the rounds, each by itself."""
    pairs = zip(slower.of_rounds(temperature), faster.of_rounds(temperature), strict=False)
    ratios = [slow / fast for slow, fast in pairs]
    return statistics.median(ratios) if ratios else None


def _untimed(batch: int) -> int:
    """With how many operations a run begins that are not timed: as serve.h and python_serve.py."""
    return max(1, batch // 4)


class _Turn:
    """One contestant's part in one case. What goes wrong ends only that, and is in its status."""

    def __init__(self, case: Case, crew: Measured, daemon: CpuClock | None) -> None:
        self._crew = crew
        self._daemon = daemon
        self.series = Series(case, crew.name)

    def prepare(self) -> None:
        case, series = self.series.case, self.series
        answers = self._ask(f"prepare {case.operation} {case.bytes}")
        bad = next((answer for answer in answers if not answer.startswith("ok ")), None)
        if bad is not None:
            series.status = bad
        if series.status != "ok":
            return
        words = [answer.split(" ", 3) for answer in answers]
        series.allocate_ns = max(float(word[1]) for word in words)
        series.first_ns = max(float(word[2]) for word in words)
        series.note = words[0][3]
        # Twice, since the first tells what the operation takes with a start of its own.
        for _ in range(2):
            self._run("warm", 2, series.batch, keep=False)

    def run(self, temperature: str, samples: int) -> None:
        if self.series.status == "ok":
            batch = self.series.batch if temperature == "warm" else 1
            self._run(temperature, samples, batch, keep=True)

    def drop(self) -> None:
        if self.series.status != "unsupported":
            self._ask("drop")

    def _run(self, temperature: str, samples: int, batch: int, keep: bool) -> None:
        before_ns = self._daemon() if self._daemon else 0
        try:
            figures = self._crew.run(temperature, samples, batch)
        except CrewError as error:
            self.series.status = str(error)
            return
        if keep and self._daemon:
            self.series.daemon_ns += self._daemon() - before_ns
            self.series.daemon_operations += _untimed(batch) + samples * batch
        if keep:
            self.series.rounds.setdefault(temperature, []).append(figures)
        else:
            self.series.batch = max(1, min(int(_SAMPLE_NS / min(figures)), _BATCH_MAX))

    def _ask(self, line: str) -> list[str]:
        try:
            return self._crew.ask(line)
        except CrewError as error:
            self.series.status = str(error)
            return []


def measure(
    case: Case,
    crews: Sequence[Measured],
    plan: Plan,
    daemon: Mapping[str, CpuClock] | None = None,
) -> list[Series]:
    """One series for each crew, in their order. `daemon`: what is read for crews of these names."""
    turns = [_Turn(case, crew, (daemon or {}).get(crew.name)) for crew in crews]
    for turn in turns:
        turn.prepare()
    order = random.Random(f"{plan.seed} {case}")
    for _ in range(plan.rounds):
        for temperature in case.temperatures():
            for turn in order.sample(turns, len(turns)):
                turn.run(temperature, plan.samples)
    for turn in turns:
        turn.drop()
    return [turn.series for turn in turns]
