"""What a run leaves: JSON, a page, a picture, and the bars on the terminal."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
from typing import Any

import tables
from bars import Bar, Results
from measure import Series


def say(text: str) -> None:
    print(text, flush=True)


def brief(series: Series) -> str:
    """One contestant's result in a case, while the run goes on."""
    return tables.duration(series.median_ns("warm")) if series.status == "ok" else series.status


def _to_json(series: Series, results: Results) -> dict[str, Any]:
    found: dict[str, Any] = {
        "section": series.case.section,
        "operation": series.case.operation,
        "bytes": series.case.bytes,
        "world_size": series.case.world_size,
        "contestant": series.contestant,
        "status": series.status,
        "note": series.note,
        "batch": series.batch,
        "allocate_ns": series.allocate_ns,
        "first_ns": series.first_ns,
        "daemon_cpu_ns": series.daemon_ns_per_operation(),
    }
    for temperature in ("warm", "cold"):
        found[temperature] = None
        if series.rounds.get(temperature):
            found[temperature] = {
                "median_ns": series.median_ns(temperature),
                "min_ns": series.min_ns(temperature),
                "share": results.share(series.case, series.contestant, temperature),
                "rounds_ns": series.rounds[temperature],
            }
    return found


def write(
    document: dict[str, Any], series: list[Series], bars: list[Bar], page: str, folder: pathlib.Path
) -> None:
    """Writes the run as JSON, as a page, and as a picture if there is matplotlib."""
    folder.mkdir(parents=True, exist_ok=True)
    results = Results(series)
    path = folder / document["name"]
    path.with_suffix(".md").write_text(page)
    document["series"] = [_to_json(each, results) for each in series]
    document["bars"] = [{**vars(bar), "verdict": bar.verdict} for bar in bars]
    path.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n")
    say("\n" + "\n".join([*tables.warning(document), *tables.bars_table(bars)]))
    plotter = os.environ.get("TUTTI_BENCH_PLOTTER", "")
    if plotter:
        script = str(pathlib.Path(__file__).with_name("plot.py"))
        png = path.with_suffix(".png")
        subprocess.run([plotter, script, str(path.with_suffix(".json")), str(png)], check=False)
    say(f"written: {path}.json, .md" + (", .png" if plotter else "; no plot without matplotlib"))
