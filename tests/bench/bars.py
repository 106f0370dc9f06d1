"""The bars of the issues, and how what was measured compares with them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

from cases import (
    LARGE,
    LATENCY,
    LATENCY_SIZES,
    LATENCY_WORLDS,
    MIB,
    OTHERS,
    OTHERS_WORLDS,
    SMALL,
    Case,
    size_name,
)
from contestants import TITLES
from measure import Series, ratio

PASS, MISS, UNKNOWN = "PASS", "MISS", "not measured"

# Shares of what the bare kernel's bandwidth allows.
_ALLREDUCE_SHARE = 0.80
_OTHERS_SHARE = 0.70

_MEMORY_FLAT_KIB = 1024
# Less than one of the 64 MiB tensors: a copy of one would show.
_MEMORY_MAX_MIB = 48


# Microseconds of one small operation, by the number of ranks.
_RING_US = {2: 10.0}
_PYTHON_RING_US = {2: 25.0, 4: 50.0}
_TIMES_BARE_RING = 2.0
_TIMES_BARE_STREAM = 1.5
_TIMES_TORCH = 10.0

_IDLE_PERCENT = 1.0


@dataclasses.dataclass(frozen=True)
class Bar:
    """`value` has to be at least `bound`, or at most if `at_most`. None: not measured."""

    name: str
    value: float | None
    bound: float
    unit: str
    at_most: bool = False
    # What decided, if several could have.
    note: str = ""
    # Why there is no value although Tutti took part: it is a miss.
    failed: str = ""

    @property
    def verdict(self) -> str:
        if self.failed:
            return MISS
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


@dataclasses.dataclass(frozen=True)
class Idle:
    """What the daemon takes of a core while its sessions do nothing."""

    sessions: int = 0
    seconds: float = 0.0
    percent: float | None = None
    # Why it could not be watched.
    failed: str = ""


class Results:
    """All series of a run, to be looked up."""

    def __init__(self, series: Iterable[Series]) -> None:
        self._series = {(each.case, each.contestant): each for each in series}

    def find(self, case: Case, contestant: str) -> Series | None:
        """None if it was not measured, or something was wrong."""
        series = self._series.get((case, contestant))
        good = series is not None and series.status == "ok" and series.rounds
        return series if good else None

    def failure(self, case: Case, contestant: str) -> str:
        """What was wrong with it; empty if nothing was, or it took no part."""
        series = self._series.get((case, contestant))
        return "" if series is None or series.status in ("ok", "unsupported") else series.status

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


def bars_of(
    results: Results, memory: Memory | None, large: int = LARGE, idle: Idle | None = None
) -> list[Bar]:
    """In the order of the issues. `large` stands for 64 MiB in tests of the benchmark."""
    return [
        *_allreduce_bars(results, large),
        *_middle_bars(results),
        *_others_bars(results, large),
        *_numpy_bars(results, large),
        *_memory_bars(memory),
        *_ring_bars(results),
        *_python_ring_bars(results),
        *_stream_bars(results),
        *_crossover_bars(results),
        _idle_bar(idle),
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


# --- Latency ---

_SMALL_SIZES = tuple(size for size in LATENCY_SIZES if size <= SMALL)
_MIDDLE_SIZES = tuple(size for size in LATENCY_SIZES if size > SMALL)


_Value = Callable[[Case], float | None]


def worst(bar: Bar, cases: list[Case], contestant: str, value: _Value, results: Results) -> Bar:
    """The bar with the value of the worst case. None if one of them has none."""
    for case in cases:
        if failure := results.failure(case, contestant):
            return dataclasses.replace(bar, failed=failure)
    values = [(value(case), case) for case in cases]
    found = [(each, case) for each, case in values if each is not None]
    if len(found) < len(values):
        return bar
    decided, case = (max if bar.at_most else min)(found, key=lambda pair: pair[0])
    return dataclasses.replace(bar, value=decided, note=f"at {size_name(case.bytes)}")


def _latency_cases(sizes: tuple[int, ...], world_size: int) -> list[Case]:
    return [Case("allreduce", size, world_size, LATENCY) for size in sizes]


def _name(what: str, world_size: int, says: str, sizes: tuple[int, ...] = _SMALL_SIZES) -> str:
    of_sizes = f"{size_name(sizes[0])} to {size_name(sizes[-1])}"
    return f"allreduce {of_sizes}, {world_size} ranks, {what}: {says}"


def _us_bars(results: Results, what: str, contestant: str, bounds: dict[int, float]) -> list[Bar]:
    def median_us(case: Case) -> float | None:
        series = results.find(case, contestant)
        median_ns = series.median_ns("warm") if series else None
        return None if median_ns is None else median_ns / 1e3

    bars = []
    for world_size, bound in bounds.items():
        bar = Bar(_name(what, world_size, "time of one"), None, bound, "us", True)
        cases = _latency_cases(_SMALL_SIZES, world_size)
        bars.append(worst(bar, cases, contestant, median_us, results))
    return bars


def _cost_bars(results: Results, what: str, contestant: str, bare: str, bound: float) -> list[Bar]:
    """How many times what is bare it may take."""

    def cost(case: Case) -> float | None:
        times = results.times(case, bare, contestant, "warm")
        return None if times is None else 1 / times

    bars = []
    for world_size in LATENCY_WORLDS:
        name = _name(what, world_size, f"times as long as a {TITLES[bare]}")
        cases = _latency_cases(_SMALL_SIZES, world_size)
        bars.append(worst(Bar(name, None, bound, "times", True), cases, contestant, cost, results))
    return bars


def _times_bar(results: Results, contestant: str, peer: str, cases: list[Case], bar: Bar) -> Bar:
    """How many times as fast as a peer it has to be."""

    def times(case: Case) -> float | None:
        return results.times(case, peer, contestant, "warm")

    return worst(bar, cases, contestant, times, results)


def _ring_bars(results: Results) -> list[Bar]:
    what = "C++ over the ring"
    openmpi = Bar(_name(what, 4, "times as fast as Open MPI"), None, 1.0, "times")
    return [
        *_us_bars(results, what, "tutti", _RING_US),
        _times_bar(results, "tutti", "openmpi", _latency_cases(_SMALL_SIZES, 4), openmpi),
        *_cost_bars(results, what, "tutti", "bare_ring", _TIMES_BARE_RING),
    ]


def _python_ring_bars(results: Results) -> list[Bar]:
    what = "Python over the ring"
    bars = _us_bars(results, what, "py_arena", _PYTHON_RING_US)
    for world_size in LATENCY_WORLDS:
        name = _name(what, world_size, "times as fast as torch.distributed")
        bar = Bar(name, None, _TIMES_TORCH, "times")
        cases = _latency_cases(_SMALL_SIZES, world_size)
        bars.append(_times_bar(results, "py_arena", "torch_gloo", cases, bar))
    return bars


def _stream_bars(results: Results) -> list[Bar]:
    what = "C++ over gRPC"
    return _cost_bars(results, what, "tutti_grpc", "bare_stream", _TIMES_BARE_STREAM)


def _crossover_bars(results: Results) -> list[Bar]:
    says = "times as fast as Open MPI"
    bar = Bar(_name("C++ over the ring", 4, says, _MIDDLE_SIZES), None, 1.0, "times")
    cases = _latency_cases(_MIDDLE_SIZES, 4)
    return [_times_bar(results, "tutti", "openmpi", cases, bar)]


def _idle_bar(idle: Idle | None) -> Bar:
    found = idle or Idle()
    name = f"the idle daemon with {found.sessions or 4} sessions on the ring: of a core"
    return Bar(name, found.percent, _IDLE_PERCENT, "%", True, failed=found.failed)
