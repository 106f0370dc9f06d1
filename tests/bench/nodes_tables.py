"""The run over several nodes as a page of Markdown."""

from __future__ import annotations

from typing import Any

import tables
from bars import Bar, Results
from cases import Case, size_name
from measure import Series
from nodes_cases import LAYOUTS
from nodes_contestants import CONTESTANTS, PEERS, TITLES, TUTTI


def nodes_page(document: dict[str, Any], series: list[Series], bars: list[Bar]) -> str:
    lines = tables.head(document, bars)
    for layout in LAYOUTS:
        of_layout = dict.fromkeys(e.case for e in series if e.case.section == layout.section)
        cases = sorted(of_layout, key=lambda case: (case.operation, case.bytes))
        if cases:
            lines += [f"## {layout.section}", ""]
            lines += ["Median (minimum) of one operation, and how many times as fast as a peer."]
            lines += ["", *_times_table(series, cases)]
    lines += ["## What was compared", ""]
    lines += [f"* {name}: {text}" for name, text in document["contestants"].items()]
    if problems := tables.problems(series, TITLES):
        lines += ["", "## Problems", "", *problems]
    return "\n".join(lines) + "\n"


def _times_table(series: list[Series], cases: list[Case]) -> list[str]:
    results = Results(series)
    rows = []
    for case in cases:
        cells = [tables.cell(results.find(case, each.name), "warm") for each in CONTESTANTS]
        times = [results.times(case, peer.name, TUTTI.name, "warm") for peer in PEERS]
        what = f"{case.operation} {size_name(case.bytes)}"
        rows.append([what, *cells, *(tables.quantity(each, "times") for each in times)])
    heads = [each.title for each in CONTESTANTS]
    return tables.table(["", *heads, *(f"Tutti / {peer.title}" for peer in PEERS)], rows)
