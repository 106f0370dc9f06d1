"""The benchmark over several nodes: called by tests/bench/run_nodes. docs/benchmarks.md says what
it measures.
"""

from __future__ import annotations

import argparse
import datetime
import os
import pathlib
import sys
from contextlib import ExitStack
from typing import Any

import bench_report
import machine
import programs
from bars import Results
from bench_report import brief, say
from cases import LARGE
from contestants import Tools
from crew import Crew, CrewError
from measure import Plan, Series, measure
from nodes_bars import nodes_bars
from nodes_cases import LAYOUTS, Layout, nodes_cases
from nodes_contestants import CONTESTANTS
from nodes_network import Network
from nodes_tables import nodes_page

OUT = programs.ROOT / "build" / "bench"


class NodesBench:
    """One run. Collects what goes into the report."""

    def __init__(self, tools: Tools, plan: Plan, largest: int) -> None:
        self._tools = tools
        self._plan = plan
        self._largest = largest
        self.series: list[Series] = []
        self.contestants: dict[str, str] = {}

    def run(self, layout: Layout) -> None:
        """All cases of this layout."""
        say(f"{layout.section}:")
        with Network(layout) as network, ExitStack() as stack:
            crews = self._start(stack, network)
            for case in nodes_cases(layout, self._largest):
                found = measure(case, crews, self._plan)
                self.series += found
                figures = ", ".join(f"{each.contestant} {brief(each)}" for each in found)
                say(f"  {case.operation} {case.bytes}: {figures}")

    def _start(self, stack: ExitStack, network: Network) -> list[Crew]:
        crews = []
        for contestant in CONTESTANTS:
            why = contestant.missing(self._tools)
            if why:
                why = f"missing: {why}"
            else:
                try:
                    crew = contestant.start(self._tools, network, contestant.name)
                    stack.callback(crew.close)
                    crews.append(crew)
                    self.contestants.setdefault(contestant.name, crew.description)
                except (CrewError, OSError) as error:
                    why = f"failed: {error}"
            if why:
                self.contestants[contestant.name] = why
                say(f"  {contestant.title}: {why}")
        return crews


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests/bench/run_nodes", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rounds: shapes, not figures")
    parser.add_argument("--nodes", type=int, action="append", help="only so many; may be repeated")
    parser.add_argument("--network", choices=("unlimited", "limited"), help="only this one")
    parser.add_argument("--name", help="of the files in build/bench (default: nodes[_quick])")
    parser.add_argument("--rounds", type=int, help="turns of each contestant (default: 2 or 7)")
    parser.add_argument("--out", type=pathlib.Path, default=OUT, help="default: build/bench")
    parser.add_argument("--seed", type=int, default=1, help="of the order of the turns")
    parser.add_argument("--largest", type=int, default=LARGE, help="of the sizes, in bytes")
    parser.add_argument(
        "--bin", type=pathlib.Path, help="run the programs in this folder, and build nothing"
    )
    return parser.parse_args(arguments)


def _layouts(options: argparse.Namespace) -> list[Layout]:
    return [
        layout
        for layout in LAYOUTS
        if (not options.nodes or layout.nodes in options.nodes)
        and options.network in (None, "limited" if layout.limit_mbit else "unlimited")
    ]


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    rounds = options.rounds or (2 if options.quick else 7)
    plan = Plan(rounds=rounds, samples=2 if options.quick else 3, seed=options.seed)
    folder = (options.bin or programs.build(["--config=release"])).absolute()
    document: dict[str, Any] = {
        "name": options.name or ("nodes_quick" if options.quick else "nodes"),
        "started": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "busy_cores": round(machine.busy_cores(), 2),
        "machine": machine.describe(programs.ROOT),
        "plan": vars(plan),
    }
    say(f"others keep {document['busy_cores']} cores busy")
    tools = Tools(folder, sys.executable)
    # Where the harness looks.
    os.environ["TUTTID"] = tools.program("tuttid")
    os.environ["TUTTI_CLI"] = tools.program("tutti")
    bench = NodesBench(tools, plan, options.largest)
    for layout in _layouts(options):
        bench.run(layout)
    document["contestants"] = bench.contestants
    bars = nodes_bars(Results(bench.series), options.largest)
    page = nodes_page(document, bench.series, bars)
    bench_report.write(document, bench.series, bars, page, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
