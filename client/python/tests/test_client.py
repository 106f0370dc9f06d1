"""Client and Group against the fake daemon."""

from __future__ import annotations

import gc
import os
import socket
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_daemon import FakeDaemon, wait_until
from ranks import in_threads

import tutti
from tutti.v1 import types_pb2

MIB = 1 << 20


def pending(group: tutti.Group, daemon: FakeDaemon, tensor: Any = None) -> tutti.Work:
    """A work that the daemon has received, and does not complete."""
    count = len(daemon.works)
    daemon.hold = True
    if tensor is None:
        work = group.barrier(async_op=True)
    else:
        work = group.allreduce(tensor, async_op=True)
    daemon.wait_for(lambda: len(daemon.works) > count)
    return work


def arena_bytes(daemon: FakeDaemon) -> int:
    """Of the one session. With a ring, it is never 0."""
    session = next(iter(daemon.sessions.values()))
    return sum(len(arena) for arena in session.arenas.values())


def test_operations_in_place(pair: list[tutti.Group]) -> None:
    def body(rank: int) -> None:
        group = pair[rank]
        assert (group.name, group.rank, group.world_size, group.epoch) == ("pair", rank, 2, 1)
        array = np.full((3, 4), rank + 1.0)
        work = group.allreduce(array)
        assert work.done()
        assert work.exception() is None
        assert (array == 3).all()
        group.allreduce(array[1], tutti.ReduceOp.MAX)
        group.allreduce(array, op=tutti.ReduceOp.AVG)
        assert (array == 3).all()
        source = np.full(5, rank, np.int32)
        group.broadcast(source, 1)
        assert (source == 1).all()
        group.barrier()

    in_threads(2, body)


def test_arena_arrays_of_the_client(client: tutti.Client, single: tutti.Group) -> None:
    for array in (client.zeros((2, 3), np.float32), client.empty(4), client.from_numpy([1, 2, 3])):
        array[...] = 1
        single.allreduce(array)
        assert (array == 1).all()
    assert client.zeros(3).dtype == np.float64
    with pytest.raises(ValueError, match="shape"):
        client.zeros(-1)


def test_arena_arrays_are_not_staged(client: tutti.Client, daemon: FakeDaemon) -> None:
    group = client.join("g", 0, 1)
    array = client.zeros(100)
    group.allreduce(array)
    group.allreduce(array[10:20])
    whole, part = (work.inputs[0] for work in daemon.works)
    assert part.arena == whole.arena
    assert part.offset == whole.offset + 80
    assert daemon.works[0].outputs[0] == whole


def test_bad_arguments_are_raised_before_anything_is_sent(
    single: tutti.Group, client: tutti.Client, daemon: FakeDaemon
) -> None:
    count = len(daemon.requests)
    array = np.zeros(3)
    wrong: Any = 3
    calls: list[tuple[type[Exception], Callable[[], Any]]] = [
        (ValueError, lambda: single.broadcast(array, 1)),
        (TypeError, lambda: single.broadcast(array, 1.0 * wrong)),
        (TypeError, lambda: single.allreduce(array, wrong)),
        (TypeError, lambda: single.allreduce([1.0])),
        (ValueError, lambda: single.allreduce(array, timeout=0)),
        (ValueError, lambda: client.join("g", 2, 2)),
        (ValueError, lambda: client.join("g", 0, 0)),
        (ValueError, lambda: client.join("", 0, 1)),
        (TypeError, lambda: client.join(wrong, 0, 1)),
        (ValueError, lambda: client.join("g", 0, 1, timeout=-1)),
    ]
    for error, call in calls:
        with pytest.raises(error):
            call()
    assert not daemon.works
    assert {"create_arena", "arena_mapped"}.issuperset(daemon.requests[count:])


def test_refused_works_leave_tensors_alone(pair: list[tutti.Group], daemon: FakeDaemon) -> None:
    daemon.unsupported.add(types_pb2.DATA_TYPE_UINT8)

    def body(rank: int) -> None:
        array = np.arange(3.0 + rank)
        with pytest.raises(tutti.MismatchError) as caught:
            pair[rank].allreduce(array)
        assert caught.value.culprits == (1,)
        assert (array == np.arange(3.0 + rank)).all()
        # The group stays usable.
        pair[rank].barrier()
        with pytest.raises(tutti.InvalidError, match="UINT8"):
            pair[rank].allreduce(np.zeros(3, np.uint8))

    in_threads(2, body)


def test_timeouts_travel_in_milliseconds(client: tutti.Client, daemon: FakeDaemon) -> None:
    group = client.join("g", 0, 1, work_timeout=2.5, timeout=7)
    group.barrier(timeout=0.25)
    group.barrier()
    assert [work.timeout_ms for work in daemon.works] == [250, 0]


def test_join_names_who_is_missing(client: tutti.Client) -> None:
    with pytest.raises(tutti.DeadlineError, match="never joined") as caught:
        client.join("g", 1, 3, timeout=0.1)
    assert caught.value.missing == (0, 2)


def test_joins_in_two_threads_at_once(client: tutti.Client) -> None:
    groups = in_threads(4, lambda n: client.join(f"g{n % 2}", n // 2, 2))
    assert sorted((group.name, group.rank) for group in groups) == [
        ("g0", 0),
        ("g0", 1),
        ("g1", 0),
        ("g1", 1),
    ]


def test_leaving(pair: list[tutti.Group], client: tutti.Client) -> None:
    with pair[0] as group:
        assert "rank 0 of 2" in repr(group)
    pair[0].leave()
    with pytest.raises(tutti.GroupClosedError, match="has left group 'pair'"):
        pair[0].barrier()
    with pytest.raises(tutti.GroupClosedError) as caught:
        pair[1].barrier()
    assert caught.value.culprits == (0,)
    again = in_threads(2, lambda rank: client.join("pair", rank, 2))
    assert again[0].epoch == 2


def test_works_are_received_before_the_leave(pair: list[tutti.Group], daemon: FakeDaemon) -> None:
    """Calls may overtake the stream. The leaver's works must not be refused for that."""
    daemon.hold = True
    works = [pair[0].barrier(async_op=True) for _ in range(50)]
    pair[0].leave()
    assert "leave after 50" in daemon.requests
    assert not any(work.done() for work in works)


class TestDaemonDies:
    """NodeLostError for whoever waits, at once, and for whoever calls later."""

    def test_while_works_are_pending(
        self, single: tutti.Group, daemon: FakeDaemon, client: tutti.Client
    ) -> None:
        array = np.zeros(10)
        work = pending(single, daemon, array)
        daemon.stop()
        with pytest.raises(tutti.NodeLostError, match="lost the daemon at"):
            work.wait(10)
        assert isinstance(client.lost, tutti.NodeLostError)
        for call in (
            lambda: single.allreduce(array),
            lambda: single.barrier(),
            lambda: client.join("other", 0, 1),
            lambda: client.zeros(100 * MIB),
        ):
            with pytest.raises(tutti.NodeLostError):
                call()
        single.leave()
        client.close()

    def test_while_joining(self, client: tutti.Client, daemon: FakeDaemon) -> None:
        def stop() -> None:
            daemon.wait_for(lambda: bool(daemon.groups))
            daemon.stop()

        thread = threading.Thread(target=stop)
        thread.start()
        with pytest.raises(tutti.NodeLostError, match="lost the daemon at"):
            client.join("g", 0, 2)
        thread.join()

    def test_only_the_session_socket(self, single: tutti.Group, daemon: FakeDaemon) -> None:
        work = pending(single, daemon)
        daemon.hang_up(next(iter(daemon.sessions.values())))
        with pytest.raises(tutti.NodeLostError):
            work.wait(10)

    def test_a_new_client_after_the_restart(self, client: tutti.Client, daemon: FakeDaemon) -> None:
        daemon.stop()
        wait_until(lambda: client.lost is not None)
        again = FakeDaemon(daemon.socket_dir)
        with tutti.Client() as other:
            other.join("g", 0, 1).barrier()
        again.stop()


class TestNoDaemon:
    """Errors that help."""

    def test_nobody_there(self, tmp_path: Path) -> None:
        with pytest.raises(tutti.NodeLostError) as caught:
            tutti.Client(tmp_path)
        text = str(caught.value)
        assert str(tmp_path / "session.sock") in text
        assert f"tuttid --socket_dir {tmp_path}" in text
        assert "TUTTI_SOCKET_DIR" in text

    def test_a_dead_socket(self, socket_dir: Path) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as left:
            left.bind(str(socket_dir / "session.sock"))
        with pytest.raises(tutti.NodeLostError, match="refused"):
            tutti.Client(socket_dir)

    def test_it_hangs_up(self, socket_dir: Path) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(str(socket_dir / "session.sock"))
            listener.listen()
            threading.Thread(target=lambda: listener.accept()[0].close()).start()
            with pytest.raises(tutti.NodeLostError, match=r"hung up|reset|Broken pipe"):
                tutti.Client(socket_dir)

    @pytest.mark.parametrize("lane", ["grpc"], indirect=True)
    def test_no_grpc_socket(self, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("tutti._stream_lane._ATTACH_TIMEOUT_S", 0.3)
        (daemon.socket_dir / "grpc.sock").unlink()
        with pytest.raises(tutti.NodeLostError, match="gRPC"):
            tutti.Client()

    def test_odd_directories(self, socket_dir: Path) -> None:
        odd = socket_dir / "a b%41#?ж"
        odd.mkdir()
        # gRPC's own server parses its address as a URI as well.
        fake = FakeDaemon(socket_dir)
        for name in ("session.sock", "grpc.sock"):
            (socket_dir / name).rename(odd / name)
        with tutti.Client(odd) as client:
            client.join("g", 0, 1).barrier()
        fake.stop()


class TestMemory:
    """Arenas over the wire."""

    def test_limit(self, client: tutti.Client, daemon: FakeDaemon) -> None:
        daemon.arena_limit = 8 * MIB + arena_bytes(daemon)
        held = client.zeros(MIB)
        with pytest.raises(tutti.LimitError, match="arena_bytes_max"):
            client.zeros(8 * MIB)
        del held

    def test_unused_arenas_make_room(self, client: tutti.Client, daemon: FakeDaemon) -> None:
        daemon.arena_limit = 8 * MIB + arena_bytes(daemon)
        client.zeros(4 * MIB, np.uint8)
        assert client.zeros(8 * MIB, np.uint8).nbytes == 8 * MIB
        assert "release_arena" in daemon.requests

    def test_given_back_on_request(self, client: tutti.Client, daemon: FakeDaemon) -> None:
        before = arena_bytes(daemon)
        client.zeros(30 * MIB, np.uint8)
        assert client.release_unused_memory() == 30 * MIB
        assert arena_bytes(daemon) == before
        assert client.release_unused_memory() == 0

    def test_no_memory(
        self, client: tutti.Client, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "posix_fallocate", refuse)
            with pytest.raises(MemoryError, match="4 MiB"):
                client.zeros(1)
        offered = next(iter(daemon.sessions.values())).offered
        wait_until(lambda: not offered)  # it is given back
        client.zeros(1)

    def test_arrays_outlive_the_client(self, client: tutti.Client) -> None:
        array = client.zeros(1000)
        client.close()
        array += 1
        assert array.sum() == 1000
        with pytest.raises(tutti.GroupClosedError, match="closed"):
            client.zeros(100 * MIB)

    def test_descriptors_do_not_leak(self, daemon: FakeDaemon) -> None:
        def cycle() -> None:
            with tutti.Client() as client:
                client.join("g", 0, 1).allreduce(client.zeros(10))
            del client
            gc.collect()
            wait_until(lambda: not daemon.sessions)

        for _ in range(3):
            cycle()
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(20):
            cycle()
        assert len(os.listdir("/proc/self/fd")) <= before + 2


class TestClosing:
    """Goodbye, however a client ends."""

    def test_close_fails_pending_works(
        self, single: tutti.Group, client: tutti.Client, daemon: FakeDaemon
    ) -> None:
        work = pending(single, daemon)
        client.close()
        with pytest.raises(tutti.GroupClosedError, match="the client was closed"):
            work.wait(10)
        assert daemon.requests[-1] == "goodbye"
        client.close()
        with pytest.raises(tutti.GroupClosedError):
            single.barrier()
        single.leave()

    def test_a_dropped_client_says_goodbye(self, daemon: FakeDaemon) -> None:
        client = tutti.Client()
        group = client.join("g", 0, 1)
        group.barrier()
        gone = weakref.ref(client)
        del client
        assert gone() is not None, "its group needs it"
        del group
        gc.collect()
        assert gone() is None
        daemon.wait_for(lambda: "goodbye" in daemon.requests)

    def test_a_pending_work_keeps_its_client(self, daemon: FakeDaemon) -> None:
        client = tutti.Client()
        array = np.zeros(3)
        work = pending(client.join("g", 0, 1), daemon, array)
        del client
        gc.collect()
        daemon.release()
        work.wait(10)

    def test_no_threads_are_left(self, daemon: FakeDaemon) -> None:
        with tutti.Client() as client:
            client.join("g", 0, 1).barrier()
            assert any(thread.name.startswith("tutti-") for thread in threading.enumerate())
        del daemon
        assert not any(thread.name.startswith("tutti-") for thread in threading.enumerate())


def test_who_we_are(daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    with tutti.Client(namespace="job 7", label="trainer") as client:
        hello = next(iter(daemon.sessions.values())).hello
        assert (hello.namespace, hello.label) == ("job 7", "trainer")
        assert hello.client_version == f"tutti-python {tutti.__version__}"
        assert client.namespace == "job 7"
        assert client.session_id == 1
    wait_until(lambda: not daemon.sessions)
    monkeypatch.setenv("TUTTI_NAMESPACE", "of the environment")
    with tutti.Client() as client:
        assert next(iter(daemon.sessions.values())).hello.namespace == "of the environment"
    with pytest.raises(ValueError, match="label"):
        tutti.Client(label="x" * 257)
