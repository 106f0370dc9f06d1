"""TUTTI_LANE: which lane a client gets, and what it says if it isn't the one that was wanted."""

from __future__ import annotations

import os
from typing import Any

import pytest
from fake_daemon import FakeDaemon, failure, wait_until

import tutti
from tutti import _ring
from tutti._ring_lane import RingLane
from tutti._stream_lane import StreamLane
from tutti.v1 import types_pb2

ANY = pytest.mark.parametrize("lane", ["auto", ""], indirect=True)
RING = pytest.mark.parametrize("lane", ["ring"], indirect=True)
GRPC = pytest.mark.parametrize("lane", ["grpc"], indirect=True)


def falls_back(daemon: FakeDaemon) -> str:
    """Makes a client, which must be on a stream. Returns why."""
    with tutti.Client() as client:
        assert isinstance(client._lane, StreamLane)
        client.join("g", 0, 1).barrier(timeout=10)
        session = next(iter(daemon.sessions.values()))
        assert not session.arenas, "nothing is left of the ring"
        reason = str(session.opened.no_ring)
    wait_until(lambda: not daemon.sessions)
    return reason


@ANY
def test_the_ring_wherever_it_can_be_had(client: tutti.Client, daemon: FakeDaemon) -> None:
    assert isinstance(client._lane, RingLane)
    client.join("g", 0, 1).barrier(timeout=10)
    assert daemon.streams == 0


@RING
def test_ring(client: tutti.Client) -> None:
    assert isinstance(client._lane, RingLane)


@GRPC
def test_grpc(daemon: FakeDaemon) -> None:
    assert falls_back(daemon) == "TUTTI_LANE=grpc"
    assert "create_ring" not in daemon.requests


@pytest.mark.parametrize("lane", ["Ring", "stream", "0", " "], indirect=True)
def test_no_such_lane(daemon: FakeDaemon, lane: str) -> None:
    with pytest.raises(ValueError, match="TUTTI_LANE must be auto, ring or grpc") as caught:
        tutti.Client()
    assert repr(lane) in str(caught.value)
    assert not daemon.requests


class TestRefused:
    """By the daemon, for want of memory, and by the machine."""

    @ANY
    def test_auto(self, daemon: FakeDaemon) -> None:
        daemon.no_ring = failure(types_pb2.CAUSE_UNSUPPORTED, "rings are for x86-64 only")
        assert falls_back(daemon) == "rings are for x86-64 only"

    @ANY
    def test_the_reason_is_short(self, daemon: FakeDaemon) -> None:
        daemon.no_ring = failure(types_pb2.CAUSE_INVALID, "x" + "ж" * 1000)
        assert falls_back(daemon) == "x" + "ж" * 127

    @RING
    def test_ring(self, daemon: FakeDaemon) -> None:
        daemon.no_ring = failure(types_pb2.CAUSE_LIMIT, "too many rings", group="")
        with pytest.raises(tutti.LimitError, match="TUTTI_LANE=ring.*: too many rings") as got:
            tutti.Client()
        assert "TUTTI_LANE=auto" in str(got.value)
        assert got.value.cause is tutti.Cause.LIMIT
        wait_until(lambda: not daemon.sessions)

    @ANY
    def test_quota(self, daemon: FakeDaemon) -> None:
        daemon.arena_limit = 4096
        with tutti.Client() as client:
            assert isinstance(client._lane, StreamLane)
            session = next(iter(daemon.sessions.values()))
            assert session.opened.no_ring == "too much (arena_bytes_max)"

    @ANY
    def test_memory(self, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "posix_fallocate", refuse)
        with tutti.Client():
            session = next(iter(daemon.sessions.values()))
            assert "no memory for an arena" in session.opened.no_ring
            assert not session.offered

    @pytest.mark.parametrize("machine", ["aarch64", "i686", ""])
    @ANY
    def test_machine(
        self, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch, machine: str
    ) -> None:
        monkeypatch.setattr("platform.machine", lambda: machine)
        assert falls_back(daemon) == "rings are for x86-64 only"
        assert "create_ring" not in daemon.requests
        monkeypatch.setenv("TUTTI_LANE", "ring")
        with pytest.raises(tutti.InvalidError, match="x86-64"):
            tutti.Client()

    @ANY
    def test_not_if_the_daemon_dies(
        self, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def die(*_: Any) -> None:
            daemon.stop()

        monkeypatch.setattr(_ring, "format_region", die)
        with pytest.raises(tutti.NodeLostError, match="lost the daemon"):
            tutti.Client()
