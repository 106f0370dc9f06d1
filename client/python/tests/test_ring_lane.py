"""The ring lane: waiting, waking, limits, what the daemon may break, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import mmap
import os
import socket
import subprocess
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_daemon import FakeDaemon, FakeSession, failure, wait_until
from fake_ring import CLIENT_SLEEPS, COMPLETION_HEAD, COMPLETION_TAIL, SUBMISSION_HEAD, FakeRing
from ranks import in_threads
from test_client import pending

import tutti
from tutti import _ring
from tutti._doorbell import Doorbell
from tutti._ring_lane import RingLane
from tutti._sleepers import Sleepers
from tutti.arena import Arena, Pool
from tutti.v1 import client_pb2, types_pb2

pytestmark = [
    pytest.mark.usefixtures("lane"),
    pytest.mark.parametrize("lane", ["ring"], indirect=True),
]


@pytest.fixture(autouse=True)
def nobody_else_attends(monkeypatch: pytest.MonkeyPatch) -> None:
    """The session's thread would heal, within a second, what is to be found here."""
    monkeypatch.setattr("tutti._ring_lane._ATTEND_S", 3600.0)


def session_of(daemon: FakeDaemon) -> FakeSession:
    return next(iter(daemon.sessions.values()))


def ring_of(daemon: FakeDaemon) -> FakeRing:
    ring = session_of(daemon).ring
    assert ring is not None
    return ring


def until_asleep(daemon: FakeDaemon, client: tutti.Client | None = None, threads: int = 1) -> None:
    """Until somebody listens to the doorbell and, of that client, so many threads sleep."""
    if client is not None:
        sleepers: Any = client._lane._sleepers  # type: ignore[attr-defined]
        wait_until(lambda: len(sleepers._threads) == threads)
    wait_until(lambda: ring_of(daemon).ring.flag(CLIENT_SLEEPS) == 1)


@contextlib.contextmanager
def waiting(*works: tutti.Work) -> Iterator[list[BaseException | None]]:
    """Threads that wait for these. At the end they must have been woken; holds what they raised."""
    raised: list[BaseException | None] = [None] * len(works)

    def wait(index: int) -> None:
        try:
            works[index].wait(20)
        except BaseException as error:
            raised[index] = error

    threads = [threading.Thread(target=wait, args=(n,)) for n in range(len(works))]
    for thread in threads:
        thread.start()
    yield raised
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive(), "it was not woken"


def test_no_stream_and_no_message(single: tutti.Group, daemon: FakeDaemon) -> None:
    for _ in range(100):
        single.barrier()
    assert daemon.streams == 0
    assert ring_of(daemon).ring.word(SUBMISSION_HEAD) == 100


def test_the_region_is_no_part_of_the_pool(client: tutti.Client, daemon: FakeDaemon) -> None:
    [region] = session_of(daemon).arenas
    arrays = [client.zeros(100_000) for _ in range(20)]
    assert region not in {arena.number for arena in client._pool._table[1]}
    del arrays
    gc.collect()
    client.release_unused_memory()
    assert list(session_of(daemon).arenas) == [region]
    client.join("g", 0, 1).barrier()


def test_numbers_from_many_threads(client: tutti.Client, daemon: FakeDaemon) -> None:
    groups = [client.join(f"g{n}", 0, 1) for n in range(4)]
    in_threads(4, lambda n: [groups[n].barrier() for _ in range(200)])
    assert [work.number for work in daemon.works] == list(range(1, 801))


@pytest.mark.parametrize("most", [1, 2, 3, 8, 5000])
def test_round_and_round(daemon: FakeDaemon, most: int) -> None:
    """More works than entries; submitting waits for room, and takes completions meanwhile."""
    daemon.in_flight_max = most
    with tutti.Client() as client:
        group = client.join("g", 0, 1)
        assert ring_of(daemon).ring.entries == {1: 2, 3: 4}.get(most, min(most, 4096))
        arrays = [np.full(3, n) for n in range(200)]
        for work in [group.allreduce(array, async_op=True) for array in arrays]:
            work.wait(10)
        assert all((array == n).all() for n, array in enumerate(arrays))


@pytest.mark.parametrize("most", [1, 3, 8])
def test_no_more_than_may_be_in_flight(daemon: FakeDaemon, most: int) -> None:
    daemon.in_flight_max = most
    with tutti.Client() as client:
        group = client.join("g", 0, 1)
        daemon.hold = True
        works = [group.barrier(async_op=True) for _ in range(most)]
        threads = [threading.Thread(target=group.barrier) for _ in range(3)]
        for thread in threads:
            thread.start()
        until_asleep(daemon, client, 3)
        assert len(daemon.works) == most
        daemon.release()
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()
        for work in works:
            work.wait(10)
    assert len(daemon.works) == most + 3


def test_submitting_does_not_wait_for_a_stopped_daemon_for_ever(
    daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tutti.work._DAEMON_GRACE_S", 0.0)
    daemon.in_flight_max = 1
    daemon.hold = True
    with tutti.Client() as client:
        group = client.join("g", 0, 1)
        first = group.barrier(async_op=True)
        with pytest.raises(tutti.LimitError) as caught:
            group.barrier(timeout=0.05)
        assert str(caught.value) == (
            "1 operations are in flight, and none has ended; works_in_flight_max is the daemon's "
            "setting"
        )
        daemon.release()
        group.barrier(timeout=10)
        assert first.done()


def test_room_while_another_thread_watches(daemon: FakeDaemon) -> None:
    """Who takes a completion tells those who wait for room, and goes on waiting itself."""
    daemon.in_flight_max = 2
    with tutti.Client() as near, tutti.Client() as far:
        long, short = (
            in_threads(2, lambda rank, name=name: (near, far)[rank].join(name, rank, 2))
            for name in ("long", "short")
        )
        with waiting(long[0].barrier(async_op=True)):
            until_asleep(daemon)
            first = short[0].barrier(async_op=True)
            blocked = threading.Thread(target=short[0].barrier)
            blocked.start()
            until_asleep(daemon, near, 2)
            for _ in range(2):
                short[1].barrier(async_op=True)
            blocked.join(10)
            assert not blocked.is_alive(), "it was not told"
            long[1].barrier(async_op=True)
        assert first.done()


def test_a_nudge_is_for_one_wait() -> None:
    ours, theirs = socket.socketpair()
    doorbell = Doorbell(ours.detach())
    doorbell.wake()
    doorbell.wait(10)
    assert not doorbell._nudge.take()
    theirs.send(b"1")
    doorbell.wait(10)
    doorbell.silence()
    assert not doorbell.hung_up
    theirs.close()
    doorbell.wait(10)
    doorbell.silence()
    assert doorbell.hung_up
    doorbell.wake()
    doorbell.wait(10)
    doorbell.close()
    for _ in range(2):
        doorbell.wake()
        doorbell.ring()
        doorbell.close()


class TestFailures:
    """More of them than there are slots, and as long as they may be."""

    def test_many(self, daemon: FakeDaemon) -> None:
        with tutti.Client() as client:
            group = client.join("g", 0, 1)
            daemon.hold = True
            works = [group.barrier(async_op=True) for _ in range(100)]
            daemon.wait_for(lambda: len(daemon.works) == 100)
            with daemon.lock:
                fake = daemon.groups["default", "g"]
                for number, work in enumerate(fake.queues[0]):
                    error = None if number % 5 == 0 else failure(9, f"{number}" * 900)
                    daemon._complete(session_of(daemon), work.number, error)
                fake.queues[0].clear()
            for number, work in enumerate(works):
                if number % 5 == 0:
                    work.wait(10)
                else:
                    with pytest.raises(tutti.NodeLostError) as caught:
                        work.wait(10)
                    assert str(caught.value) == f"{number}" * 900

    def test_illegible(self, single: tutti.Group, daemon: FakeDaemon) -> None:
        ring = ring_of(daemon).ring
        work = pending(single, daemon)
        with daemon.lock:
            ring.memory[ring.slot_at(3) : ring.slot_at(3) + 4] = b"\xff" * 4
            ring.put_completion(0, 1, 1, 4, 4)
            ring.set_word(COMPLETION_TAIL, 1)
        with pytest.raises(tutti.CollectiveError, match="illegible") as caught:
            work.wait(10)
        assert caught.value.cause is tutti.Cause.PROTOCOL


class TestBroken:
    """What a daemon must not do ends the session, for all who wait."""

    @pytest.mark.parametrize("asleep", [True, False])
    def test_a_gap_in_completions(
        self, single: tutti.Group, daemon: FakeDaemon, client: tutti.Client, asleep: bool
    ) -> None:
        works = [pending(single, daemon) for _ in range(2)]
        session_of(daemon).serial += 1
        with waiting(*works if asleep else ()) as raised:
            if asleep:
                until_asleep(daemon, client, 2)
            daemon.release()
        for work in works:
            with pytest.raises(tutti.CollectiveError, match="completion 2 follows 0") as caught:
                work.wait(10)
            assert caught.value.cause is tutti.Cause.PROTOCOL
        assert all("follows" in str(error) for error in raised)
        wait_until(lambda: client.lost is not None)
        with pytest.raises(tutti.CollectiveError, match="follows"):
            single.barrier()

    def test_the_tail_of_completions(self, single: tutti.Group, daemon: FakeDaemon) -> None:
        work = pending(single, daemon)
        ring_of(daemon).ring.set_word(COMPLETION_TAIL, 1 << 40)
        with pytest.raises(tutti.CollectiveError, match="of which 0 were taken"):
            work.wait(10)

    def test_the_head_of_submissions(
        self, single: tutti.Group, daemon: FakeDaemon, client: tutti.Client
    ) -> None:
        work = pending(single, daemon)
        ring_of(daemon).ring.set_word(SUBMISSION_HEAD, 7)
        for _ in range(2):
            with pytest.raises(tutti.CollectiveError, match="7 works were taken, of 1"):
                single.barrier()
        with pytest.raises(tutti.CollectiveError, match="7 works were taken, of 1"):
            work.wait(10)
        wait_until(lambda: client.lost is not None)

    def test_works_that_are_not_known(self, single: tutti.Group, daemon: FakeDaemon) -> None:
        with daemon.lock:
            daemon._complete(session_of(daemon), 77, None)
        single.barrier()


class TestEnd:
    """Who waits is woken, and what was completed before counts."""

    def test_of_the_daemon(self, client: tutti.Client, daemon: FakeDaemon) -> None:
        groups = [client.join(f"g{n}", 0, 1) for n in range(3)]
        works = [pending(group, daemon) for group in groups]
        loop_raised: list[BaseException] = []

        def in_loop() -> None:
            async def main() -> None:
                try:
                    await works[0]
                except BaseException as error:
                    loop_raised.append(error)

            asyncio.run(main())

        with waiting(*works, works[0]) as raised:
            looping = threading.Thread(target=in_loop)
            looping.start()
            until_asleep(daemon, client, 4)
            wait_until(lambda: len(works[0]._wakers) == 3)
            daemon.stop()
        looping.join(10)
        assert not looping.is_alive(), "the loop was not woken"
        assert [type(error) for error in raised + loop_raised] == [tutti.NodeLostError] * 5

    def test_of_the_daemon_after_completions(
        self, single: tutti.Group, daemon: FakeDaemon, client: tutti.Client
    ) -> None:
        array = np.arange(5.0)
        done = pending(single, daemon, array)
        with daemon.lock:
            daemon.hold = False
            daemon._work_off(daemon.groups["default", "single"])
            daemon.hold = True
        lost = pending(single, daemon)
        daemon.stop()
        wait_until(lambda: client.lost is not None)
        done.wait()
        with pytest.raises(tutti.NodeLostError):
            lost.wait(10)

    @pytest.mark.parametrize("asleep", [True, False])
    def test_of_the_client(
        self, single: tutti.Group, daemon: FakeDaemon, client: tutti.Client, asleep: bool
    ) -> None:
        work = pending(single, daemon)
        with waiting(*[work] if asleep else ()):
            if asleep:
                until_asleep(daemon)
            client.close()
        with pytest.raises(tutti.GroupClosedError):
            work.wait()
        with pytest.raises(tutti.GroupClosedError):
            single.barrier()

    def test_while_it_waits_for_room(self, daemon: FakeDaemon) -> None:
        daemon.in_flight_max = 1
        daemon.hold = True
        with tutti.Client() as client:
            group = client.join("g", 0, 1)
            group.barrier(async_op=True)
            blocked = threading.Thread(
                target=lambda: pytest.raises(tutti.NodeLostError, group.barrier)
            )
            blocked.start()
            until_asleep(daemon)
            daemon.stop()
            blocked.join(10)
            assert not blocked.is_alive()

    def test_the_daemon_says_why(self, single: tutti.Group, daemon: FakeDaemon) -> None:
        """As the last packet of the session socket."""
        work = pending(single, daemon)
        session = session_of(daemon)
        with waiting(work) as raised:
            until_asleep(daemon)
            daemon.end(session, failure(types_pb2.CAUSE_LIMIT, "you are too many"))
        assert isinstance(raised[0], tutti.LimitError)
        assert str(raised[0]) == "you are too many"

    def test_a_ring_that_the_daemon_has_given_up(
        self, single: tutti.Group, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Only its doorbell hangs up: there is no wait without an end."""
        monkeypatch.setattr("tutti._ring_lane._ATTEND_S", 0.05)
        work = pending(single, daemon)
        with waiting(work) as raised:
            until_asleep(daemon)
            ring_of(daemon)._ours.shutdown(socket.SHUT_RDWR)
        assert isinstance(raised[0], tutti.NodeLostError)
        assert "given up" in str(raised[0])


class TestNobodyWaits:
    """The session's thread looks after works that were left alone."""

    @pytest.fixture(autouse=True)
    def attends(
        self, nobody_else_attends: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        del nobody_else_attends
        monkeypatch.setattr("tutti._ring_lane._ATTEND_S", 0.01)

    def test_results_arrive(self, pair: list[tutti.Group]) -> None:
        arrays = [np.full(10, 1.0 + rank) for rank in range(2)]
        for group, array in zip(pair, arrays, strict=True):
            group.allreduce(array, async_op=True)
        wait_until(lambda: all((array == 3).all() for array in arrays))

    def test_a_dropped_client_ends(self, daemon: FakeDaemon) -> None:
        array = np.zeros(3)
        client = tutti.Client()
        pending(client.join("g", 0, 1), daemon, array)
        del client
        gc.collect()
        assert "goodbye" not in daemon.requests
        daemon.release()
        daemon.wait_for(lambda: "goodbye" in daemon.requests)

    def test_it_sleeps_when_all_is_done(self, single: tutti.Group, daemon: FakeDaemon) -> None:
        del daemon
        lane: Any = single._lane
        for _ in range(3):
            single.barrier(async_op=True)
            wait_until(lambda: not lane._attended)
            assert not lane._pending


class TestWaking:
    """Many who wait, for one thing or several; whoever hears the doorbell serves all."""

    def test_threads(self, client: tutti.Client, daemon: FakeDaemon) -> None:
        groups = [client.join(f"g{n}", 0, 1) for n in range(6)]
        works = [pending(group, daemon) for group in groups]
        with waiting(*works, *works):
            until_asleep(daemon, client, 12)
            daemon.release()

    def test_the_watcher_leaves(self, client: tutti.Client, daemon: FakeDaemon) -> None:
        """Its time is up, and another one hears the doorbell from then on."""
        groups = [client.join(f"g{n}", 0, 1) for n in range(4)]
        works = [pending(group, daemon) for group in groups]
        first = threading.Thread(target=lambda: pytest.raises(TimeoutError, works[0].wait, 0.2))
        first.start()
        until_asleep(daemon)
        with waiting(*works[1:]):
            first.join(10)
            assert not first.is_alive()
            until_asleep(daemon, client, 3)
            daemon.release()
        works[0].wait(10)

    def test_somebody_else_takes(self, client: tutti.Client, daemon: FakeDaemon) -> None:
        """One who sleeps is woken though another was faster than the doorbell."""
        groups = [client.join(f"g{n}", 0, 1) for n in range(2)]
        works = [pending(group, daemon) for group in groups]
        with waiting(*works):
            until_asleep(daemon, client, 2)
            ring = ring_of(daemon)
            ring.ring_client = lambda: None  # type: ignore[method-assign]
            daemon.release()
            assert works[0].done()
            assert works[1].done()

    def test_threads_and_loops(self, client: tutti.Client, daemon: FakeDaemon) -> None:
        del daemon
        pairs = [
            in_threads(2, lambda rank, n=n: client.join(f"p{n}", rank, 2)) for n in range(4)
        ]

        def body(number: int) -> None:
            group, in_loop = pairs[number // 2][number % 2], number < 4
            if not in_loop:
                for step in range(200):
                    array = np.full(4, step)
                    group.allreduce(array, timeout=20)
                    assert (array == 2 * step).all()
                return

            async def main() -> None:
                for step in range(50):
                    arrays = [np.full(4, step + n) for n in range(3)]
                    works = [group.allreduce(a, timeout=20, async_op=True) for a in arrays]
                    await asyncio.gather(*(waited(work) for work in works))
                    assert all((a == 2 * (step + n)).all() for n, a in enumerate(arrays))

            asyncio.run(main())

        in_threads(8, body)


async def waited(work: tutti.Work) -> None:
    await work


class TestLoops:
    """A loop listens to the doorbell while one of its coroutines waits, and no longer."""

    def test_cancelling(self, single: tutti.Group, daemon: FakeDaemon) -> None:
        works = [pending(single, daemon) for _ in range(2)]

        async def main() -> None:
            loop = asyncio.get_running_loop()
            tasks = [loop.create_task(waited(work)) for work in works]
            await asyncio.sleep(0)
            until_asleep(daemon)
            tasks[0].cancel()
            with pytest.raises(asyncio.CancelledError):
                await tasks[0]
            assert ring_of(daemon).ring.flag(CLIENT_SLEEPS) == 1
            daemon.release()
            await asyncio.wait_for(tasks[1], 10)
            assert ring_of(daemon).ring.flag(CLIENT_SLEEPS) == 0
            doorbell = single._lane._doorbell  # type: ignore[attr-defined]
            assert not loop.remove_reader(doorbell.fileno())

        asyncio.run(main())
        works[0].wait(10)

    def test_a_loop_that_was_closed(self, single: tutti.Group, daemon: FakeDaemon) -> None:
        work = pending(single, daemon)
        loop = asyncio.new_event_loop()
        task = loop.create_task(waited(work))
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        daemon.release()
        work.wait(10)
        single.barrier()
        del task

    def test_other_coroutines_run_meanwhile(self, single: tutti.Group, daemon: FakeDaemon) -> None:
        work = pending(single, daemon)
        ticks = []

        async def tick() -> None:
            for _ in range(5):
                ticks.append(work.done())
                await asyncio.sleep(0)
            daemon.release()

        async def main() -> None:
            await asyncio.gather(waited(work), tick())

        asyncio.run(main())
        assert ticks == [False] * 5


@pytest.mark.parametrize("in_loop", [True, False])
def test_ctrl_c_after_the_doorbell(monkeypatch: pytest.MonkeyPatch, in_loop: bool) -> None:
    """Who has silenced the doorbell has done so for all, and takes for all before it goes."""
    ours, theirs = socket.socketpair()
    doorbell = Doorbell(ours.detach())
    events: list[str] = []
    sleepers = Sleepers(doorbell, lambda _: None, lambda: events.append("take"))

    def interrupted() -> None:
        events.append("silence")
        raise KeyboardInterrupt

    monkeypatch.setattr(doorbell, "silence", interrupted)
    theirs.send(b"1")
    if in_loop:
        loop, token = asyncio.new_event_loop(), object()
        sleepers.watch(loop, token)
        with pytest.raises(KeyboardInterrupt):
            loop.run_forever()
        assert events[-2:] == ["silence", "take"]
        sleepers.unwatch(loop, token)
        loop.close()
    else:
        never = types.SimpleNamespace(_ended=False, _wakers=[])
        with pytest.raises(KeyboardInterrupt):
            sleepers.sleep(never, None)
        assert events[-2:] == ["silence", "take"]
        assert not never._wakers
    sleepers.end()
    assert doorbell.fileno() == -1


def test_a_child_holds_nothing(daemon: FakeDaemon) -> None:
    """Nor touches the ring; the parent goes on with it, also in the middle of a wait."""
    code = """
import os, sys, threading, numpy as np, tutti
client = tutti.Client()
group = client.join("g", 0, 1)
pair = [None, None]
def join(rank):
    pair[rank] = client.join("pair", rank, 2)
threads = [threading.Thread(target=join, args=[rank]) for rank in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
doorbell = client._lane._doorbell
peer = os.stat(doorbell.fileno()).st_ino
work = pair[0].allreduce(np.ones(3), async_op=True)
pid = os.fork()
if pid == 0:
    held = [os.stat(f"/proc/self/fd/{fd}").st_ino for fd in os.listdir("/proc/self/fd")
            if os.path.exists(f"/proc/self/fd/{fd}")]
    ok = peer not in held and doorbell.fileno() == -1
    for call in (work.done, work.wait, group.barrier):
        try:
            call()
            ok = False
        except tutti.ForkedError:
            pass
    os._exit(0 if ok else 9)
assert os.waitpid(pid, 0)[1] == 0
pair[1].allreduce(np.ones(3))
work.wait(10)
for _ in range(100):
    group.barrier()
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code],
        env={**os.environ, "TUTTI_SOCKET_DIR": str(daemon.socket_dir)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


PEER = """
import mmap, socket, sys, threading
from fake_ring import FakeRing
from tutti.v1 import client_pb2
memory = mmap.mmap(int(sys.argv[1]), 0)
doorbell = socket.socket(fileno=int(sys.argv[2]))
lock, end = threading.Condition(), threading.Event()
def submit(work):
    ring.put(client_pb2.Completion(serial=work.number, number=work.number))
with lock:
    ring = FakeRing(memoryview(memory), {}, lock, submit, end.set, doorbell)
print("ready", flush=True)
ring._thread.join()
"""


@pytest.mark.parametrize("spin_us", [0, 5, 50])
@pytest.mark.parametrize("threads", [1, 3])
def test_no_wake_up_is_lost(spin_us: int, threads: int) -> None:
    """Two processes, each of which sleeps whenever there is nothing to do."""
    entries = 8
    fd = os.memfd_create("ring")
    os.ftruncate(fd, -(-_ring.region_bytes(entries) // 4096) * 4096)
    region = memoryview(mmap.mmap(fd, 0))
    _ring.format_region(region, entries)
    ours, theirs = socket.socketpair()
    peer = subprocess.Popen(
        [sys.executable, "-c", PEER, str(fd), str(theirs.fileno())],
        pass_fds=[fd, theirs.fileno()],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
    )
    theirs.close()
    os.close(fd)
    assert peer.stdout is not None
    assert peer.stdout.readline() == "ready\n"
    ends = _ring.Submissions(region, entries), _ring.Completions(region, entries)
    pool = Pool(lambda size: Arena(1, mmap.mmap(-1, size)))
    lane = RingLane(ends, Doorbell(ours.detach()), entries, spin_us, pool)
    client: Any = types.SimpleNamespace(_lane=lane, _pool=pool)
    joined = client_pb2.JoinGroupResponse(membership=1, work_timeout_ms=20_000)
    group = tutti.Group(client, "g", 0, 1, joined)
    try:
        in_threads(threads, lambda _: [group.barrier() for _ in range(3000 // threads)])
        assert lane.last_number == 3000 // threads * threads
    finally:
        lane.close(tutti.GroupClosedError("the end"))
        peer.kill()
        peer.communicate(timeout=10)
    assert region[COMPLETION_HEAD : COMPLETION_HEAD + 8].cast("Q")[0] == lane.last_number
