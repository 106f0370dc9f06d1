"""The ring lane at its worst moments: hooks make happen in between what seldom does."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import numpy as np
import pytest
from fake_daemon import FakeDaemon, wait_until
from ranks import in_threads
from test_client import pending
from test_ring_lane import ring_of, until_asleep, waited

import tutti
from tutti import _ring
from tutti._ring_lane import RingLane

pytestmark = [
    pytest.mark.usefixtures("lane"),
    pytest.mark.parametrize("lane", ["ring"], indirect=True),
]

NEVER_S = 3600.0


@pytest.fixture(autouse=True)
def nobody_else_attends(monkeypatch: pytest.MonkeyPatch) -> None:
    """The session's thread would heal, within a second, what is to be found here."""
    monkeypatch.setattr("tutti._ring_lane._ATTEND_S", NEVER_S)


@pytest.fixture
def ring_lane(client: tutti.Client) -> Any:
    """As Any, for its insides. The session's thread leaves it alone."""
    lane: Any = client._lane
    lane.nudge = lambda: None
    return lane


def once(before: Any, then: Any) -> Any:
    """`then`, before whose first call `before` is called."""
    calls = iter([before])

    def hooked(*given: Any) -> Any:
        next(calls, lambda: None)()
        return then(*given)

    return hooked


class TestRoom:
    """Who waits for it, if too many works are in flight."""

    def test_another_thread_was_faster(
        self, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Who is woken and finds no room sleeps again: there is no deadline but its own."""
        daemon.in_flight_max = 1
        with tutti.Client() as client:
            group = client.join("g", 0, 1)
            pending(group, daemon)
            looks = 0

            def woken_too_late(*_: object) -> None:
                nonlocal looks
                looks += 1
                if looks == 3:
                    daemon.release()
                    monkeypatch.undo()

            monkeypatch.setattr(client._lane, "_yield_and_sleep", woken_too_late)
            group.barrier(timeout=10)
            assert looks == 3

    def test_ctrl_c_before_they_are_told(self, daemon: FakeDaemon) -> None:
        """Of one who has given an entry back. The next to take tells them, if it takes nothing."""
        daemon.in_flight_max = 2
        with tutti.Client() as near, tutti.Client() as far:
            long, short = (
                in_threads(2, lambda rank, name=name: (near, far)[rank].join(name, rank, 2))
                for name in ("long", "short")
            )
            lane: Any = near._lane
            watcher = threading.Thread(target=long[0].barrier)
            watcher.start()
            until_asleep(daemon, near)
            first = short[0].barrier(async_op=True)
            blocked = threading.Thread(target=short[0].barrier)
            blocked.start()
            until_asleep(daemon, near, 2)
            take = lane._completions.take

            def interrupted(serial: int) -> None:
                take(serial)
                lane._completions.take = take
                raise KeyboardInterrupt

            with lane._taking:  # the watcher is too late
                lane._completions.take = interrupted
                short[1].barrier(async_op=True)
                wait_until(lambda: not lane._completions.is_empty())
                with pytest.raises(KeyboardInterrupt):
                    first.done()
            short[1].barrier(async_op=True)
            blocked.join(10)
            assert not blocked.is_alive(), "it was not told"
            long[1].barrier(async_op=True)
            watcher.join(10)


class TestSignalHandlers:
    """One that takes completions in the middle of who takes them."""

    @pytest.mark.parametrize("hook", ["is_empty", "peek", "take"])
    def test_after_a_look(
        self, single: tutti.Group, daemon: FakeDaemon, ring_lane: Any, hook: str
    ) -> None:
        works = [pending(single, daemon) for _ in range(3)]
        daemon.release()
        real = getattr(ring_lane._completions, hook)

        def hooked(*given: int) -> Any:
            result = real(*given)
            setattr(ring_lane._completions, hook, real)
            assert all(work.done() for work in works)
            return result

        setattr(ring_lane._completions, hook, hooked)
        assert works[0].done()
        single.barrier(timeout=10)
        assert ring_lane._end is None

    def test_while_it_reads(
        self, single: tutti.Group, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What was read is no entry, and the failure is another's."""
        works = [pending(single, daemon) for _ in range(3)]
        daemon.release()
        lane: Any = single._lane

        def torn() -> Any:
            monkeypatch.undo()
            assert works[0].done()
            raise _ring.RingBroken("the slot was written again")

        monkeypatch.setattr(lane._completions, "peek", torn)
        assert works[2].done()
        assert lane._end is None


class TestEnd:
    """What is submitted or completed while the lane is closed."""

    def test_a_work_that_comes_too_late_for_close(
        self, single: tutti.Group, ring_lane: Any
    ) -> None:
        """It was let in before the end, and is in flight only after all others have failed."""
        ring_lane._submissions.number_of_next = once(
            lambda: ring_lane.close(tutti.GroupClosedError("the end")),
            ring_lane._submissions.number_of_next,
        )
        work = single.barrier(async_op=True)
        assert work.done()
        with pytest.raises(tutti.GroupClosedError, match="the end"):
            work.wait()

    def test_what_is_completed_while_it_drains(
        self, single: tutti.Group, daemon: FakeDaemon, ring_lane: Any
    ) -> None:
        array = np.arange(5.0)
        work = pending(single, daemon, array)
        doorbell = ring_lane._doorbell
        doorbell.wait_for_hang_up = lambda timeout_s: daemon.release()
        ring_lane.close(tutti.GroupClosedError("the end"))
        work.wait()
        assert work.exception() is None

    def test_closed_by_two_threads(self, client: tutti.Client, ring_lane: Any) -> None:
        """The session's, and the constructor's if the session ends meanwhile: one by one."""
        both = threading.Barrier(2)
        met: list[bool] = []

        def close(_: object) -> None:
            try:
                both.wait(0.2)
                met.append(True)
            except threading.BrokenBarrierError:
                met.append(False)

        real = ring_lane.close
        ring_lane.close = close
        reason = tutti.GroupClosedError("the end")
        in_threads(2, lambda _: client._connection._on_lost(reason))
        ring_lane.close = real
        assert met == [False, False]


class TestNobodyWaits:
    """For a work: then the session's thread has to be asked to look after it."""

    def test_a_work_that_comes_while_it_is_asked_to_go(
        self,
        single: tutti.Group,
        daemon: FakeDaemon,
        ring_lane: Any,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        lane = ring_lane
        single.barrier()
        nudges: list[None] = []
        lane.nudge = lambda: nudges.append(None)
        assert lane._attended
        works: list[tutti.Work] = []

        def set_attended(_: RingLane, value: bool) -> None:
            if not value and not works:
                daemon.hold = True
                works.append(single.barrier(async_op=True))
                assert not nudges, "it relies on who attends"
            lane.__dict__["_attended"] = value

        attended = property(lambda _: lane.__dict__["_attended"], set_attended)
        with monkeypatch.context() as patch:
            patch.setattr(RingLane, "_attended", attended, raising=False)
            assert lane.attend() == NEVER_S
        daemon.release()
        works[0].wait(10)

    def test_ctrl_c_before_it_is_asked(self, single: tutti.Group, ring_lane: Any) -> None:
        nudges: list[None] = []

        def nudge() -> None:
            nudges.append(None)
            if len(nudges) == 1:
                raise KeyboardInterrupt

        single.barrier()
        ring_lane.nudge = nudge
        ring_lane._attended = False
        with pytest.raises(KeyboardInterrupt):
            single.barrier()
        assert len(nudges) == 2
        single.barrier(timeout=10)
        assert len(nudges) == 2


class TestLoops:
    """Their coroutines."""

    def test_a_completion_before_the_daemon_knows(
        self, single: tutti.Group, daemon: FakeDaemon, ring_lane: Any
    ) -> None:
        """That it has to ring: then it doesn't, and who has told it looks once more."""
        work = pending(single, daemon)
        sleepers = ring_lane._sleepers
        sleepers._tell = once(daemon.release, sleepers._tell)

        async def main() -> None:
            await asyncio.wait_for(waited(work), 5)

        asyncio.run(main())
        assert ring_of(daemon).rings == 0
