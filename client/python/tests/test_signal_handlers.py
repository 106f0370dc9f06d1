"""Signal handlers that call Tutti in the middle of a call: it works or it is refused, at once.

As in test_interrupted, a profile function stands for the signal, at each place in turn. One handler
that is none of these would hang for ever, so all runs in a thread that is given up then.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from fake_daemon import FakeDaemon, wait_until
from ranks import in_threads
from test_client import pending
from test_interrupted import Interrupter
from test_ring_lane import until_asleep

import tutti
from tutti.arena import Arena, Pool

RING = pytest.mark.parametrize("lane", ["ring"], indirect=True)
# What is waited for in a handler has been sent: this is far more than it takes.
AT_ONCE_S = 0.5


@pytest.fixture(params=[False, True], ids=["asleep", "awake"])
def awake(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def client(
    awake: bool, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tutti.Client]:
    """On a ring, its waits always sleep, or hardly ever; and nobody but who waits looks."""
    monkeypatch.setattr("tutti._ring_lane._ATTEND_S", 3600.0)
    daemon.spin_us = 10_000 if awake else 0
    with tutti.Client() as made:
        yield made


@pytest.fixture(params=[False, True], ids=["alone", "another watches"])
def watched(
    request: pytest.FixtureRequest, client: tutti.Client
) -> Iterator[bool]:
    """Another thread may have been waiting all the time."""
    if not request.param:
        yield False
        return
    near, far = in_threads(2, lambda rank: client.join("long", rank, 2))
    watcher = threading.Thread(target=near.barrier)
    watcher.start()
    sleepers = getattr(client._lane, "_sleepers", None)
    wait_until(lambda: sleepers is None or sleepers.watcher is not None)
    yield True
    far.barrier(timeout=10)
    watcher.join(10)
    assert not watcher.is_alive()


def handle_everywhere(
    prepare: Callable[[], Any], body: Callable[[], None], handler: Callable[[Any], None]
) -> tuple[int, list[str]]:
    """Runs `body` with `handler` at each place in turn. Returns how often, and what was refused."""
    refused: list[str] = []
    count = 0

    def run_once(at: int) -> str:
        given = prepare()

        def guarded() -> None:
            started = time.monotonic()
            try:
                handler(given)
            except RuntimeError as error:
                assert type(error) is RuntimeError, error
                refused.append(str(error))
            took_s = time.monotonic() - started
            assert took_s < AT_ONCE_S, f"{took_s:.1f} s at {interrupter.place}"

        interrupter = Interrupter(at, guarded)
        with interrupter:
            body()
        return interrupter.place

    def run_all() -> None:
        nonlocal count
        while run_once(count):
            count += 1

    errors: list[BaseException] = []

    def run() -> None:
        try:
            run_all()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 60
    seen = -1
    while thread.is_alive() and time.monotonic() < deadline:
        seen = count
        thread.join(10)
        frame = sys._current_frames().get(thread.ident or 0)
        assert not thread.is_alive() or count > seen, f"it hangs at place {count}: {frame}"
    if errors:
        raise errors[0]
    return count, refused


class Works:
    """Two operations that were sent, and their results."""

    def __init__(self, group: tutti.Group) -> None:
        self.arrays = [np.full(5, n + 1.0) for n in range(2)]
        self.works = [group.allreduce(array, async_op=True) for array in self.arrays]

    def check(self) -> None:
        for n, work in enumerate(self.works):
            work.wait(10)
            assert (self.arrays[n] == n + 1).all()


@pytest.mark.parametrize("in_loop", [False, True], ids=["by a thread", "by a loop"])
@pytest.mark.parametrize("waits", [False, True], ids=["done", "wait"])
@pytest.mark.usefixtures("watched")
def test_a_handler_that_waits(client: tutti.Client, waits: bool, in_loop: bool) -> None:
    one, other = client.join("one", 0, 1), client.join("other", 0, 1)
    tensors = [np.ones(10), np.ones(10)]

    async def await_it() -> None:
        await one.allreduce_coalesced(tensors, async_op=True)

    def body() -> None:
        if in_loop:
            asyncio.run(asyncio.wait_for(await_it(), 10))
        else:
            one.allreduce_coalesced(tensors, timeout=10)

    def handler(works: Works) -> None:
        for work in works.works:
            if waits:
                work.wait(10)
            else:
                work.done()

    last = Works(other)

    def prepare() -> Works:
        nonlocal last
        last.check()
        last = Works(other)
        return last

    count, refused = handle_everywhere(prepare, body, handler)
    print(f"{count} places, {len(refused)} refused")
    last.check()
    assert count > 60
    assert client.lost is None
    assert all("a signal handler cannot wait" in text for text in refused)
    if not waits:
        assert not refused


@pytest.mark.usefixtures("watched")
def test_a_handler_that_submits(client: tutti.Client) -> None:
    one, other = client.join("one", 0, 1), client.join("other", 0, 1)
    array, small = np.ones(10), np.ones(3)
    count, refused = handle_everywhere(
        lambda: None,
        lambda: one.allreduce(array, timeout=10),
        lambda _: other.allreduce(small, async_op=True),
    )
    print(f"{count} places, {len(refused)} refused")
    assert count > 60
    assert client.lost is None
    for _ in range(3):
        one.allreduce(array, timeout=10)
        other.allreduce(small, timeout=10)
    assert any(
        "cannot be submitted in a signal handler that has interrupted a submission; set a flag" in
        text for text in refused
    )
    assert all("signal handler" in text for text in refused)


@pytest.mark.parametrize("lane", ["ring"], indirect=True)
def test_a_handler_that_allocates(daemon: FakeDaemon) -> None:
    """The allocator is not to be found half-way."""
    pool = Pool(lambda size: Arena(1, mmap.mmap(-1, size)))
    del daemon
    blocks: list[Any] = []

    def body() -> None:
        pool.take_unused()
        pool.free(pool.allocate(1000))

    def handler(_: None) -> None:
        pool.take_unused()
        blocks.append(pool.allocate(1000))

    count, refused = handle_everywhere(lambda: None, body, handler)
    assert count > 20
    assert blocks
    assert refused
    assert all("cannot be allocated" in text for text in refused)
    places = {(block.arena.address + block.offset) for block in blocks}
    assert len(places) == len(blocks), "one was given out twice"


@RING
def test_a_signal_while_the_main_thread_watches(
    client: tutti.Client, daemon: FakeDaemon, awake: bool
) -> None:
    """The handler takes its place, and hands it back; also what came for it meanwhile."""
    del awake
    groups = [client.join(f"g{n}", 0, 1) for n in range(2)]
    works = [pending(group, daemon) for group in groups]
    took_s: list[float] = []

    def handler(*_: object) -> None:
        started = time.monotonic()
        until_asleep(daemon, client)
        threading.Thread(target=daemon.release).start()
        works[1].wait(10)
        took_s.append(time.monotonic() - started)

    def send() -> None:
        until_asleep(daemon, client)
        os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        sender = threading.Thread(target=send)
        sender.start()
        started = time.monotonic()
        works[0].wait(10)
        sender.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert took_s[0] < AT_ONCE_S
    assert time.monotonic() - started < 5


@RING
def test_what_a_handler_raises_does_not_end_the_session(
    client: tutti.Client, awake: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is an error of an operation, but not of ours."""
    del awake
    group = client.join("g", 0, 1)
    lane: Any = client._lane

    lane.nudge = lambda: None  # or the session's thread may be the one that takes

    def raises(*_: object) -> None:
        raise tutti.MismatchError("of the handler")

    for end, method in ((lane._completions, "take"), (lane._submissions, "put")):
        with monkeypatch.context() as patch:
            patch.setattr(end, method, raises)
            with pytest.raises(tutti.MismatchError, match="of the handler"):
                group.barrier(timeout=10)
        group.barrier(timeout=10)
    assert client.lost is None
