"""The bars of the issue about several nodes, and how what was measured compares with them."""

from __future__ import annotations

from bars import Bar, Results, worst
from cases import LARGE, Case
from nodes_cases import LAYOUTS, Layout, nodes_cases
from nodes_contestants import GLOO, PEERS, TUTTI, NodesContestant

_TIMES_GLOO = 2.0
_LINK_SHARE = 0.9


def nodes_bars(results: Results, largest: int = LARGE) -> list[Bar]:
    """In the order of the issue. `largest` stands for 64 MiB in tests of the benchmark."""
    bars = []
    for layout in LAYOUTS:
        allreduces = [c for c in nodes_cases(layout, largest) if c.operation == "allreduce"]
        if layout.limit_mbit:
            bars.append(_link_bar(results, layout, allreduces[0]))
        else:
            bars.append(_times_bar(results, layout, GLOO, allreduces[:1], _TIMES_GLOO))
        bars += [_times_bar(results, layout, peer, allreduces, 1.0) for peer in PEERS]
    return bars


def _times_bar(
    results: Results, layout: Layout, peer: NodesContestant, cases: list[Case], bound: float
) -> Bar:
    def times(case: Case) -> float | None:
        return results.times(case, peer.name, TUTTI.name, "warm")

    sizes = "at every size" if len(cases) > 1 else "at the largest size"
    name = f"{layout.section}, {sizes}: times as fast as {peer.title}"
    return worst(Bar(name, None, bound, "times"), cases, TUTTI.name, times, results)


def _link_bar(results: Results, layout: Layout, case: Case) -> Bar:
    def share(of: Case) -> float | None:
        series = results.find(of, TUTTI.name)
        median_ns = series.median_ns("warm") if series else None
        return None if median_ns is None else layout.link_ns(of.bytes) / median_ns

    name = f"{layout.section}, at the largest size: of what the links carry"
    return worst(Bar(name, None, _LINK_SHARE, "share"), [case], TUTTI.name, share, results)
