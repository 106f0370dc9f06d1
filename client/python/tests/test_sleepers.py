"""Sleepers and their doorbell, without a ring."""

from __future__ import annotations

import asyncio
import math
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fake_daemon import FakeDaemon, wait_until

from tutti._doorbell import Doorbell
from tutti._lane import deadline_of
from tutti._sleepers import Sleepers


class Awaited:
    """What a test ends. `handlers` run when it has been looked at so often: signal handlers."""

    def __init__(self) -> None:
        self.over = False
        self.looks = 0
        self.handlers: dict[int, Callable[[], None]] = {}
        self._wakers: list[Callable[[], None]] = []

    @property
    def _ended(self) -> bool:
        ended = self.over
        self.looks += 1
        self.handlers.get(self.looks, lambda: None)()
        return ended

    def end(self) -> None:
        self.over = True
        for wake in tuple(self._wakers):
            wake()


class Listeners:
    """Sleepers that note what they do. `on_take` is called when completions are taken."""

    def __init__(self, doorbell: Doorbell) -> None:
        self.doorbell = doorbell
        self.events: list[str] = []
        self.on_take: Callable[[], None] = lambda: None
        self.sleepers = Sleepers(doorbell, lambda sleeps: self.note(f"tell {sleeps}"), self.take)

    def note(self, event: str) -> None:
        self.events.append(event)

    def take(self) -> None:
        self.note("take")
        self.on_take()

    def start(self, awaited: Awaited, timeout_s: float | None = None) -> threading.Thread:
        """A thread that sleeps until it is ended; returns when it does."""
        count = len(self.sleepers._threads)
        thread = threading.Thread(
            target=self.sleepers.sleep, args=(awaited, deadline_of(timeout_s)), daemon=True
        )
        thread.start()
        wait_until(lambda: len(self.sleepers._threads) > count)
        wait_until(lambda: self.sleepers.watcher is not None)
        return thread


@pytest.fixture
def listeners() -> Iterator[Listeners]:
    ours, theirs = socket.socketpair()
    made = Listeners(Doorbell(ours.detach()))
    yield made
    made.sleepers.end()
    theirs.close()


def ends(*threads: threading.Thread) -> None:
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


@pytest.mark.parametrize("timeout_s", [3e6, math.inf, None])
def test_long_waits(
    listeners: Listeners, monkeypatch: pytest.MonkeyPatch, timeout_s: float | None
) -> None:
    """Longer than system calls take."""
    failed: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", failed.append)
    awaited = [Awaited(), Awaited()]
    threads = [listeners.start(each, timeout_s) for each in awaited]
    for each in awaited:
        each.end()
    ends(*threads)
    assert not failed


def test_a_long_wait_is_several(listeners: Listeners, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tutti._lane._WAIT_MAX_S", 0.01)
    awaited = Awaited()
    thread = listeners.start(awaited, 3e6)
    wait_until(lambda: listeners.events.count("take") > 5)
    assert thread.is_alive()
    awaited.end()
    ends(thread)


def test_a_handler_takes_the_seat_of_its_thread(listeners: Listeners) -> None:
    """And hands it back with a nudge, for it has heard what was for the other."""
    below, above = Awaited(), Awaited()
    sleepers = listeners.sleepers
    seats: list[bool] = []

    def handler() -> None:
        outer = sleepers.watcher
        listeners.on_take = lambda: (above.end(), below.end()) and None
        sleepers.sleep(above, None)
        seats.append(outer is not None and sleepers.watcher is outer)

    below.handlers = {2: handler}  # after the last look before it listens
    thread = threading.Thread(target=sleepers.sleep, args=(below, None), daemon=True)
    thread.start()
    ends(thread)
    assert seats == [True]
    assert listeners.events[-2:] == ["tell False", "take"]


def test_the_seat_goes_to_one_who_can_take_it(listeners: Listeners) -> None:
    """A thread in a signal handler has two sleepers, and only the later one runs."""
    sleepers = listeners.sleepers
    first, below, above = Awaited(), Awaited(), Awaited()
    watcher = listeners.start(first)
    below.handlers = {1: lambda: sleepers.sleep(above, None)}
    thread = threading.Thread(target=sleepers.sleep, args=(below, None), daemon=True)
    thread.start()
    wait_until(lambda: above._wakers)
    last = sleepers._threads[-1]
    first.end()
    ends(watcher)
    wait_until(lambda: sleepers.watcher is last)
    above.end()
    wait_until(lambda: sleepers.watcher not in (None, last))
    below.end()
    ends(thread)


def test_not_where_its_thread_holds_the_lock(listeners: Listeners) -> None:
    """Nobody else could leave or listen until the handler returns."""
    refused: list[str] = []

    def handler() -> None:
        with listeners.sleepers._lock:
            try:
                listeners.sleepers.sleep(Awaited(), 0.0)
            except RuntimeError as error:
                refused.append(str(error))

    thread = threading.Thread(target=handler, daemon=True)
    thread.start()
    ends(thread)
    assert "a signal handler cannot wait" in refused[0]


def test_a_child_tells_nothing_and_takes_nothing(listeners: Listeners) -> None:
    """A coroutine of the parent's may be cancelled there. Another thread may have had the lock."""
    loop, token = asyncio.new_event_loop(), object()
    held, over = threading.Event(), threading.Event()
    sleepers = listeners.sleepers
    sleepers.watch(loop, token)

    def hold(lock: Any) -> None:
        with lock:
            held.set()
            over.wait(10)

    holder = threading.Thread(target=hold, args=(sleepers._lock,))
    holder.start()
    held.wait(10)
    before = list(listeners.events)
    sleepers.forked()
    child = threading.Thread(target=sleepers.unwatch, args=(loop, token), daemon=True)
    child.start()
    ends(child)
    over.set()
    holder.join()
    assert listeners.events == before
    loop.close()


CHILD = """
import asyncio, os, tutti
from fake_ring import CLIENT_SLEEPS
client = tutti.Client()
near = client.join("g", 0, 1)
flags = client._lane._completions._flags
async def waits():
    await work
async def main():
    global work
    work = near.barrier(async_op=True)
    task = asyncio.ensure_future(waits())
    while not flags[CLIENT_SLEEPS // 4]:
        await asyncio.sleep(0)
    pid = os.fork()
    if pid == 0:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        os._exit(0)
    os.waitpid(pid, 0)
    print(flags[CLIENT_SLEEPS // 4])
    os._exit(0)
asyncio.run(main())
"""


@pytest.mark.parametrize("lane", ["ring"], indirect=True)
def test_a_child_that_cancels_a_coroutine(daemon: FakeDaemon) -> None:
    daemon.hold = True
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", CHILD],
        env={
            **os.environ,
            "TUTTI_SOCKET_DIR": str(daemon.socket_dir),
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("1\n", "")
