"""The stream lane: numbering, resuming, acknowledging, limits."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from fake_daemon import FakeDaemon, wait_until
from ranks import in_threads

import tutti
from tutti import _wire
from tutti.binding import Bound

pytestmark = pytest.mark.parametrize("lane", ["grpc"], indirect=True)


def test_numbers_have_no_gaps_from_many_threads(client: tutti.Client, daemon: FakeDaemon) -> None:
    groups = [client.join(f"g{n}", 0, 1) for n in range(4)]
    in_threads(4, lambda n: [groups[n].barrier() for _ in range(100)])
    assert [work.number for work in daemon.works] == list(range(1, 401))


def test_completions_are_acknowledged(single: tutti.Group, daemon: FakeDaemon) -> None:
    session = next(iter(daemon.sessions.values()))
    for _ in range(200):
        single.barrier()
    daemon.wait_for(lambda: session.acknowledged == 192)
    assert len(session.completions) == 8


def test_a_broken_stream_fails_nothing(single: tutti.Group, daemon: FakeDaemon) -> None:
    for round_number in range(5):
        daemon.hold = True
        array = np.full(10, 3.0)
        works = [single.allreduce(array, async_op=True) for _ in range(20)]
        if round_number % 2:
            daemon.wait_for(lambda: len(daemon.works) % 20 == 0)
        streams = daemon.streams
        daemon.break_streams()
        daemon.wait_for(lambda before=streams: daemon.streams > before)
        daemon.release()
        for work in works:
            work.wait(10)
        assert (array == 3).all()
    assert [work.number for work in daemon.works] == list(range(1, 101))


def test_completions_lost_with_the_stream_are_sent_again(
    single: tutti.Group, daemon: FakeDaemon
) -> None:
    session = next(iter(daemon.sessions.values()))
    daemon.hold = True
    works = [single.barrier(async_op=True) for _ in range(5)]
    daemon.wait_for(lambda: len(daemon.works) == 5)
    with daemon.lock:
        stream, session.stream = session.stream, None
        assert stream is not None
        daemon.release()
        stream.put(None)
    for work in works:
        work.wait(10)


def test_known_completions_are_ignored(single: tutti.Group, daemon: FakeDaemon) -> None:
    session = next(iter(daemon.sessions.values()))
    single.barrier()
    with daemon.lock:
        daemon._send(session, session.completions[-1])
    single.barrier()


def test_a_gap_in_completions_ends_the_session(
    single: tutti.Group, daemon: FakeDaemon, client: tutti.Client
) -> None:
    session = next(iter(daemon.sessions.values()))
    session.serial += 1
    with pytest.raises(tutti.CollectiveError, match="completion 2 follows 0") as caught:
        single.barrier()
    assert caught.value.cause is tutti.Cause.PROTOCOL
    wait_until(lambda: client.lost is not None)


def test_a_refused_attach_ends_the_session(client: tutti.Client, daemon: FakeDaemon) -> None:
    group = client.join("g", 0, 1)
    daemon.hold = True
    work = group.barrier(async_op=True)
    with daemon.lock:
        (token, session) = next(iter(daemon.sessions.items()))
        del daemon.sessions[token]
        assert session.stream is not None
        session.stream.put(None)
    with pytest.raises(tutti.GroupClosedError, match="no such session"):
        work.wait(10)
    daemon.sessions[token] = session
    assert client.lost is not None


@pytest.mark.parametrize("most", [1, 3, 8])
def test_submitting_waits_while_too_many_are_in_flight(daemon: FakeDaemon, most: int) -> None:
    """The daemon ends a session that exceeds what its Welcome says."""
    daemon.in_flight_max = most
    with tutti.Client() as client:
        group = client.join("g", 0, 1)
        works = [group.barrier(async_op=True) for _ in range(100)]
        for work in works:
            work.wait(10)
        daemon.hold = True
        works = [group.barrier(async_op=True) for _ in range(most)]
        blocked = threading.Thread(target=group.barrier)
        blocked.start()
        daemon.wait_for(lambda: len(daemon.works) == 100 + most)
        assert blocked.is_alive()
        daemon.release()
        blocked.join(10)
        assert not blocked.is_alive()
    assert len(daemon.works) == 101 + most


def test_submitting_does_not_wait_for_a_stopped_daemon_for_ever(daemon: FakeDaemon) -> None:
    daemon.in_flight_max = 1
    daemon.hold = True
    with tutti.Client() as client:
        group = client.join("g", 0, 1)
        first = group.barrier(async_op=True)
        bound = Bound([], [], [], client._pool, None)
        kind = _wire.types.COLLECTIVE_KIND_BARRIER
        barrier = (group._membership, kind, 0, 0, 0, 0, bound)
        with pytest.raises(tutti.LimitError, match="1 operations are in flight"):
            client._lane.submit(barrier, first, 0.05)
        assert client._lane.has_taken(first)
        daemon.release()
        first.wait(10)
        assert not client._lane.has_taken(first)
