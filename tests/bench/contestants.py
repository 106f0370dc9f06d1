"""Who takes part, and how their processes are started."""

from __future__ import annotations

import dataclasses
import pathlib
import shutil
import sys
from collections.abc import Callable

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

    def missing(self, tools: Tools) -> str:
        """Why it can't take part; empty if it can."""
        if not (tools.bin / self.target).exists():
            return f"{self.target} is not built"
        if self.name == "openmpi" and shutil.which(_MPIRUN[0]) is None:
            return "Open MPI is not installed; ./tests/bench/install does that"
        return ""

    def start(self, tools: Tools, world_size: int) -> Crew:
        commands = self.commands(tools, self.name, world_size)
        return Crew(self.name, commands, 1 if self.is_one_process else world_size)


def _one_each(program: str) -> Commands:
    def commands(tools: Tools, name: str, world_size: int) -> list[list[str]]:
        path = tools.program(program)
        return [[path, name, str(rank), str(world_size)] for rank in range(world_size)]

    return commands


def _bare(tools: Tools, name: str, world_size: int) -> list[list[str]]:
    return [[tools.program("bare"), name, "0", str(world_size)]]


def _mpi(tools: Tools, name: str, world_size: int) -> list[list[str]]:
    # The rank is told by MPI itself.
    program = [tools.program("mpi_rank"), name, "0", str(world_size)]
    return [[*_MPIRUN, "-np", str(world_size), *program]]


def _python(flavour: str) -> Commands:
    def commands(tools: Tools, name: str, world_size: int) -> list[list[str]]:
        library = tools.program("libbench_barrier.so")
        command = [tools.python or sys.executable, str(HERE / "python_rank.py"), flavour, library]
        return [[*command, name, str(rank), str(world_size)] for rank in range(world_size)]

    return commands


BARE = Contestant("bare", "bare kernel", "bare", _bare, is_one_process=True, allreduce_only=True)
TUTTI = Contestant("tutti", "Tutti", "tutti_rank", _one_each("tutti_rank"))
ARENA = Contestant(
    "py_arena", "Tutti, Python", "libbench_barrier.so", _python("arena"), allreduce_only=True
)
NUMPY = Contestant(
    "py_numpy", "Tutti, NumPy", "libbench_barrier.so", _python("numpy"), allreduce_only=True
)
OPENMPI = Contestant("openmpi", "Open MPI", "mpi_rank", _mpi)
GLOO = Contestant("gloo", "Gloo", "gloo_rank", _one_each("gloo_rank"))

CONTESTANTS = (BARE, TUTTI, ARENA, NUMPY, OPENMPI, GLOO)
TITLES = {contestant.name: contestant.title for contestant in CONTESTANTS}
