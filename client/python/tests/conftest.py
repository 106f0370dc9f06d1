"""Fixtures: a fake daemon, clients of it, and the ranks of a group."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_daemon import FakeDaemon

import tutti


@pytest.fixture
def socket_dir() -> Iterator[Path]:
    # pytest's own directories have names too long for Unix sockets.
    with tempfile.TemporaryDirectory(prefix="tutti") as name:
        yield Path(name)


@pytest.fixture
def daemon(socket_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    monkeypatch.setenv("TUTTI_SOCKET_DIR", str(socket_dir))
    fake = FakeDaemon(socket_dir)
    yield fake
    fake.stop()


@pytest.fixture
def client(daemon: FakeDaemon) -> Iterator[tutti.Client]:
    del daemon
    with tutti.Client() as made:
        yield made


@pytest.fixture
def single(client: tutti.Client) -> tutti.Group:
    """A group of one rank."""
    return client.join("single", 0, 1)


@pytest.fixture
def pair(client: tutti.Client) -> list[tutti.Group]:
    """Both ranks of a group of two, in one session."""
    return in_threads(2, lambda rank: client.join("pair", rank, 2))


def in_threads(count: int, body: Callable[[int], Any]) -> list[Any]:
    """Runs body(0) to body(count - 1) at once; returns what they return, raises what one raises."""
    results: list[Any] = [None] * count
    errors: list[BaseException] = []

    def run(index: int) -> None:
        try:
            results[index] = body(index)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive(), "a rank hangs"
    if errors:
        raise errors[0]
    return results
