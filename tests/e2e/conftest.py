"""Fixtures of the end-to-end tests: a real daemon. The binary comes from TUTTID, that of the ranks
that do what they are told from TUTTI_RANK.
"""

from __future__ import annotations

import itertools
import os
import pathlib
import sys
from collections.abc import Callable, Iterator, Sequence

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "harness"))

from daemon import DaemonProcess
from node import Node
from rank import Rank, join_all, must_all


@pytest.fixture(scope="module")
def daemon_of_module() -> Iterator[DaemonProcess]:
    """A daemon for all tests of a file."""
    _skip_without_binary()
    with pytest.MonkeyPatch.context() as patch, DaemonProcess() as process:
        patch.setenv("TUTTI_SOCKET_DIR", str(process.socket_dir))
        yield process
        assert process.terminate() == 0, process.log


@pytest.fixture
def daemon(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[DaemonProcess]:
    """A daemon that clients of this process and its children find. Parametrize it indirectly to
    give it settings.
    """
    _skip_without_binary()
    with DaemonProcess(getattr(request, "param", ())) as process:
        monkeypatch.setenv("TUTTI_SOCKET_DIR", str(process.socket_dir))
        yield process
        if process.is_alive():
            assert process.terminate() == 0, process.log


@pytest.fixture(scope="module", params=("ring", "grpc"))
def lane(request: pytest.FixtureRequest) -> Iterator[str]:
    """The lane of clients of this process and its children: all tests of the file run on both."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUTTI_LANE", request.param)
        yield request.param


class Crew:
    """Ranks that outlive the tests of a file, with a new group for each who asks."""

    _groups = itertools.count(1)

    def __init__(self, node: Node, ranks: Sequence[Rank]) -> None:
        self.node = node
        self.ranks = ranks
        self._joined: list[tuple[Sequence[Rank], str]] = []

    def group(self, world: int) -> tuple[Sequence[Rank], str]:
        """The first ranks, and the name of their new group."""
        ranks, name = self.ranks[:world], f"g{next(self._groups)}"
        join_all(ranks, name)
        self._joined.append((ranks, name))
        return ranks, name

    def leave_all(self) -> None:
        """At the end of a test."""
        for ranks, name in self._joined:
            must_all(ranks, f"leave {name}")
        self._joined.clear()


@pytest.fixture(scope="module", params=["ring", "grpc"])
def crew_of_module(request: pytest.FixtureRequest) -> Iterator[Crew]:
    _skip_without_binary("TUTTID", "TUTTI_RANK")
    node = Node()
    failed_before = request.session.testsfailed
    try:
        yield Crew(node, node.new_ranks(4, lane=request.param))
        node.end_of_test(failed=request.session.testsfailed > failed_before)
    finally:
        node.close()


@pytest.fixture
def crew(crew_of_module: Crew) -> Iterator[Crew]:
    """Up to four ranks with the daemon of the file, on either lane. At the end they leave what they
    have joined.
    """
    yield crew_of_module
    crew_of_module.leave_all()


@pytest.fixture
def new_node() -> Iterator[Callable[..., Node]]:
    """Makes nodes with settings of their own."""
    _skip_without_binary("TUTTID", "TUTTI_RANK")
    nodes: list[Node] = []

    def make(*settings: str) -> Node:
        nodes.append(Node(settings))
        return nodes[-1]

    try:
        yield make
        for node in nodes:
            node.end_of_test(failed=False)
    finally:
        for node in nodes:
            node.close()


def _skip_without_binary(*variables: str) -> None:
    for variable in variables or ("TUTTID",):
        if variable not in os.environ:
            pytest.skip(f"{variable} is not set: the path of a binary")
