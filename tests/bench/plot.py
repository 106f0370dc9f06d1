"""Draws a run: plot.py RUN.json RUN.png. Needs matplotlib (requirements.txt)."""

from __future__ import annotations

import json
import pathlib
import sys
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402

_WORLDS = (2, 4, 8)


def _of(document: dict[str, Any], world_size: int, operation: str, contestant: str) -> list[Any]:
    return [
        each
        for each in document["series"]
        if each["world_size"] == world_size
        and (each["operation"] == "allreduce") == (operation == "allreduce")
        and each["contestant"] == contestant
        and each["warm"] is not None
    ]


def _draw_allreduce(axes: Axes, document: dict[str, Any], world_size: int) -> None:
    for name in document["contestants"]:
        series = sorted(
            _of(document, world_size, "allreduce", name), key=lambda each: each["bytes"]
        )
        if series:
            sizes = [each["bytes"] for each in series]
            times = [each["warm"]["median_ns"] / 1e3 for each in series]
            axes.loglog(sizes, times, marker="o", markersize=4, label=name)
    axes.set_title(f"allreduce, n = {world_size}")
    axes.set_xlabel("bytes")
    axes.set_ylabel("us, median, warm")
    axes.grid(True, which="major", alpha=0.3)
    axes.legend(fontsize="small")


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
        axes.bar(places, shares, width=width, align="edge", label=name)
    axes.set_xticks([place + 0.4 for place in range(len(operations))])
    axes.set_xticklabels(operations, rotation=40, ha="right")
    axes.axhline(100, color="black", linewidth=0.8)
    axes.set_title(f"other operations, n = {world_size}")
    axes.set_ylabel("% of the bandwidth of the bare kernel")
    axes.legend(fontsize="small")


def main() -> None:
    source, target = sys.argv[1:]
    document = json.loads(pathlib.Path(source).read_text())
    figure, grid = pyplot.subplots(2, len(_WORLDS), figsize=(18, 11))
    for column, world_size in enumerate(_WORLDS):
        names = document["contestants"]
        if any(_of(document, world_size, "allreduce", name) for name in names):
            _draw_allreduce(grid[0][column], document, world_size)
        else:
            grid[0][column].set_axis_off()
        if any(_of(document, world_size, "other", name) for name in names):
            _draw_others(grid[1][column], document, world_size)
        else:
            grid[1][column].set_axis_off()
    figure.tight_layout()
    figure.savefig(target, dpi=110)


if __name__ == "__main__":
    main()
