"""Who takes part over several nodes, and how their processes are started."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable

from contestants import HERE, Tools
from crew import Crew
from nodes_network import Network

Start = Callable[[Tools, Network, str], Crew]
# "NAME=value" of the environment by which a rank finds its place.
Where = Callable[[Network, int], str]

# Shared memory within a node, TCP between them.
_MPI_SETTINGS = {
    "pml": "ob1",
    "btl": "tcp,vader,self",
    "btl_tcp_if_include": "eth0",
    "oob_tcp_if_include": "eth0",
    "plm_rsh_agent": str(HERE / "enter_host"),
    "plm_rsh_no_tree_spawn": "1",
}


@dataclasses.dataclass(frozen=True)
class NodesContestant:
    """`target` is what Bazel builds for it."""

    name: str
    title: str
    target: str
    start: Start
    # A program that it needs.
    needs: str = ""

    def missing(self, tools: Tools) -> str:
        """Why it can't take part; empty if it can."""
        if not (tools.bin / self.target).exists():
            return f"{self.target} is not built"
        if self.needs and shutil.which(self.needs) is None:
            return f"there is no {self.needs}; ./tests/bench/install brings it"
        return ""


def _on_hosts(tools: Tools, network: Network, name: str, program: str, where: Where) -> Crew:
    """A process for each rank on its host, with what `where` says of the rank's place set."""
    commands = []
    for rank in range(network.layout.world_size):
        start = [*network.host_of(rank).enter, "env", where(network, rank), tools.program(program)]
        commands.append([*start, name, str(rank), str(network.layout.world_size)])
    return Crew(name, commands, network.layout.world_size)


def _tutti(tools: Tools, network: Network, name: str) -> Crew:
    def where(network: Network, rank: int) -> str:
        return f"TUTTI_SOCKET_DIR={network.daemons[network.node_of(rank)].socket_dir}"

    return _on_hosts(tools, network, name, "tutti_rank", where)


def _gloo(tools: Tools, network: Network, name: str) -> Crew:
    def where(network: Network, rank: int) -> str:
        return f"TUTTI_BENCH_ADDRESS={network.host_of(rank).address}"

    return _on_hosts(tools, network, name, "gloo_rank", where)


def _openmpi(tools: Tools, network: Network, name: str) -> Crew:
    hosts = [network.hosts[index] for index in range(network.layout.nodes)]
    slots = ",".join(f"{host.address}:{network.layout.ranks_per_node}" for host in hosts)
    settings = [word for pair in _MPI_SETTINGS.items() for word in ("--mca", *pair)]
    world = str(network.layout.world_size)
    mpirun = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", *settings]
    program = [tools.program("mpi_rank"), name, "0", world]
    enter = [str(HERE / "enter_host"), hosts[0].address]
    named = " ".join(f"{host.address}={host.name}" for host in hosts)
    command = [*enter, *mpirun, "--host", slots, "-np", world, *program]
    return Crew(name, [command], network.layout.world_size, {"TUTTI_BENCH_HOSTS": named})


TUTTI = NodesContestant("tutti", "Tutti", "tutti_rank", _tutti)
GLOO = NodesContestant("gloo", "Gloo", "gloo_rank", _gloo)
OPENMPI = NodesContestant("openmpi", "Open MPI", "mpi_rank", _openmpi, needs="mpirun")

CONTESTANTS = (TUTTI, OPENMPI, GLOO)
PEERS = (OPENMPI, GLOO)
TITLES = {each.name: each.title for each in CONTESTANTS}
