"""The benchmark: called by tests/bench/run. docs/benchmarks.md says what it measures."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import machine
import programs
import tables
from bars import Bar, Memory, Results, bars_of
from cases import ALLREDUCE_WORLDS, LARGE, Case, cases, size_name
from contestants import CONTESTANTS, TUTTI, Contestant, Tools
from crew import Crew, CrewError
from measure import Plan, Series, measure

sys.path.append(str(programs.ROOT / "tests" / "harness"))

from daemon import DaemonProcess  # noqa: E402

OUT = programs.ROOT / "build" / "bench"
PARTS = ("allreduce", "operations", "memory")

# What the daemon's memory is watched over. In the first part of the operations everything that
# grows once has grown.
_MEMORY_STEPS = 11


class Bench:
    """One run. Collects what goes into the report."""

    def __init__(self, tools: Tools, plan: Plan, options: argparse.Namespace) -> None:
        self._tools = tools
        self._plan = plan
        self._only = set(options.only or PARTS)
        self._largest: int = options.largest
        self._worlds: Sequence[int] = options.ranks or ALLREDUCE_WORLDS
        self.series: list[Series] = []
        # Name -> what it says that it is, or why it is missing.
        self.contestants: dict[str, str] = {}
        self.memory: Memory | None = None

    def run(self, daemon: DaemonProcess, memory_operations: int) -> None:
        most_kib = 0
        wanted = cases(self._only, self._largest)
        for world_size in self._worlds:
            of_size = [case for case in wanted if case.world_size == world_size]
            with ExitStack() as stack:
                crews = self._start(stack, world_size) if of_size else []
                for case in of_size:
                    self._measure(case, [crew for crew in crews if _takes(crew, case)])
                    most_kib = max(most_kib, machine.anonymous_kib(daemon.pid))
        if "memory" in self._only:
            self.memory = self._watch_memory(daemon, memory_operations, most_kib)

    def _start(self, stack: ExitStack, world_size: int) -> list[Crew]:
        crews = []
        for contestant in CONTESTANTS:
            why = contestant.missing(self._tools)
            if not why:
                try:
                    crew = contestant.start(self._tools, world_size)
                    stack.callback(crew.close)
                    crews.append(crew)
                    self.contestants[contestant.name] = crew.description
                    continue
                except (CrewError, OSError) as error:
                    why = str(error)
            self.contestants[contestant.name] = f"missing: {why}"
            say(f"  {contestant.title}: {why}")
        return crews

    def _measure(self, case: Case, crews: list[Crew]) -> None:
        found = measure(case, crews, self._plan)
        self.series += found
        figures = [f"{each.contestant} {_brief(each)}" for each in found]
        say(f"  {case}: " + ", ".join(figures))

    def _watch_memory(self, daemon: DaemonProcess, operations: int, most_kib: int) -> Memory:
        step = operations // _MEMORY_STEPS
        sizes_kib = []
        with TUTTI.start(self._tools, 2) as crew:
            crew.ask("prepare allreduce 4096")
            for _ in range(_MEMORY_STEPS):
                crew.run("warm", 1, step)
                sizes_kib.append(machine.anonymous_kib(daemon.pid))
        say(f"  the daemon's own memory over {step * _MEMORY_STEPS:,} operations: {sizes_kib} KiB")
        return Memory(
            operations=step * (_MEMORY_STEPS - 1),
            before_kib=sizes_kib[0],
            after_kib=sizes_kib[-1],
            most_kib=max(most_kib, *sizes_kib),
        )

    def bars(self) -> list[Bar]:
        return bars_of(Results(self.series), self.memory, self._largest)


def say(text: str) -> None:
    print(text, flush=True)


def _takes(crew: Crew, case: Case) -> bool:
    contestant: Contestant = next(each for each in CONTESTANTS if each.name == crew.name)
    return case.operation == "allreduce" or not contestant.allreduce_only


def _brief(series: Series) -> str:
    return tables.duration(series.median_ns("warm")) if series.status == "ok" else series.status


def _to_json(series: Series, results: Results) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operation": series.case.operation,
        "bytes": series.case.bytes,
        "world_size": series.case.world_size,
        "contestant": series.contestant,
        "status": series.status,
        "note": series.note,
        "batch": series.batch,
        "allocate_ns": series.allocate_ns,
        "first_ns": series.first_ns,
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


def write(bench: Bench, document: dict[str, Any], folder: pathlib.Path) -> None:
    """Writes the run as JSON, as a page, and as a picture if there is matplotlib."""
    folder.mkdir(parents=True, exist_ok=True)
    bars = bench.bars()
    results = Results(bench.series)
    document["contestants"] = bench.contestants
    path = folder / document["name"]
    path.with_suffix(".md").write_text(tables.page(document, bench.series, bars))
    document["series"] = [_to_json(each, results) for each in bench.series]
    document["memory"] = vars(bench.memory) if bench.memory else None
    document["bars"] = [{**vars(bar), "verdict": bar.verdict} for bar in bars]
    path.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n")
    say("\n" + "\n".join([*tables.warning(document), *tables.bars_table(bars)]))
    plotter = os.environ.get("TUTTI_BENCH_PLOTTER", "")
    if plotter:
        script = str(pathlib.Path(__file__).with_name("plot.py"))
        png = path.with_suffix(".png")
        subprocess.run([plotter, script, str(path.with_suffix(".json")), str(png)], check=False)
    say(f"written: {path}.json, .md" + (", .png" if plotter else "; no plot without matplotlib"))


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests/bench/run", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rounds: shapes, not figures")
    parser.add_argument(
        "--only", action="append", choices=PARTS, help="a part of the run; may be repeated"
    )
    parser.add_argument("--name", help="of the files in build/bench (default: quick or full)")
    parser.add_argument("--rounds", type=int, help="turns of each contestant (default: 3 or 9)")
    parser.add_argument("--out", type=pathlib.Path, default=OUT, help="default: build/bench")
    parser.add_argument("--seed", type=int, default=1, help="of the order of the turns")
    parser.add_argument(
        "--bin", type=pathlib.Path, help="run the programs in this folder, and build nothing"
    )
    # For the test of the benchmark.
    parser.add_argument("--largest", type=int, default=LARGE, help=argparse.SUPPRESS)
    parser.add_argument("--ranks", type=int, action="append", help=argparse.SUPPRESS)
    parser.add_argument("--memory-operations", type=int, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    plan = Plan(
        rounds=options.rounds or (3 if options.quick else 9),
        samples=3 if options.quick else 5,
        seed=options.seed,
    )
    python = os.environ.get("TUTTI_BENCH_PYTHON", sys.executable)
    tools = Tools(options.bin or programs.build(["--config=release"]), python)
    document = {
        "name": options.name or ("quick" if options.quick else "full"),
        "started": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "busy_cores": round(machine.busy_cores(), 2),
        "machine": machine.describe(programs.ROOT),
        "plan": vars(plan),
    }
    say(f"others keep {document['busy_cores']} cores busy; largest {size_name(options.largest)}")
    bench = Bench(tools, plan, options)
    # Where the daemon's harness, and then the clients, look.
    os.environ["TUTTID"] = tools.program("tuttid")
    with DaemonProcess() as daemon:
        os.environ["TUTTI_SOCKET_DIR"] = str(daemon.socket_dir)
        bench.run(daemon, options.memory_operations or (11_000 if options.quick else 1_100_000))
    write(bench, document, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
