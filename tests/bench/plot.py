"""Draws a run: plot.py RUN.json RUN.png. Needs matplotlib (requirements.txt)."""

from __future__ import annotations

import json
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402

_WORLDS = (2, 4, 6, 8)

_Draw = Callable[[Axes, dict[str, Any], int], None]


def _of(document: dict[str, Any], world_size: int, row: str, contestant: str) -> list[Any]:
    return [
        each
        for each in document["series"]
        if _row(each) == row
        and each["world_size"] == world_size
        and each["contestant"] == contestant
        and each["status"] == "ok"
        and each["warm"] is not None
    ]


def _row(series: dict[str, Any]) -> str:
    section = str(series["section"])
    if section in ("latency", "ray"):
        return section
    if " nodes " in section:
        return "nodes" if section.endswith("unlimited") else "nodes, limited"
    return "allreduce" if series["operation"] == "allreduce" else "other"


def _color(document: dict[str, Any], contestant: str) -> str:
    """The same in all pictures: matplotlib has ten, as many as there are contestants."""
    return f"C{list(document['contestants']).index(contestant) % 10}"


def _draw_times(axes: Axes, document: dict[str, Any], world_size: int, row: str) -> None:
    for name in document["contestants"]:
        series = sorted(_of(document, world_size, row, name), key=lambda each: each["bytes"])
        if series:
            sizes = [each["bytes"] for each in series]
            times = [each["warm"]["median_ns"] / 1e3 for each in series]
            color = _color(document, name)
            axes.loglog(sizes, times, marker="o", markersize=4, label=name, color=color)
    axes.set_xlabel("bytes")
    axes.grid(True, which="major", alpha=0.3)
    axes.legend(fontsize="small")


def _draw_allreduce(axes: Axes, document: dict[str, Any], world_size: int) -> None:
    _draw_times(axes, document, world_size, "allreduce")
    axes.set_title(f"allreduce, n = {world_size}")
    axes.set_ylabel("us, median, warm")


def _draw_latency(axes: Axes, document: dict[str, Any], world_size: int) -> None:
    _draw_times(axes, document, world_size, "latency")
    axes.set_title(f"latency of allreduce, n = {world_size}; tutti and py_arena on the ring")
    axes.set_ylabel("us, median, back to back")


def _draw_ray(axes: Axes, document: dict[str, Any], world_size: int) -> None:
    _draw_times(axes, document, world_size, "ray")
    axes.set_title(f"allreduce in Ray, {world_size} actors")
    axes.set_ylabel("us, median")


def _draw_nodes(axes: Axes, document: dict[str, Any], world_size: int) -> None:
    _draw_one_operation(axes, document, world_size, "nodes", "unlimited")


def _draw_limited(axes: Axes, document: dict[str, Any], world_size: int) -> None:
    _draw_one_operation(axes, document, world_size, "nodes, limited", "limited")


def _draw_one_operation(
    axes: Axes, document: dict[str, Any], world_size: int, row: str, network: str
) -> None:
    series = [each for each in document["series"] if each["operation"] == "allreduce"]
    _draw_times(axes, {**document, "series": series}, world_size, row)
    axes.set_title(f"allreduce over nodes of 2 ranks, n = {world_size}, {network}")
    axes.set_ylabel("us, median")


def _draw_others(axes: Axes, document: dict[str, Any], world_size: int) -> None:
    series = {
        name: {each["operation"]: each for each in _of(document, world_size, "other", name)}
        for name in document["contestants"]
    }
    series = {name: found for name, found in series.items() if found}
    operations = list(dict.fromkeys(name for found in series.values() for name in found))
    width = 0.8 / len(series)
    for number, (name, found) in enumerate(series.items()):
        places = [operations.index(each) + width * number for each in found]
        shares = [100 * (each["warm"]["share"] or 0) for each in found.values()]
        color = _color(document, name)
        axes.bar(places, shares, width=width, align="edge", label=name, color=color)
    axes.set_xticks([place + 0.4 for place in range(len(operations))])
    axes.set_xticklabels(operations, rotation=40, ha="right")
    axes.axhline(100, color="black", linewidth=0.8)
    axes.set_title(f"other operations, n = {world_size}")
    axes.set_ylabel("% of the bandwidth of the bare kernel")
    axes.legend(fontsize="small")


_ROWS: dict[str, _Draw] = {
    "allreduce": _draw_allreduce,
    "other": _draw_others,
    "latency": _draw_latency,
    "ray": _draw_ray,
    "nodes": _draw_nodes,
    "nodes, limited": _draw_limited,
}


def main() -> None:
    source, target = sys.argv[1:]
    document = json.loads(pathlib.Path(source).read_text())
    names = document["contestants"]
    # What was measured, row by row; the rows that have nothing are left out.
    worlds = {
        row: [n for n in _WORLDS if any(_of(document, n, row, name) for name in names)]
        for row in _ROWS
    }
    rows = [row for row, found in worlds.items() if found]
    if not rows:
        return
    columns = max(len(worlds[row]) for row in rows)
    figure, grid = pyplot.subplots(
        len(rows), columns, figsize=(6 * columns, 5.5 * len(rows)), squeeze=False
    )
    for line, row in zip(grid, rows, strict=True):
        for axes in line[len(worlds[row]) :]:
            axes.set_axis_off()
        for axes, world_size in zip(line, worlds[row], strict=False):
            _ROWS[row](axes, document, world_size)
    figure.tight_layout()
    figure.savefig(target, dpi=110)


if __name__ == "__main__":
    main()
