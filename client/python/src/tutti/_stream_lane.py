"""The stream lane, over gRPC: works go out in the order of their numbers, completions come in.

A stream that breaks while the session lives fails nothing: the lane attaches again, is told the
last number that the daemon has received, and sends what came after it.

Threads: any thread submits. One thread reads completions and ends works; gRPC has one that sends.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from tutti import _exit, _rpc, _wire
from tutti._lane import Completable, Request, deadline_of, left_until, none_has_ended
from tutti._reentry import cannot_submit, cannot_wait, is_held
from tutti.binding import Span
from tutti.errors import Cause, CollectiveError, NodeLostError, error_of

# isort: split
import grpc

# The daemon keeps completions until they are acknowledged, so many at most, and at most as many as
# works may be in flight: it ends a session that leaves it with four times of these.
_ACKNOWLEDGE_EVERY_MAX = 64
# How long the lane tries to attach before it takes the daemon for lost.
_ATTACH_TIMEOUT_S = 10.0
_BACKOFF_FIRST_S, _BACKOFF_MAX_S = 0.05, 0.5
# What the stream may say of the end better than the hang-up of the session socket, whichever is
# first.
_TELLING = (Cause.DRAINING, Cause.PROTOCOL, Cause.LIMIT)
# How long a fork waits for the stream to end; it takes a few milliseconds.
_PAUSE_S = 0.5
# After the hang-up: time for completions that the daemon had already sent.
_DRAIN_S = 0.25


@dataclass(slots=True)
class _Pending:
    message: Any
    work: Completable


class _Stream:
    """The sending side of one stream: an iterator that gRPC's thread takes messages from."""

    def __init__(self, first: Any) -> None:
        self.outbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.outbox.put(first)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        message = self.outbox.get()
        if message is None:
            raise StopIteration
        return message

    def end(self) -> None:
        """Lets gRPC's thread go."""
        self.outbox.put(None)


class StreamLane:
    """The stream of one session, made by `_lanes`. See Lane for what the methods do.

    `on_broken(error)` runs on the lane's thread if it can't be attached again: the session is of no
    use then. `no_ring` is why this isn't the ring.
    """

    def __init__(
        self,
        stub: _rpc.ClientStub,
        in_flight_max: int,
        on_broken: Callable[[CollectiveError], None],
        no_ring: str,
    ) -> None:
        self._stub = stub
        self._no_ring = no_ring
        self._on_broken = on_broken
        self._in_flight_max = in_flight_max
        self._lock = threading.RLock()
        self._room = threading.Condition(self._lock)  # notified when one is in flight no more
        self._acknowledge_every = min(_ACKNOWLEDGE_EVERY_MAX, in_flight_max)
        self._pending: dict[int, _Pending] = {}
        self._ending: list[_Pending] = []  # being completed at this moment
        self._number = 0  # the last work submitted
        self._serial = 0  # the last completion seen
        self._acknowledged = 0  # the last completion acknowledged
        self._stream: _Stream | None = None  # set while works may be sent
        self._call: Any = None
        self._end: CollectiveError | None = None
        self._attached = threading.Event()
        self._closing = threading.Event()
        self._may_attach = threading.Event()  # clear around a fork
        self._may_attach.set()
        self._detached = threading.Event()  # set while there is no call
        self._detached.set()
        self._thread = threading.Thread(target=self._run, name="tutti-lane", daemon=True)
        self._thread.start()

    def wait_ready(self) -> None:
        self._attached.wait(_ATTACH_TIMEOUT_S + 1)
        if self._end is not None:
            _exit.raise_copy(self._end)
        if not self._attached.is_set():
            raise NodeLostError("the daemon takes no works")

    def submit(self, request: Request, work: Completable, patience_s: float | None = None) -> None:
        if is_held(self._lock):
            raise cannot_submit()
        message = _message_of(request)
        with self._lock:
            if not self._room.wait_for(self._has_room, patience_s):
                raise none_has_ended(self._in_flight_max)
            if self._end is None:
                message.number = self._number + 1
                envelope = _wire.client.AttachRequest(work=message)
                self._pending[message.number] = _Pending(envelope, work)
                self._number = message.number
                if self._stream is not None:
                    self._stream.outbox.put(envelope)
                return
        _exit.raise_copy(self._end)

    def has_taken(self, work: Completable) -> bool:
        with self._lock:
            taken = (*self._pending.values(), *self._ending)
            return any(pending.work is work for pending in taken)

    def _has_room(self) -> bool:
        in_flight = len(self._pending) + len(self._ending)
        return self._end is not None or in_flight < self._in_flight_max

    @property
    def last_number(self) -> int:
        return self._number

    def poll(self) -> None:
        pass  # the lane's thread takes them

    def wait(self, work: Completable, timeout_s: float | None) -> bool:
        if is_held(self._lock):
            raise cannot_wait()
        woken: queue.SimpleQueue[None] = queue.SimpleQueue()
        wake = partial(woken.put, None)
        work._wakers.append(wake)
        deadline = deadline_of(timeout_s)
        try:
            while not work._ended and (left_s := left_until(deadline)) > 0:
                with contextlib.suppress(queue.Empty):
                    woken.get(timeout=left_s)
        finally:
            work._wakers.remove(wake)
        return work._ended

    def linger(self, work: Completable) -> bool:
        return work._ended

    def watch(self, loop: Any, token: object) -> None:
        pass

    def unwatch(self, loop: Any, token: object) -> None:
        pass

    def attend(self) -> float | None:
        return None

    def forked(self) -> None:
        pass

    def close(self, reason: CollectiveError) -> None:
        self._closing.set()
        if threading.current_thread() is not self._thread:
            # The daemon has closed its end, or does so now: the stream ends by itself.
            self._may_attach.set()
            self._thread.join(_DRAIN_S)
        call = self._call
        if call is not None:
            call.cancel()
        with self._lock:
            if self._end is None:
                self._end = reason
        self._fail_pending()

    def pause(self) -> None:
        # Nothing fails: works wait, completions are sent again.
        self._may_attach.clear()
        call = self._call
        if call is not None:
            call.cancel()
        self._detached.wait(_PAUSE_S)

    def resume(self) -> None:
        self._may_attach.set()

    def join(self, timeout_s: float) -> None:
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout_s)

    def _fail_pending(self) -> None:
        for number in list(self._pending):
            self._complete(number, self._end)
        with self._lock:
            self._room.notify_all()
        self._attached.set()

    def _complete(self, number: int, error: CollectiveError | None) -> None:
        with self._lock:
            pending = self._pending.pop(number, None)
            if pending is None:
                return
            self._ending.append(pending)
        pending.work._complete(error)
        with self._lock:
            self._ending.remove(pending)
            self._room.notify_all()  # one of them may have been interrupted (Ctrl-C)

    def _run(self) -> None:
        give_up = time.monotonic() + _ATTACH_TIMEOUT_S
        backoff_s = 0.0
        while not self._closing.wait(backoff_s):
            self._may_attach.wait()
            started = time.monotonic()
            try:
                opened = self._attach_once(give_up)
            except CollectiveError as error:
                if not self._closing.is_set() or error.cause in _TELLING:
                    self._break(error)
                return
            if opened:
                give_up = time.monotonic() + _ATTACH_TIMEOUT_S
            elif time.monotonic() >= give_up and not self._closing.is_set():
                self._break(NodeLostError("the daemon answers its session socket, but not gRPC's"))
                return
            if not self._may_attach.is_set() or (opened and time.monotonic() - started > 1):
                backoff_s = 0.0
            else:
                backoff_s = min(max(_BACKOFF_FIRST_S, 2 * backoff_s), _BACKOFF_MAX_S)

    def _attach_once(self, give_up: float) -> bool:
        """Runs one stream to its end. Returns if it was open; raises if no other will be."""
        self._acknowledged = self._serial
        opening = _wire.client.Open(acknowledged=self._acknowledged, no_ring=self._no_ring)
        stream = _Stream(_wire.client.AttachRequest(open=opening))
        self._detached.clear()
        try:
            call = self._call = self._stub.attach(stream)
        except ValueError:  # the channel is closed, as this lane is
            self._detached.set()
            return False
        if self._closing.is_set() or not self._may_attach.is_set():
            call.cancel()  # `close` or `pause` may have come too early to do it
        timer = threading.Timer(give_up - time.monotonic(), call.cancel)
        timer.daemon = True
        timer.start()
        opened = False
        try:
            for response in call:
                if response.HasField("opened"):
                    timer.cancel()
                    self._resume(stream, response.opened.last_received)
                    opened = True
                else:
                    self._take(stream, response.completions.completions)
        except grpc.RpcError as error:
            if not _rpc.is_broken_connection(error):
                raise _rpc.error_of_call(error, "attaching to the daemon") from error
        finally:
            timer.cancel()
            with self._lock:
                self._stream = None
            stream.end()
            self._call = None
            self._detached.set()
        return opened

    def _resume(self, stream: _Stream, last_received: int) -> None:
        """Sends what the daemon has not received, and lets new works follow."""
        with self._lock:
            for number, pending in self._pending.items():
                if number > last_received:
                    stream.outbox.put(pending.message)
            self._stream = stream
        self._attached.set()

    def _take(self, stream: _Stream, completions: Iterable[Any]) -> None:
        for completion in completions:
            if completion.serial <= self._serial:
                continue  # known from the stream before
            if completion.serial != self._serial + 1:
                raise CollectiveError(
                    f"completion {completion.serial} follows {self._serial}", cause=Cause.PROTOCOL
                )
            self._serial = completion.serial
            failed = completion.HasField("failure")
            self._complete(completion.number, error_of(completion.failure) if failed else None)
        if self._serial - self._acknowledged >= self._acknowledge_every:
            self._acknowledged = self._serial
            through = _wire.client.Acknowledge(through=self._serial)
            stream.outbox.put(_wire.client.AttachRequest(acknowledge=through))

    def _break(self, error: CollectiveError) -> None:
        with self._lock:
            if self._end is None:
                self._end = error
        self._on_broken(error)


def _message_of(request: Request) -> Any:
    membership, kind, dtype, op, root, timeout_ms, bound = request
    return _wire.client.Work(
        membership=membership,
        kind=kind,
        dtype=dtype,
        op=op,
        root=root,
        timeout_ms=timeout_ms,
        inputs=[_span_of(span) for span in bound.inputs],
        outputs=[_span_of(span) for span in bound.outputs],
    )


def _span_of(span: Span) -> Any:
    arena, offset, length = span
    return _wire.client.Span(arena=arena, offset=offset, length=length)
