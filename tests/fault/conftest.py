"""Fixtures of the fault tests. The binaries come from TUTTID, TUTTI_CLI and TUTTI_RANK."""

import os
import pathlib
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "harness"))

from node import Node

_FIGURES = pytest.StashKey[list[str]]()
_FAILED = pytest.StashKey[bool]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_FIGURES] = []
    missing = [name for name in ("TUTTID", "TUTTI_CLI", "TUTTI_RANK") if name not in os.environ]
    if missing:
        raise pytest.UsageError(f"set {', '.join(missing)} to what Bazel has built")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    item.stash[_FAILED] = item.stash.get(_FAILED, False) or report.failed
    return report


@pytest.fixture
def new_node(request: pytest.FixtureRequest) -> Iterator[Callable[..., Node]]:
    """Makes nodes. At the end of the test each is checked for what it has left, and ended."""
    with ExitStack() as stack:

        def make(*settings: str, **options: Any) -> Node:
            node = Node(settings, **options)
            stack.callback(node.close)
            stack.callback(lambda: node.end_of_test(request.node.stash.get(_FAILED, False)))
            return node

        yield make


@pytest.fixture
def node(new_node: Callable[..., Node]) -> Node:
    """One node with the daemon's defaults."""
    return new_node()


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Reports something measured: printed below the results, also when all is well."""
    figures = request.config.stash[_FIGURES]
    return lambda text: figures.append(f"{request.node.name}: {text}")


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    figures = config.stash[_FIGURES]
    if figures:
        terminalreporter.section("measured")
        for line in figures:
            terminalreporter.write_line(line)
