"""The benchmark in Ray: called by tests/bench/run_ray. docs/benchmarks.md says what it measures."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib.metadata
import os
import pathlib
import sys
import time
from typing import Any

import bench_report
import machine
import programs
import ray
from bars import Results
from bench_report import brief, say
from crew import CrewError
from lanes import Lanes, LanesUnknown, describe
from measure import Plan, Series, measure
from ray_bars import ray_bars
from ray_cases import CONTESTANTS, GLOOS, LARGEST, WORLDS, ray_cases
from ray_crew import Actors, RayCrew
from ray_events import Event
from ray_groups import creation, recovery
from ray_tables import ray_page

import tutti.ray

HERE = pathlib.Path(__file__).resolve().parent
OUT = programs.ROOT / "build" / "bench"

# Two steps' worth of the largest arrays of four actors, and what frees itself late.
_OBJECT_STORE_BYTES = 6 << 30

_RECOVERY_WORLD = 4
_RAY_ENDS_S = 5.0


class RayBench:
    """One run. Collects what goes into the report."""

    def __init__(self, folder: pathlib.Path, plan: Plan, options: argparse.Namespace) -> None:
        self._library = str(folder / "libbench_barrier.so")
        self._lanes = Lanes(str(folder / "tutti"))
        self._plan = plan
        self._largest: int = options.largest
        self._worlds: tuple[int, ...] = tuple(options.ranks or WORLDS)
        self._group_rounds: int = options.group_rounds
        self.series: list[Series] = []
        self.events: list[Event] = []
        self.contestants = {each.name: each.description for each in CONTESTANTS}
        # Number of actors -> which lane Tutti's have.
        self.lanes: dict[str, str] = {}

    def run(self) -> None:
        for world_size in self._worlds:
            with Actors(world_size, self._library) as actors:
                self._run_operations(actors)
        for world_size in self._worlds:
            self._note(creation(world_size, self._group_rounds, self._plan.seed))
        if _RECOVERY_WORLD in self._worlds:
            self._note(recovery(_RECOVERY_WORLD, "tutti", self._group_rounds))
            self._note(recovery(_RECOVERY_WORLD, "gloo", 1))

    def _run_operations(self, actors: Actors) -> None:
        actors.ask("join", "tutti")
        crews = [RayCrew(each, actors) for each in CONTESTANTS]
        try:
            actors.ask("join", "gloo")
        except CrewError as error:
            say(f"  Ray's Gloo: {error}")
            self.contestants |= {each.name: f"failed: {error}" for each in GLOOS}
            crews = [crew for crew in crews if crew.name not in {each.name for each in GLOOS}]
        for case in ray_cases(actors.world_size, self._largest):
            found = measure(case, crews, self._plan)
            self.series += found
            say(f"  {case}: " + ", ".join(f"{each.contestant} {brief(each)}" for each in found))
        try:
            lanes = describe(self._lanes.of(actors.pids))
        except LanesUnknown as error:
            lanes = f"unknown: {error}"
        self.lanes[f"{actors.world_size} actors"] = lanes

    def _note(self, events: list[Event]) -> None:
        self.events += events
        for each in events:
            figures = ", ".join(f"{ns / 1e6:.1f} ms" for ns in each.samples_ns)
            say(f"  {each.what}, {each.world_size} actors, {each.flavour}: {figures} {each.status}")


def _start_ray(tuttid: pathlib.Path) -> str:
    """A cluster of one node, as a user would have it. Returns where its daemon's sockets are."""
    # The daemon of Ray's node is meant, and no other; Ray would ask for tokens of its own.
    for variable in ("TUTTI_SOCKET_DIR", "TUTTI_NAMESPACE", "TUTTI_LANE"):
        os.environ.pop(variable, None)
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(
        # Not one that runs here already.
        address="local",
        num_cpus=8,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=_OBJECT_STORE_BYTES,
        runtime_env={
            "worker_process_setup_hook": "tutti.ray.register",
            # The actors' modules are these.
            "env_vars": {"TUTTID": str(tuttid), "PYTHONPATH": str(HERE)},
        },
    )
    begin = time.monotonic()
    (node,) = tutti.ray.start()
    say(f"  the node's daemon is there after {time.monotonic() - begin:.2f} s")
    return node.socket_dir


def _versions() -> dict[str, str]:
    """Of what is compared with."""
    found = {}
    for name in ("ray", "torch", "numpy"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests/bench/run_ray", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rounds: shapes, not figures")
    parser.add_argument("--name", help="of the files in build/bench (default: ray_quick or ray)")
    parser.add_argument("--rounds", type=int, help="turns of each contestant (default: 2 or 5)")
    parser.add_argument("--out", type=pathlib.Path, default=OUT, help="default: build/bench")
    parser.add_argument("--seed", type=int, default=1, help="of the order of the turns")
    parser.add_argument(
        "--bin", type=pathlib.Path, help="run the programs in this folder, and build nothing"
    )
    # For the test of the benchmark.
    parser.add_argument("--largest", type=int, default=LARGEST, help=argparse.SUPPRESS)
    parser.add_argument("--ranks", type=int, action="append", help=argparse.SUPPRESS)
    parser.add_argument("--group-rounds", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (2 if options.quick else 5)
    options.group_rounds = options.group_rounds or (1 if options.quick else 3)
    return options


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    plan = Plan(rounds=options.rounds, samples=2 if options.quick else 3, seed=options.seed)
    folder = (options.bin or programs.build_in_ray(["--config=release"])).absolute()
    document: dict[str, Any] = {
        "name": options.name or ("ray_quick" if options.quick else "ray"),
        "started": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "busy_cores": round(machine.busy_cores(), 2),
        "machine": {**machine.describe(programs.ROOT), **_versions()},
        "plan": vars(plan),
    }
    say(f"others keep {document['busy_cores']} cores busy")
    bench = RayBench(folder, plan, options)
    try:
        # Where the tool looks; Ray's processes do not see it.
        os.environ["TUTTI_SOCKET_DIR"] = _start_ray(folder / "tuttid")
        bench.run()
    finally:
        ray.shutdown()
    # Who comes in the middle of it is seen, if he stays. Ray's own processes take a while to end.
    time.sleep(_RAY_ENDS_S)
    document["busy_cores"] = max(document["busy_cores"], round(machine.busy_cores(), 2))
    document["contestants"] = bench.contestants
    document["lanes"] = bench.lanes
    document["groups"] = [vars(each) for each in bench.events]
    bars = ray_bars(Results(bench.series))
    page = ray_page(document, bench.series, bench.events, bars)
    bench_report.write(document, bench.series, bars, page, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
