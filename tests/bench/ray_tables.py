"""The run in Ray as a page of Markdown."""

from __future__ import annotations

from typing import Any

import tables
from bars import Bar, Results
from cases import Case, size_name
from measure import Series
from ray_cases import (
    ARENA,
    ARENA_STEP,
    CONTESTANTS,
    GLOO,
    GLOO_STEP,
    PLAIN,
    PLAIN_STEP,
    STORE,
    STORE_SUM,
    TITLES,
    WORLDS,
)
from ray_events import FLAVOURS, Event

# Who is compared with whom: peer, ours.
_PAIRS = (
    (STORE, ARENA_STEP),
    (STORE, PLAIN_STEP),
    (STORE, ARENA),
    (STORE, PLAIN),
    (STORE_SUM, ARENA_STEP),
    (STORE_SUM, PLAIN_STEP),
    (STORE_SUM, ARENA),
    (STORE_SUM, PLAIN),
    (GLOO, ARENA),
    (GLOO, PLAIN),
    (GLOO_STEP, ARENA_STEP),
    (GLOO_STEP, PLAIN_STEP),
)


def ray_page(
    document: dict[str, Any], series: list[Series], events: list[Event], bars: list[Bar]
) -> str:
    lines = tables.head(document, bars)
    for world_size in WORLDS:
        of_size = dict.fromkeys(each.case for each in series if each.case.world_size == world_size)
        cases = sorted(of_size, key=lambda case: case.bytes)
        if cases:
            lines += [f"## {world_size} actors", "", "Median (minimum) of one allreduce.", ""]
            lines += _times_table(series, cases)
            lines += ["How many times as fast as the peer:", "", *_ratio_table(series, cases)]
    lines += ["## Groups", "", "Median (minimum).", "", *_events_table(events)]
    lines += ["## What was compared", ""]
    lines += [f"* {name}: {text}" for name, text in document["contestants"].items()]
    lines += [f"* lanes, {where}: {lanes}" for where, lanes in document["lanes"].items()]
    if chosen := tables.choices(series, TITLES):
        lines += ["", "How the object store was used, with the trials:", "", *chosen]
    problems = tables.problems(series, TITLES)
    problems += [f"* {FLAVOURS[e.flavour]}, {e.what}: {e.status}" for e in events if _failed(e)]
    if problems:
        lines += ["", "## Problems", "", *problems]
    return "\n".join(lines) + "\n"


def _times_table(series: list[Series], cases: list[Case]) -> list[str]:
    results = Results(series)
    rows = []
    for case in cases:
        found = [results.find(case, each.name) for each in CONTESTANTS]
        rows.append([size_name(case.bytes), *(tables.cell(each, "warm") for each in found)])
    return tables.table(["allreduce", *(each.title for each in CONTESTANTS)], rows)


def _ratio_table(series: list[Series], cases: list[Case]) -> list[str]:
    results = Results(series)
    rows = []
    for case in cases:
        found = [results.times(case, peer.name, ours.name, "warm") for peer, ours in _PAIRS]
        rows.append([size_name(case.bytes), *(tables.quantity(each, "times") for each in found)])
    heads = [f"{ours.title} / {peer.title}" for peer, ours in _PAIRS]
    return tables.table(["allreduce", *heads], rows)


def _failed(event: Event) -> bool:
    return event.status != "ok"


def _events_table(events: list[Event]) -> list[str]:
    rows = []
    for what, world_size in dict.fromkeys((each.what, each.world_size) for each in events):
        found = {e.flavour: e for e in events if (e.what, e.world_size) == (what, world_size)}
        cells = [_event_cell(found.get(flavour)) for flavour in FLAVOURS]
        rows.append([f"{what}, {world_size} actors", *cells])
    return tables.table(["", *FLAVOURS.values()], rows)


def _event_cell(event: Event | None) -> str:
    if event is None:
        return "-"
    median_ns = event.median_ns()
    if median_ns is None:
        return event.status
    times = f"{tables.duration(median_ns)} ({tables.duration(min(event.samples_ns))})"
    return f"{times}; {event.status}" if _failed(event) else times
