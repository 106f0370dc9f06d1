"""Who takes part, and how their processes are started."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable

from cases import SMALL, Case
from crew import Crew

HERE = pathlib.Path(__file__).resolve().parent

# --oversubscribe makes idle ranks yield where there are more of them than cores; without it eight
# ranks on two cores would mostly watch each other spin. Shared memory only, as on any one node.
_MPIRUN = (
    "mpirun",
    "--allow-run-as-root",
    "--oversubscribe",
    "--bind-to",
    "none",
    "--mca",
    "pml",
    "ob1",
    "--mca",
    "btl",
    "vader,self",
)


@dataclasses.dataclass(frozen=True)
class Tools:
    """What there is to run: folder of the built programs, interpreter with the Python client."""

    bin: pathlib.Path
    python: str

    def program(self, name: str) -> str:
        return str(self.bin / name)


Commands = Callable[[Tools, str, int], list[list[str]]]


@functools.cache
def _has_module(python: str, name: str) -> bool:
    find = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({name!r}) is None)"
    return subprocess.run([python, "-c", find], check=False).returncode == 0


@dataclasses.dataclass(frozen=True)
class Contestant:
    """`target` is what Bazel builds for it; `commands` starts it, given its name and world size."""

    name: str
    title: str
    target: str
    commands: Commands
    # All ranks in one process.
    is_one_process: bool = False
    allreduce_only: bool = False
    # Larger ones would be the same to it.
    small_only: bool = False
    # What $TUTTI_LANE says to its processes: "auto", "ring" or "grpc". Empty: it is not Tutti.
    lane: str = ""
    # A module that the interpreter needs.
    module: str = ""

    def takes(self, case: Case) -> bool:
        if self.allreduce_only and case.operation != "allreduce":
            return False
        return not self.small_only or case.bytes <= SMALL

    def missing(self, tools: Tools) -> str:
        """Why it can't take part; empty if it can."""
        if not (tools.bin / self.target).exists():
            return f"{self.target} is not built"
        if self.name == "openmpi" and shutil.which(_MPIRUN[0]) is None:
            return "Open MPI is not installed; ./tests/bench/install does that"
        if self.module and not _has_module(tools.python, self.module):
            return f"{tools.python} has no module {self.module}"
        return ""

    def start(self, tools: Tools, world_size: int) -> Crew:
        """Raises CrewError or OSError."""
        commands = self.commands(tools, self.name, world_size)
        parties = 1 if self.is_one_process else world_size
        return Crew(self.name, commands, parties, {"TUTTI_LANE": self.lane} if self.lane else {})


def _one_each(program: str) -> Commands:
    def commands(tools: Tools, name: str, world_size: int) -> list[list[str]]:
        path = tools.program(program)
        return [[path, name, str(rank), str(world_size)] for rank in range(world_size)]

    return commands


def _bare(tools: Tools, name: str, world_size: int) -> list[list[str]]:
    return [[tools.program("bare"), name, "0", str(world_size)]]


def _with_server(program: str) -> Commands:
    # The rank behind the last is the server.
    def commands(tools: Tools, name: str, world_size: int) -> list[list[str]]:
        path = tools.program(program)
        return [[path, name, str(rank), str(world_size)] for rank in range(world_size + 1)]

    return commands


def _mpi(tools: Tools, name: str, world_size: int) -> list[list[str]]:
    # The rank is told by MPI itself.
    program = [tools.program("mpi_rank"), name, "0", str(world_size)]
    return [[*_MPIRUN, "-np", str(world_size), *program]]


def _python(script: str, *flavour: str) -> Commands:
    def commands(tools: Tools, name: str, world_size: int) -> list[list[str]]:
        library = tools.program(_LIBRARY)
        command = [tools.python or sys.executable, str(HERE / script), *flavour, library]
        return [[*command, name, str(rank), str(world_size)] for rank in range(world_size)]

    return commands


# The barrier, for Python.
_LIBRARY = "libbench_barrier.so"

BARE = Contestant("bare", "bare kernel", "bare", _bare, is_one_process=True, allreduce_only=True)
TUTTI = Contestant("tutti", "Tutti", "tutti_rank", _one_each("tutti_rank"), lane="auto")
ARENA = Contestant(
    "py_arena",
    "Tutti, Python",
    _LIBRARY,
    _python("python_rank.py", "arena"),
    allreduce_only=True,
    lane="auto",
)
NUMPY = Contestant(
    "py_numpy",
    "Tutti, NumPy",
    _LIBRARY,
    _python("python_rank.py", "numpy"),
    allreduce_only=True,
    lane="auto",
)
OPENMPI = Contestant("openmpi", "Open MPI", "mpi_rank", _mpi)
GLOO = Contestant("gloo", "Gloo", "gloo_rank", _one_each("gloo_rank"))

# Of the latency only. There the lane is not left to the clients: what is compared is the lane.
TUTTI_RING = dataclasses.replace(TUTTI, lane="ring")
TUTTI_GRPC = dataclasses.replace(TUTTI, name="tutti_grpc", title="Tutti, gRPC", lane="grpc")
ARENA_RING = dataclasses.replace(ARENA, lane="ring")
TORCH_GLOO = Contestant(
    "torch_gloo",
    "torch, Gloo",
    _LIBRARY,
    _python("torch_rank.py"),
    allreduce_only=True,
    module="torch",
)
BARE_RING = Contestant(
    "bare_ring",
    "bare ring",
    "bare_ring",
    _with_server("bare_ring"),
    allreduce_only=True,
    small_only=True,
)
BARE_STREAM = Contestant(
    "bare_stream",
    "bare stream",
    "bare_stream",
    _with_server("bare_stream"),
    allreduce_only=True,
    small_only=True,
)

THROUGHPUT_CONTESTANTS = (BARE, TUTTI, ARENA, NUMPY, OPENMPI, GLOO)
LATENCY_CONTESTANTS = (
    BARE_RING,
    BARE_STREAM,
    TUTTI_RING,
    TUTTI_GRPC,
    ARENA_RING,
    OPENMPI,
    GLOO,
    TORCH_GLOO,
)
# What a name has for a title is the same in both.
TITLES = {each.name: each.title for each in (*THROUGHPUT_CONTESTANTS, *LATENCY_CONTESTANTS)}
