"""Who sleeps until the daemon has completed something, and who wakes them.

The ring has no thread. Of the threads that sleep one is the watcher: it waits for the doorbell,
and takes completions when it has been rung. The others wait to be woken, by whoever ends what they
wait for, or by the watcher when it leaves: then one of them is the next. An event loop watches the
doorbell itself, as long as one of its coroutines waits. So whatever is waited for, somebody hears
the doorbell; who hears it takes all there is, and to end a work wakes all who wait for it.

A single Ctrl-C anywhere keeps it so: whoever is interrupted leaves, and takes once more. A signal
handler that waits in a thread that sleeps takes the watcher's place until it returns.

As long as anybody sleeps the daemon rings for all completions, also for those that a thread which
is awake takes first: one long wait costs the daemon a system call whenever it completes something.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any

from tutti._doorbell import Doorbell
from tutti._lane import Awaited, left_until
from tutti._reentry import cannot_wait, is_held


class _Sleeper:
    """One thread that sleeps."""

    def __init__(self, sleepers: Sleepers) -> None:
        self._sleepers = sleepers
        self.thread = threading.get_ident()
        # The watcher before it, of the same thread, if this one is of a signal handler.
        self.interrupted: _Sleeper | None = None
        self.bell: queue.SimpleQueue[None] = queue.SimpleQueue()

    def wake(self) -> None:
        """Called by others."""
        self.bell.put(None)
        if self._sleepers.watcher is self:
            self._sleepers.doorbell.wake()


class Sleepers:
    """Of one lane. Thread-safe.

    `take` ends all works whose completions are there. `tell(sleeps)` tells the daemon whether to
    ring, and is a fence.
    """

    def __init__(
        self, doorbell: Doorbell, tell: Callable[[bool], None], take: Callable[[], None]
    ) -> None:
        self.doorbell = doorbell
        self.watcher: _Sleeper | None = None
        self._tell = tell
        self._take = take
        self._lock = threading.RLock()
        self._threads: list[_Sleeper] = []
        self._loops: dict[Any, set[object]] = {}
        self._ended = False

    def sleep(self, awaited: Awaited, deadline: float | None) -> None:
        """Returns when `awaited` has ended, or the deadline (time.monotonic) has come."""
        if is_held(self._lock):
            raise cannot_wait()
        me = _Sleeper(self)
        try:
            self._threads.append(me)
            awaited._wakers.append(me.wake)
            while not awaited._ended:
                left_s = left_until(deadline)
                if left_s == 0:
                    break
                if self._may_watch(me):
                    self._watch(awaited, left_s)
                else:
                    with contextlib.suppress(queue.Empty):
                        me.bell.get(timeout=left_s)
        finally:
            # Ctrl-C may come here as well, and be told so by an exception once.
            try:
                self._leave(me, awaited)
            except BaseException:
                self._leave(me, awaited)
                raise

    def watch(self, loop: Any, token: object) -> None:
        """See Lane.watch."""
        with self._lock:
            if self._ended:
                return  # only a result can be still on its way, which does without us
            tokens = self._loops.setdefault(loop, set())
            tokens.add(token)
            self._tell(True)
        if not self.doorbell.hung_up:
            loop.add_reader(self.doorbell.fileno(), self._on_doorbell, loop)
        self._take()

    def unwatch(self, loop: Any, token: object) -> None:
        """See Lane.unwatch."""
        tokens = self._loops.get(loop, set())
        tokens.discard(token)
        if not tokens:
            self._stop_reading(loop)
            with self._lock:
                self._loops.pop(loop, None)
                self._tell_and_close()

    def end(self) -> None:
        """Nothing will come any more, and all that was awaited has ended."""
        with self._lock:
            self._ended = True
            self._tell_and_close()

    def forked(self) -> None:
        """In a child: the ring is the parent's, and a thread that isn't may hold the lock."""
        self._lock = threading.RLock()
        self._tell = lambda sleeps: None
        self._take = lambda: None

    def _may_watch(self, me: _Sleeper) -> bool:
        with self._lock:
            watcher = self.watcher
            is_free = watcher is None or (watcher is not me and watcher.thread == me.thread)
            if is_free and not self._ended:
                me.interrupted = watcher
                self.watcher = me
                self._tell(True)
            return self.watcher is me

    def _watch(self, awaited: Awaited, left_s: float) -> None:
        self._take()
        if not awaited._ended:
            self.doorbell.wait(left_s)
            self.doorbell.silence()

    def _leave(self, me: _Sleeper, awaited: Awaited) -> None:
        """Idempotent."""
        with contextlib.suppress(ValueError):
            awaited._wakers.remove(me.wake)
        with contextlib.suppress(ValueError):
            self._threads.remove(me)
        with self._lock:
            if self.watcher is me:
                self.watcher = me.interrupted
            self._tell_and_close()
        if me.interrupted is not None:
            self.doorbell.wake()  # what that one waits for may have ended meanwhile
        # It may have silenced the doorbell, and not looked why it was rung.
        self._take()
        if self.watcher is None:
            with contextlib.suppress(IndexError):
                # Not the first: that one's thread may be in a signal handler, which is the last.
                self._threads[-1].bell.put(None)

    def _on_doorbell(self, loop: Any) -> None:
        """On the loop's thread."""
        try:
            self.doorbell.silence()
            self._take()
        except BaseException:
            self._take()
            raise
        if self.doorbell.hung_up:
            self._stop_reading(loop)

    def _stop_reading(self, loop: Any) -> None:
        if self.doorbell.fileno() >= 0 and not loop.is_closed():
            loop.remove_reader(self.doorbell.fileno())

    def _tell_and_close(self) -> None:
        """REQUIRES: holds the lock."""
        if self.watcher is None and not self._loops:
            self._tell(False)
            if self._ended:
                self.doorbell.close()
