"""The benchmark: called by tests/bench/run. docs/benchmarks.md says what it measures."""

from __future__ import annotations

import argparse
import datetime
import functools
import os
import pathlib
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import bench_report
import machine
import programs
import tables
from bars import Bar, Idle, Memory, Results, bars_of
from bench_report import brief, say
from cases import (
    ALLREDUCE_WORLDS,
    LARGE,
    LATENCY,
    LATENCY_WORLDS,
    Case,
    cases,
    latency_cases,
    size_name,
)
from contestants import (
    LATENCY_CONTESTANTS,
    THROUGHPUT_CONTESTANTS,
    TUTTI,
    TUTTI_RING,
    Contestant,
    Tools,
)
from crew import Crew, CrewError
from lanes import Lanes, LanesUnknown, describe, problem
from measure import Plan, Series, measure

sys.path.append(str(programs.ROOT / "tests" / "harness"))

from daemon import DaemonProcess  # noqa: E402

OUT = programs.ROOT / "build" / "bench"
PARTS = ("allreduce", "operations", "latency", "memory")

# What the daemon's memory is watched over. In the first part of the operations everything that
# grows once has grown.
_MEMORY_STEPS = 11

# How long the daemon is left idle.
_IDLE_S = 3.0

# A contestant, and its processes.
Entered = tuple[Contestant, Crew]


class Bench:
    """One run. Collects what goes into the report."""

    def __init__(self, tools: Tools, plan: Plan, options: argparse.Namespace) -> None:
        self._tools = tools
        self._plan = plan
        self._only = set(options.only or PARTS)
        self._largest: int = options.largest
        self._worlds: Sequence[int] = options.ranks or ALLREDUCE_WORLDS
        self._lanes = Lanes(tools.program("tutti"))
        self._most_kib = 0
        self.series: list[Series] = []
        # Name -> what it says that it is, or why it is missing, or has failed.
        self.contestants: dict[str, str] = {}
        # Section and number of ranks -> which lane each of Tutti's had.
        self.lanes: dict[str, str] = {}
        self.memory: Memory | None = None
        self.idle: Idle | None = None

    def run(self, daemon: DaemonProcess, memory_operations: int) -> None:
        wanted = cases(self._only, self._largest)
        for world_size in self._worlds:
            of_size = [case for case in wanted if case.world_size == world_size]
            if of_size:
                self._run_throughput(daemon, of_size, world_size)
        if "latency" in self._only:
            for world_size in self._worlds:
                if of_size := latency_cases(world_size, self._largest):
                    self._run_latency(daemon, of_size, world_size)
            self.idle = self._watch_idle(daemon)
        if "memory" in self._only:
            self.memory = self._watch_memory(daemon, memory_operations)

    def _run_throughput(self, daemon: DaemonProcess, wanted: list[Case], world_size: int) -> None:
        with ExitStack() as stack:
            crews, _ = self._start(stack, THROUGHPUT_CONTESTANTS, world_size)
            for case in wanted:
                self._measure(daemon, case, crews)
            self._note_lanes(f"throughput, {world_size} ranks", crews)

    def _run_latency(self, daemon: DaemonProcess, wanted: list[Case], world_size: int) -> None:
        with ExitStack() as stack:
            crews, failed = self._start(stack, LATENCY_CONTESTANTS, world_size)
            for contestant, crew in crews:
                if why := self._first_operation(crew) or self._lane_problem(contestant, crew):
                    failed[contestant] = why
                    say(f"  {contestant.title}: {why}")
            crews = [pair for pair in crews if pair[0] not in failed]
            for case in wanted:
                self._measure(daemon, case, crews)
            self._note_lanes(f"latency, {world_size} ranks", crews)
            # Whoever has lost its lane meanwhile has measured another.
            lost = {each.name: self._lane_problem(each, crew) for each, crew in crews}
        for series in self.series:
            if series.case in wanted and series.status == "ok":
                series.status = lost.get(series.contestant) or "ok"
        for contestant, why in failed.items():
            of_it = [case for case in wanted if contestant.takes(case)]
            self.series += [Series(case, contestant.name, status=why) for case in of_it]

    def _start(
        self, stack: ExitStack, contestants: Sequence[Contestant], world_size: int
    ) -> tuple[list[Entered], dict[Contestant, str]]:
        """Who takes part, and who could not although it is installed, with why."""
        crews = []
        failed = {}
        for contestant in contestants:
            if why := contestant.missing(self._tools):
                found = f"missing: {why}"
            else:
                try:
                    crew = contestant.start(self._tools, world_size)
                    stack.callback(crew.close)
                    crews.append((contestant, crew))
                    found = crew.description
                except (CrewError, OSError) as error:
                    why = failed[contestant] = str(error)
                    found = f"failed with {world_size} ranks: {why}"
            self.contestants[contestant.name] = found
            if why:
                say(f"  {contestant.title}: {why}")
        return crews, failed

    def _measure(self, daemon: DaemonProcess, case: Case, crews: list[Entered]) -> None:
        entered = [(contestant, crew) for contestant, crew in crews if contestant.takes(case)]
        clocks = {}
        if case.section == LATENCY:
            clock = functools.partial(machine.cpu_ns, daemon.pid)
            clocks = {contestant.name: clock for contestant, _ in entered if contestant.lane}
        found = measure(case, [crew for _, crew in entered], self._plan, clocks)
        self.series += found
        self._most_kib = max(self._most_kib, machine.anonymous_kib(daemon.pid))
        figures = [f"{each.contestant} {brief(each)}" for each in found]
        say(f"  {case}: " + ", ".join(figures))

    def _first_operation(self, crew: Crew) -> str:
        """A client need not have a lane before. Empty if all is well."""
        try:
            answers = crew.ask("prepare allreduce 4")
            crew.ask("drop")
        except CrewError as error:
            return str(error)
        return next((answer for answer in answers if not answer.startswith("ok ")), "")

    def _lane_problem(self, contestant: Contestant, crew: Crew) -> str:
        """Empty if it has the lane that it was told to take, or has none to take."""
        if contestant.lane in ("", "auto"):
            return ""
        try:
            return problem(self._lanes.wait(crew.pids, contestant.lane), contestant.lane)
        except LanesUnknown as error:
            return str(error)

    def _note_lanes(self, what: str, crews: list[Entered]) -> None:
        """Which lane each has, for the report: those that were told none have chosen one."""
        noted = []
        for contestant, crew in crews:
            if contestant.lane:
                try:
                    noted.append(f"{contestant.name} {describe(self._lanes.of(crew.pids))}")
                except LanesUnknown as error:
                    noted.append(f"{contestant.name} unknown: {error}")
        if noted:
            self.lanes[what] = "; ".join(noted)

    def _watch_idle(self, daemon: DaemonProcess) -> Idle:
        """As many sessions as the largest group of the latency has, on the ring."""
        try:
            with TUTTI_RING.start(self._tools, max(LATENCY_WORLDS)) as crew:
                why = self._first_operation(crew) or self._lane_problem(TUTTI_RING, crew)
                if why:
                    return Idle(failed=why)
                before_ns, start = machine.cpu_ns(daemon.pid), time.monotonic()
                time.sleep(_IDLE_S)
                spent_ns, seconds = machine.cpu_ns(daemon.pid) - before_ns, time.monotonic() - start
                sessions = len(crew.pids)
        except (CrewError, OSError) as error:
            return Idle(failed=str(error))
        idle = Idle(sessions, seconds, 100 * spent_ns / 1e9 / seconds)
        say(f"  idle daemon, {idle.sessions} sessions: {idle.percent:.2f} % of a core")
        return idle

    def _watch_memory(self, daemon: DaemonProcess, operations: int) -> Memory:
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
            most_kib=max(self._most_kib, *sizes_kib),
        )

    def bars(self) -> list[Bar]:
        return bars_of(Results(self.series), self.memory, self._largest, self.idle)


def _write(bench: Bench, document: dict[str, Any], folder: pathlib.Path) -> None:
    bars = bench.bars()
    document["contestants"] = bench.contestants
    document["lanes"] = bench.lanes
    document["memory"] = vars(bench.memory) if bench.memory else None
    document["idle"] = vars(bench.idle) if bench.idle else None
    page = tables.page(document, bench.series, bars)
    bench_report.write(document, bench.series, bars, page, folder)


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
        "--daemon",
        action="append",
        default=[],
        metavar="SETTING",
        help="of the daemon, e.g. --daemon=--inline_bytes_max=1KiB; may be repeated",
    )
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
        "daemon_settings": options.daemon,
    }
    say(f"others keep {document['busy_cores']} cores busy; largest {size_name(options.largest)}")
    bench = Bench(tools, plan, options)
    # Where the daemon's harness, and then the clients, look.
    os.environ["TUTTID"] = tools.program("tuttid")
    with DaemonProcess(options.daemon) as daemon:
        os.environ["TUTTI_SOCKET_DIR"] = str(daemon.socket_dir)
        bench.run(daemon, options.memory_operations or (11_000 if options.quick else 1_100_000))
    _write(bench, document, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
