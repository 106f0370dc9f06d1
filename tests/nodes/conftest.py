"""Fixtures of the tests of several nodes: daemons on hosts of their own, one of them the seed.

The binaries come from TUTTID, TUTTI_CLI and TUTTI_RANK.
"""

from __future__ import annotations

import os
import pathlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "harness"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))

import hosts
from authority import make_authority
from etcd import Etcd
from node import Node
from rank import Rank

PORT = 7411


def pytest_configure() -> None:
    missing = [name for name in ("TUTTID", "TUTTI_CLI", "TUTTI_RANK") if name not in os.environ]
    if missing:
        raise pytest.UsageError(f"set {', '.join(missing)} to what Bazel has built")


class Nodes:
    """A daemon on each of several hosts; the first is the seed, unless they elect it. They speak
    mutual TLS.
    """

    def __init__(self, count: int, settings: Sequence[str] = (), elect: bool = False) -> None:
        self._stack = ExitStack()
        self.certs = pathlib.Path(
            self._stack.enter_context(tempfile.TemporaryDirectory(prefix="tutti-certs-"))
        )
        make_authority(self.certs, "test", count)
        self.hosts = self._stack.enter_context(hosts.Hosts(count + elect))
        # On the last host.
        self.etcd = self._stack.enter_context(Etcd(self.hosts[count])) if elect else None
        self._settings = tuple(settings)
        self.nodes = [self.start(index) for index in range(count)]

    def start(self, index: int) -> Node:
        """A daemon on a host where none runs."""
        tls = f"--peer_tls_dir={self.certs}/node{index}"
        settings = (*self._role(index), tls, *self._settings)
        node = Node(settings, through=self.hosts[index].enter)
        self._stack.callback(node.close)
        return node

    def _role(self, index: int) -> tuple[str, ...]:
        if self.etcd is not None:
            address = f"{self.hosts[index].address}:{PORT}"
            return (f"--peer_address={address}", f"--etcd={self.etcd.address}")
        seed = f"{self.hosts[0].address}:{PORT}"
        return (f"--peer_address={seed}" if index == 0 else f"--join={seed}",)

    def new_ranks(self, where: Sequence[int]) -> list[Rank]:
        """Rank i is on node where[i]. Both lanes take turns."""
        return [
            self.nodes[node].new_rank(lane=("ring", "grpc")[rank % 2])
            for rank, node in enumerate(where)
        ]

    def cut(self, a: int, b: int) -> None:
        """Neither hears the other any more, and nobody is told."""
        self.hosts[a].cut(self.hosts[b])
        self.hosts[b].cut(self.hosts[a])

    def heal(self, a: int, b: int) -> None:
        self.hosts[a].heal(self.hosts[b])
        self.hosts[b].heal(self.hosts[a])

    def close(self) -> None:
        self._stack.close()


@pytest.fixture
def new_nodes() -> Iterator[Callable[..., Nodes]]:
    """Makes nodes, and ends them with the test: daemons that a test has not killed still live."""
    if reason := hosts.why_not():
        pytest.skip(reason)
    with ExitStack() as stack:

        def make(count: int, *settings: str, elect: bool = False) -> Nodes:
            nodes = Nodes(count, settings, elect)
            stack.callback(nodes.close)
            return nodes

        yield make
