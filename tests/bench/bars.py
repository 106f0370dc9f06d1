"""The bars of the issues, and how what was measured compares with them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from cases import LARGE, MIB, OTHERS, OTHERS_WORLDS, Case
from measure import Series, ratio

PASS, MISS, UNKNOWN = "PASS", "MISS", "not measured"

# Shares of what the bare kernel's bandwidth allows.
_ALLREDUCE_SHARE = 0.80
_OTHERS_SHARE = 0.70

_MEMORY_FLAT_KIB = 1024
# Less than one of the 64 MiB tensors: a copy of one would show.
_MEMORY_MAX_MIB = 48


@dataclasses.dataclass(frozen=True)
class Bar:
    """`value` has to be at least `bound`, or at most if `at_most`. None: not measured."""

    name: str
    value: float | None
    bound: float
    unit: str
    at_most: bool = False

    @property
    def verdict(self) -> str:
        if self.value is None:
            return UNKNOWN
        good = self.value <= self.bound if self.at_most else self.value >= self.bound
        return PASS if good else MISS


@dataclasses.dataclass(frozen=True)
class Memory:
    """The daemon's own memory (RssAnon): after a first part of the operations, after all, and the
    most of the run.
    """

    operations: int = 0
    before_kib: int = 0
    after_kib: int = 0
    most_kib: int = 0


class Results:
    """All series of a run, to be looked up."""

    def __init__(self, series: Iterable[Series]) -> None:
        self._series = {(each.case, each.contestant): each for each in series}

    def find(self, case: Case, contestant: str) -> Series | None:
        """None if it was not measured, or something was wrong."""
        series = self._series.get((case, contestant))
        return series if series is not None and series.rounds else None

    def ratio(self, case: Case, slower: str, faster: str, temperature: str) -> float | None:
        pair = self.find(case, slower), self.find(case, faster)
        if pair[0] is None or pair[1] is None:
            return None
        return ratio(pair[0], pair[1], temperature)

    def times(self, case: Case, slower: str, faster: str, temperature: str) -> float | None:
        """What a bar is held against: the ratio by rounds or that of the medians, whichever is
        less. Where noise makes them differ, a good round must not pass a bar by itself.
        """
        by_rounds = self.ratio(case, slower, faster, temperature)
        pair = self.find(case, slower), self.find(case, faster)
        medians = [each.median_ns(temperature) if each else None for each in pair]
        if by_rounds is None or medians[0] is None or medians[1] is None:
            return None
        return min(by_rounds, medians[0] / medians[1])

    def share(self, case: Case, contestant: str, temperature: str) -> float | None:
        """Of the bandwidth of the bare kernel: what the bytes of this operation would take there,
        by what it took.
        """
        if case.operation == "allreduce":
            return self.times(case, "bare", contestant, temperature)
        allreduce = Case("allreduce", case.bytes, case.world_size)
        bare, series = self.find(allreduce, "bare"), self.find(case, contestant)
        bare_ns = bare.median_ns(temperature) if bare else None
        series_ns = series.median_ns(temperature) if series else None
        if bare_ns is None or series_ns is None:
            return None
        return bare_ns * case.bytes_moved() / allreduce.bytes_moved() / series_ns

    def bandwidth(self, case: Case, contestant: str, temperature: str) -> float | None:
        """Bytes that the operation has to move, by what it took; per second."""
        series = self.find(case, contestant)
        median_ns = series.median_ns(temperature) if series else None
        return case.bytes_moved() * 1e9 / median_ns if median_ns else None


def bars_of(results: Results, memory: Memory | None, large: int = LARGE) -> list[Bar]:
    """In the order of the issue. `large` stands for 64 MiB in tests of the benchmark."""
    return [
        *_allreduce_bars(results, large),
        *_middle_bars(results),
        *_others_bars(results, large),
        *_numpy_bars(results, large),
        *_memory_bars(memory),
    ]


def _allreduce_bars(results: Results, large: int) -> list[Bar]:
    bars = []
    for temperature in ("warm", "cold"):
        for world_size in (2, 4, 8):
            case = Case("allreduce", large, world_size)
            share = results.share(case, "tutti", temperature)
            name = f"{case}, {temperature}: of the bare bandwidth"
            bars.append(Bar(name, share, _ALLREDUCE_SHARE, "share"))
    case = Case("allreduce", large, 2)
    for peer, title, bound in (("openmpi", "Open MPI", 5.0), ("gloo", "Gloo", 8.0)):
        value = results.times(case, peer, "tutti", "warm")
        bars.append(Bar(f"{case}: times as fast as {title}", value, bound, "times"))
    return bars


def _middle_bars(results: Results) -> list[Bar]:
    bars = []
    for world_size, bound in ((4, 2.0), (2, 1.0)):
        case = Case("allreduce", MIB, world_size)
        value = results.times(case, "openmpi", "tutti", "warm")
        bars.append(Bar(f"{case}: times as fast as Open MPI", value, bound, "times"))
    return bars


def _others_bars(results: Results, large: int) -> list[Bar]:
    bars = []
    for operation in OTHERS:
        for world_size in OTHERS_WORLDS:
            case = Case(operation, large, world_size)
            share = results.share(case, "tutti", "warm")
            bars.append(Bar(f"{case}: of the bare bandwidth", share, _OTHERS_SHARE, "share"))
    return bars


def _numpy_bars(results: Results, large: int) -> list[Bar]:
    bars = []
    for world_size in (2, 4):
        case = Case("allreduce", large, world_size)
        value = results.times(case, "gloo", "py_numpy", "warm")
        name = f"{case}, NumPy arrays from Python: times as fast as Gloo"
        bars.append(Bar(name, value, 2.0, "times"))
    return bars


def _memory_bars(memory: Memory | None) -> list[Bar]:
    growth = memory.after_kib - memory.before_kib if memory else None
    most = memory.most_kib / 1024 if memory else None
    operations = f"{memory.operations:,}" if memory else "a million"
    return [
        Bar(f"the daemon grows in {operations} operations", growth, _MEMORY_FLAT_KIB, "KiB", True),
        Bar("the daemon's own memory, at most", most, _MEMORY_MAX_MIB, "MiB", True),
    ]
