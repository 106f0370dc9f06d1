"""The run as a page of Markdown: bars, tables, what was compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bars import Bar, Results
from cases import ALLREDUCE_WORLDS, LATENCY, LATENCY_WORLDS, THROUGHPUT, Case, size_name
from contestants import TITLES
from measure import Series


def duration(nanoseconds: float | None) -> str:
    """Three digits and a unit."""
    if nanoseconds is None:
        return "-"
    for unit, name in ((1e9, "s"), (1e6, "ms"), (1e3, "us")):
        if nanoseconds >= unit:
            return f"{_digits(nanoseconds / unit)} {name}"
    return f"{nanoseconds:.0f} ns"


def _digits(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def table(heads: list[str], rows: list[list[str]]) -> list[str]:
    return [_row(*heads), _row(*("---" for _ in heads)), *(_row(*row) for row in rows), ""]


def quantity(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    if unit == "share":
        return f"{100 * value:.0f} %"
    if unit in ("us", "%"):
        return f"{_digits(value)} {unit}"
    return f"{_digits(value)}x" if unit == "times" else f"{value:.0f} {unit}"


def bars_table(bars: list[Bar]) -> list[str]:
    rows = []
    for bar in bars:
        bound = ("at most " if bar.at_most else "at least ") + quantity(bar.bound, bar.unit)
        note = bar.failed or bar.note
        measured = quantity(bar.value, bar.unit) + (f" ({note})" if note else "")
        rows.append([bar.name, measured, bound, f"**{bar.verdict}**"])
    return table(["bar", "measured", "wanted", ""], rows)


def _names(series: list[Series], cases: list[Case]) -> list[str]:
    """The contestants of these cases, in the order of TITLES."""
    found = {each.contestant for each in series if each.case in cases}
    return [name for name in TITLES if name in found]


def cell(series: Series | None, temperature: str) -> str:
    if series is None:
        return "-"
    return f"{duration(series.median_ns(temperature))} ({duration(series.min_ns(temperature))})"


def _times_table(series: list[Series], cases: list[Case], temperature: str) -> list[str]:
    """Medians and minima of all contestants, then Tutti's ratios to the others."""
    results = Results(series)
    names = _names(series, cases)
    peers = [name for name in names if name != "tutti"]
    heads = [TITLES[name] for name in names] + [f"Tutti / {TITLES[name]}" for name in peers]
    rows = []
    for case in cases:
        cells = [cell(results.find(case, name), temperature) for name in names]
        ratios = [results.ratio(case, "tutti", name, temperature) for name in peers]
        what = f"{case.operation} {size_name(case.bytes)}"
        rows.append([what, *cells, *("-" if each is None else f"{each:.2f}" for each in ratios)])
    return table([temperature, *heads], rows)


def _share_table(series: list[Series], cases: list[Case]) -> list[str]:
    results = Results(series)
    names = [name for name in _names(series, cases) if name != "bare"]
    rows = []
    for case in cases:
        cells = []
        for name in names:
            bandwidth = results.bandwidth(case, name, "warm")
            share = results.share(case, name, "warm")
            rate = "-" if bandwidth is None else f"{bandwidth / 1e9:.1f} GB/s"
            cells.append(f"{rate} ({quantity(share, 'share')})")
        rows.append([f"{case.operation} {size_name(case.bytes)}", *cells])
    return table(["bytes moved per second", *(TITLES[name] for name in names)], rows)


def _first_table(series: list[Series], cases: list[Case]) -> list[str]:
    results = Results(series)
    names = _names(series, cases)
    rows = []
    for case in cases:
        found = [results.find(case, name) for name in names]
        cells = [
            f"{duration(each.allocate_ns)} + {duration(each.first_ns)}" if each else "-"
            for each in found
        ]
        rows.append([f"{case.operation} {size_name(case.bytes)}", *cells])
    return table(["first: memory + operation", *(TITLES[name] for name in names)], rows)


def _daemon_table(series: list[Series], cases: list[Case]) -> list[str]:
    watched = [each for each in series if each.case in cases and each.daemon_operations]
    names = _names(watched, cases)
    rows = []
    for case in cases:
        found = {each.contestant: each for each in watched if each.case == case}
        times = [found[name].daemon_ns_per_operation() if name in found else None for name in names]
        rows.append([f"{case.operation} {size_name(case.bytes)}", *map(duration, times)])
    return table(["the daemon's processor time", *(TITLES[name] for name in names)], rows)


def problems(series: list[Series], titles: Mapping[str, str]) -> list[str]:
    """What was wrong in several cases alike is said once."""
    bad: dict[tuple[str, str], list[Case]] = {}
    for each in series:
        if each.status not in ("ok", "unsupported"):
            bad.setdefault((each.contestant, each.status), []).append(each.case)
    lines = []
    for (name, status), cases in bad.items():
        more = f" and {len(cases) - 1} more" if len(cases) > 1 else ""
        lines.append(f"* {titles[name]}, {cases[0]}{more}: {status}")
    return lines


def choices(series: list[Series], titles: Mapping[str, str]) -> list[str]:
    """What contestants have noted."""
    noted = [each for each in series if each.note.strip()]
    return [f"* {titles[each.contestant]}, {each.case}: {each.note}" for each in noted]


# Of a core: what a daemon of the system, or a terminal, takes now and then.
_QUIET_CORES = 0.1


def warning(document: dict[str, Any]) -> list[str]:
    """Whether the figures can be believed."""
    busy = document["busy_cores"]
    if busy <= _QUIET_CORES:
        return []
    return [f"**Others kept {busy} cores busy meanwhile: its figures say little.**", ""]


def _cases_of(series: list[Series], section: str, world_size: int) -> list[Case]:
    cases = dict.fromkeys(each.case for each in series)
    return [case for case in cases if (case.section, case.world_size) == (section, world_size)]


def _throughput(series: list[Series], cases: list[Case]) -> list[str]:
    if not cases:
        return []
    cold = [case for case in cases if "cold" in case.temperatures()]
    lines = [f"## {cases[0].world_size} ranks", "", "Median (minimum) of one operation.", ""]
    lines += _times_table(series, cases, "warm")
    lines += _times_table(series, cold, "cold") if cold else []
    return lines + _share_table(series, cases) + _first_table(series, cases)


def _latency(series: list[Series], cases: list[Case]) -> list[str]:
    if not cases:
        return []
    lines = [f"## Latency, {cases[0].world_size} ranks", ""]
    lines += ["Median (minimum) of one operation, back to back. Tutti and its Python client are on"]
    lines += ["the ring.", ""]
    return lines + _times_table(series, cases, "warm") + _daemon_table(series, cases)


def head(document: dict[str, Any], bars: list[Bar]) -> list[str]:
    """How any page begins: what it was measured on, and the bars."""
    lines = [f"# Benchmark: {document['name']}", "", "docs/benchmarks.md says how to read this."]
    lines += ["", *(f"* {key}: {value}" for key, value in document["machine"].items())]
    if document.get("daemon_settings"):
        lines.append(f"* settings of the daemon: {' '.join(document['daemon_settings'])}")
    lines += [f"* {key}: {document[key]}" for key in ("started", "busy_cores", "plan")]
    return [*lines, "", "## Bars", "", *warning(document), *bars_table(bars)]


def page(document: dict[str, Any], series: list[Series], bars: list[Bar]) -> str:
    lines = head(document, bars)
    for world_size in ALLREDUCE_WORLDS:
        lines += _throughput(series, _cases_of(series, THROUGHPUT, world_size))
    for world_size in LATENCY_WORLDS:
        lines += _latency(series, _cases_of(series, LATENCY, world_size))
    lines += ["## What was compared", ""]
    lines += [f"* {name}: {text}" for name, text in document["contestants"].items()]
    lines += [f"* lanes, {where}: {lanes}" for where, lanes in document["lanes"].items()]
    if chosen := choices(series, TITLES):
        lines += ["", "What the bare kernel has chosen:", "", *chosen]
    if bad := problems(series, TITLES):
        lines += ["", "## Problems", "", *bad]
    return "\n".join(lines) + "\n"
