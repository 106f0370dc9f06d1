"""Ctrl-C at every place that an operation passes: what comes after it works as if nothing had been.

A profile function raises KeyboardInterrupt at the n-th place where the interpreter would run a
signal handler, for each n in turn, until an operation runs to its end undisturbed. These places are
the beginning of a function, and the return from one that is written in C, whose result is lost.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from fake_daemon import FakeDaemon, wait_until
from ranks import in_threads

import tutti
from tutti.arena import Block, Pool

PACKAGE = str(Path(tutti.__file__).parent)


def raise_interrupt() -> None:
    raise KeyboardInterrupt


class Interrupter:
    """Calls `handler` in this thread, once, at the `at`-th place in the package."""

    def __init__(self, at: int, handler: Callable[[], None] = raise_interrupt) -> None:
        self.left = at
        self.place = ""
        self.handler = handler

    def __enter__(self) -> Interrupter:
        sys.setprofile(self._profile)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _profile(self, frame: FrameType, event: str, what: object) -> None:
        if event not in ("call", "c_return") or not frame.f_code.co_filename.startswith(PACKAGE):
            return
        self.left -= 1
        if self.left < 0:
            sys.setprofile(None)
            self.place = f"{frame.f_code.co_filename}:{frame.f_lineno} ({event} {what})"
            self.handler()


def interrupt_everywhere(body: Callable[[], Any], check: Callable[[], None]) -> int:
    """Runs `body`, interrupted at each place in turn, and `check` after each. Returns how often."""
    for at in range(100_000):
        try:
            with Interrupter(at) as interrupter:
                body()
        except KeyboardInterrupt:
            assert interrupter.place
            try:
                check()
            except BaseException as error:
                raise AssertionError(f"after Ctrl-C at {interrupter.place}") from error
        else:
            assert not interrupter.place, f"Ctrl-C at {interrupter.place} was swallowed"
            return at
    raise AssertionError("no end")


class Blocks:
    """Counts what the pool has given out."""

    def __init__(self, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
        self.out: list[Block] = []
        allocate, free = pool.allocate, pool.free

        def counted_allocate(size: int) -> Block:
            self.out.append(allocate(size))
            return self.out[-1]

        def counted_free(block: Block) -> None:
            self.out.remove(block)  # ValueError if it is given back twice
            free(block)

        monkeypatch.setattr(pool, "allocate", counted_allocate)
        monkeypatch.setattr(pool, "free", counted_free)


@pytest.fixture(params=[False, True], ids=["asleep", "awake"])
def awake(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def group(awake: bool, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A group of one rank. On a ring, its waits always sleep, or hardly ever."""
    # Nobody but who waits looks after works.
    monkeypatch.setattr("tutti._ring_lane._ATTEND_S", 3600.0)
    daemon.spin_us = 10_000 if awake else 0
    with tutti.Client() as client:
        ring = next(iter(daemon.sessions.values())).ring
        if ring is not None:
            ring.only_to_sleepers = not awake
        yield client.join("g", 0, 1)


def assert_nobody_is_left(group: tutti.Group) -> None:
    """On a ring: of this thread."""
    sleepers = getattr(group._lane, "_sleepers", None)
    if sleepers is not None:
        assert sleepers.watcher is None
        assert not sleepers._threads


def test_operations(
    group: tutti.Group, awake: bool, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Staged and in an arena, and with a table of spans."""
    arena = group.client.zeros(10)
    blocks = Blocks(group.client._pool, monkeypatch)
    tensors = [np.ones(10), arena]

    def check() -> None:
        if awake:
            # The daemon has been told of what it was sent.
            daemon.wait_for(lambda: len(daemon.works) == group._lane.last_number)
        assert_nobody_is_left(group)
        group.barrier(timeout=10)
        array = np.arange(10.0)
        group.allreduce(array, timeout=10)
        assert (array == np.arange(10.0)).all()
        assert (tensors[0] == 1).all()
        lost.append(len(blocks.out))
        blocks.out.clear()

    lost: list[int] = []
    count = interrupt_everywhere(lambda: group.allreduce_coalesced(tensors), check)
    print(f"{count} places, {sum(lost)} blocks lost")
    assert count > 100
    # Between where a block is allocated and where it is known who gives it back.
    assert sum(lost) <= 6


class Waiter:
    """A thread, or an event loop in one, that waits for the other rank of a pair."""

    def __init__(self, client: tutti.Client, in_loop: bool) -> None:
        name = f"pair {in_loop}"
        self.near, self.far = in_threads(2, lambda rank: client.join(name, rank, 2))
        self.target = (lambda: asyncio.run(self.await_it())) if in_loop else self.wait

    def start(self) -> None:
        self.thread = threading.Thread(target=self.target)
        self.thread.start()

    def wait(self) -> None:
        self.near.barrier(timeout=20)

    async def await_it(self) -> None:
        await self.near.barrier(timeout=20, async_op=True)


@pytest.mark.parametrize("lane", ["ring"], indirect=True)
@pytest.mark.parametrize("kinds", [[False], [True], [False, True]], ids=["thread", "loop", "both"])
@pytest.mark.parametrize("in_loop", [False, True], ids=["by a thread", "by a loop"])
def test_others_are_woken(group: tutti.Group, kinds: list[bool], in_loop: bool) -> None:
    """What they wait for ends at the same time as what the interrupted one waits for."""
    waiters = [Waiter(group.client, kind) for kind in kinds]
    lane = group._lane
    before = 0

    async def await_it() -> None:
        await group.barrier(async_op=True)

    def body() -> None:
        for waiter in waiters:
            waiter.far.barrier(async_op=True)
        if in_loop:
            asyncio.run(await_it())
        else:
            group.barrier()

    def check() -> None:
        nonlocal before
        submitted = lane.last_number - before
        for waiter in waiters[submitted:]:
            waiter.far.barrier(async_op=True)
        for waiter in waiters:
            waiter.thread.join(20)
            assert not waiter.thread.is_alive(), "it hangs"
        restart()

    def restart() -> None:
        nonlocal before
        before = lane.last_number + len(waiters)
        for waiter in waiters:
            waiter.start()
        wait_until(lambda: lane.last_number == before)

    restart()
    assert interrupt_everywhere(body, check) >= 60
    for waiter in waiters:
        waiter.thread.join(20)
        assert not waiter.thread.is_alive(), "it hangs"
