"""The ring lane: works and completions go through memory shared with the daemon.

It has no thread: completions are taken by whoever waits, so an operation needs no wake-up while
both sides are awake. A waiter looks, yields its processor for a while (`_spin`), and then sleeps
until the daemon rings (`_sleepers`). What nobody waits for stays in the ring until the next call,
or until the session's thread looks after it, once a second.

Threads: any thread submits, and any thread takes.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from tutti import _exit, _wire
from tutti._doorbell import Doorbell
from tutti._lane import Completable, Request, deadline_of, left_until, none_has_ended
from tutti._reentry import cannot_submit, cannot_wait, is_held
from tutti._ring import Completions, RingBroken, Submissions
from tutti._sleepers import Sleepers
from tutti._spin import Spin
from tutti.arena import Pool
from tutti.binding import Bound, Span
from tutti.errors import CollectiveError, NodeLostError, error_of

# isort: split
from google.protobuf.message import DecodeError

# A coroutine that yields the processor holds all others of its loop up, so it does that no longer
# than most operations take that are answered at once.
_LINGER_YIELDS = 20
# How often the session's thread looks after works that nobody waits for, if there are any.
_ATTEND_S = 1.0
# After the session's end: time for completions of a daemon that is still there.
_DRAIN_S = 0.25
_NO_SPAN: Span = (0, 0, 0)


class _Room:
    """Awaited by who submits while too many works are in flight."""

    def __init__(self, is_there: Callable[[], bool]) -> None:
        self._is_there = is_there
        self._wakers: list[Callable[[], None]] = []

    @property
    def _ended(self) -> bool:
        return self._is_there()


class RingLane:
    """The ring of one session, made by `_lanes`. See Lane for what the methods do.

    `on_broken(error)` and `nudge()` may be called on any thread: the session is of no use any more,
    and `attend` is to be called.
    """

    def __init__(
        self,
        ends: tuple[Submissions, Completions],
        doorbell: Doorbell,
        in_flight_max: int,
        spin_us: int,
        pool: Pool,
    ) -> None:
        self._submissions, self._completions = ends
        self._doorbell = doorbell
        self._in_flight_max = in_flight_max
        self._pool = pool
        self._spin = Spin(spin_us)
        self._sleepers = Sleepers(doorbell, self._completions.sleep, self._take)
        self.on_broken: Callable[[CollectiveError], None] = lambda error: None
        self.nudge: Callable[[], None] = lambda: None
        self._submitting = threading.RLock()
        # Of one who takes. A signal handler or destructor that runs meanwhile may take as well.
        self._taking = threading.RLock()
        self._pending: dict[int, Completable] = {}
        self._room = _Room(self._has_room)
        self._end: CollectiveError | None = None
        self._broken = False
        self._attended = False  # the session's thread will call `attend` by itself
        self._left_alone = False

    def wait_ready(self) -> None:
        if self._end is not None:
            _exit.raise_copy(self._end)

    # --- Works go in ---

    def submit(self, request: Request, work: Completable, patience_s: float | None = None) -> None:
        if is_held(self._submitting):
            raise cannot_submit()
        fields = self._fields(request)
        deadline = None
        while not self._try_submit(fields, work):
            deadline = deadline or deadline_of(patience_s)
            self._yield_and_sleep(self._room, deadline)
            # Another thread may have been faster where there was room.
            if left_until(deadline) == 0 and not self._room._ended:
                raise none_has_ended(self._in_flight_max)
        if not self._attended:
            self._have_it_attended()
        if self._end is not None:
            self._take()  # which ends this one too, if it came too late for `close`

    def _have_it_attended(self) -> None:
        try:
            self._attended = True
            self.nudge()
        except BaseException:
            self.nudge()  # Ctrl-C may have come before it
            raise

    def has_taken(self, work: Completable) -> bool:
        last = self._submissions.last_number
        pending = list(self._pending.items())
        return any(each is work and number <= last for number, each in pending)

    @property
    def last_number(self) -> int:
        return self._submissions.last_number

    def _fields(self, request: Request) -> tuple[int, ...]:
        """Those of a SubmissionEntry after the number."""
        membership, kind, dtype, op, root, timeout_ms, bound = request
        inputs, outputs = bound.inputs, bound.outputs
        if len(inputs) <= 1 and len(outputs) <= 1:
            spans = (*(inputs[0] if inputs else _NO_SPAN), *(outputs[0] if outputs else _NO_SPAN))
        else:
            spans = (*self._put_table(bound), *_NO_SPAN)
        head = (membership, timeout_ms, root, kind, dtype, op, len(inputs), len(outputs))
        return (*head, *spans)

    def _put_table(self, bound: Bound) -> Span:
        """Spans that don't fit into the entry lie in the pool until the work has ended."""
        spans = [*bound.inputs, *bound.outputs]
        table = struct.Struct(f"<{3 * len(spans)}Q")
        block = self._pool.allocate(table.size)
        bound.keep(block)
        numbers = (number for span in spans for number in span)
        table.pack_into(block.arena.bytes.data, block.offset, *numbers)
        return block.arena.number, block.offset, table.size

    def _try_submit(self, fields: tuple[int, ...], work: Completable) -> bool:
        """Returns False if there is no room."""
        if self._end is not None:
            _exit.raise_copy(self._end)
        submissions = self._submissions
        try:
            with self._submitting:
                number = submissions.number_of_next(self._in_flight_max)
                if not number:
                    return False
                self._pending[number] = work
                submissions.put(number, *fields)
            # The lock's release is the fence.
            if submissions.must_ring():
                self._doorbell.ring()
            return True
        except RingBroken as error:
            self._break(error)
            raise
        except BaseException:
            self._doorbell.ring()  # Ctrl-C may have come between `put` and here
            raise

    def _has_room(self) -> bool:
        return self._end is not None or self._submissions.in_flight < self._in_flight_max

    # --- Completions come out ---

    def poll(self) -> None:
        if not self._completions.is_empty():
            self._take()

    def wait(self, work: Completable, timeout_s: float | None) -> bool:
        if not self._completions.is_empty():
            self._take()
        if not work._ended and timeout_s != 0:
            self._yield_and_sleep(work, deadline_of(timeout_s))
        return work._ended

    def linger(self, work: Completable) -> bool:
        return self._spin.run(partial(self._look, work), _LINGER_YIELDS)

    def watch(self, loop: Any, token: object) -> None:
        self._sleepers.watch(loop, token)

    def unwatch(self, loop: Any, token: object) -> None:
        self._sleepers.unwatch(loop, token)

    def _yield_and_sleep(self, awaited: Completable | _Room, deadline: float | None) -> None:
        if not self._spin.run(partial(self._look, awaited)):
            # In a signal handler these may be held, and somebody else needed who waits for them.
            if is_held(self._submitting) or is_held(self._taking):
                raise cannot_wait()
            self._sleepers.sleep(awaited, deadline)

    def _look(self, awaited: Completable | _Room) -> bool:
        if not self._completions.is_empty():
            self._take()
        return awaited._ended

    def _take(self) -> None:
        """Ends the works whose completions are there.

        An entry is given back last, and what comes before may be done twice: if this is
        interrupted, the next one to take goes on.
        """
        with self._taking:
            while not (self._broken or self._completions.is_empty()):
                self._take_one()
            # Also for one who was interrupted before it came here.
            if self._room._wakers and self._room._ended:
                self._wake_submitters()
            if self._end is not None:
                self._fail_pending()

    def _take_one(self) -> None:
        taken = self._completions.taken
        try:
            entry = self._completions.peek()
            if entry is None:
                return
            serial, number, failure = entry
            error = None if failure is None else _parse(failure)
        except RingBroken as broken:
            # If a signal handler has taken it meanwhile, what was read means nothing.
            if self._completions.taken == taken:
                self._break(broken)
            return
        work = self._pending.get(number)
        if work is not None:
            work._complete(error)
            self._pending.pop(number, None)
        if failure is None:
            self._completions.take(serial)
        else:
            self._take_failure(serial)

    def _take_failure(self, serial: int) -> None:
        """The daemon may be waiting for the slot."""
        try:
            self._completions.take(serial)
            self._completions.fence()
            if self._submissions.must_ring():
                self._doorbell.ring()
        except BaseException:
            self._doorbell.ring()
            raise

    # --- The end, and what nobody waits for ---

    def attend(self) -> float | None:
        if self._end is not None:
            return None
        if self._taking.acquire(blocking=False):  # else somebody takes
            try:
                self._take()
            finally:
                self._taking.release()
        if self._doorbell.hung_up:
            # The session socket says why, unless that is still open a second later.
            if self._left_alone:
                self.on_broken(NodeLostError("the daemon has given up this session's ring"))
            self._left_alone = True
        if self._pending:
            return _ATTEND_S
        self._attended = False
        # A work may have come just now, and relied on it.
        return _ATTEND_S if self._pending else None

    def close(self, reason: CollectiveError) -> None:
        # The daemon closes its end when it has completed the last of them.
        if self._end is None and self._doorbell.fileno() >= 0:
            self._doorbell.wait_for_hang_up(_DRAIN_S)
        self._end = self._end or reason
        self._take()
        self._sleepers.end()

    def join(self, timeout_s: float) -> None:
        del timeout_s

    def pause(self) -> None:
        pass

    def resume(self) -> None:
        pass

    def forked(self) -> None:
        self._doorbell.forked()
        self._sleepers.forked()

    def _break(self, error: CollectiveError) -> None:
        """The daemon has broken the protocol."""
        self._broken = True
        self._end = self._end or error
        self.on_broken(error)

    def _fail_pending(self) -> None:
        for number, work in list(self._pending.items()):
            work._complete(self._end)
            self._pending.pop(number, None)
        self._wake_submitters()

    def _wake_submitters(self) -> None:
        for wake in tuple(self._room._wakers):
            wake()


def _parse(failure: bytes) -> CollectiveError:
    """Raises RingBroken if it is illegible."""
    try:
        return error_of(_wire.types.Failure.FromString(failure))
    except DecodeError as error:
        raise RingBroken(f"an illegible failure: {error}") from error
