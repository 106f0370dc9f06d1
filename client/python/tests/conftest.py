"""Fixtures: a fake daemon, clients of it, and the ranks of a group."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_daemon import FakeDaemon
from ranks import in_threads

import tutti


@pytest.fixture
def socket_dir() -> Iterator[Path]:
    # pytest's own directories have names too long for Unix sockets.
    with tempfile.TemporaryDirectory(prefix="tutti") as name:
        yield Path(name)


@pytest.fixture(params=["ring", "grpc"])
def lane(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which lane clients have. Tests of one lane, or of neither, parametrize it indirectly."""
    monkeypatch.setenv("TUTTI_LANE", request.param)
    return str(request.param)


@pytest.fixture
def daemon(
    socket_dir: Path, lane: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FakeDaemon]:
    del lane
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
