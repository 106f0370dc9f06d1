"""`Work`: the handle of one submitted operation."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from tutti import _exit, _fork
from tutti.errors import CollectiveError, NodeLostError

if TYPE_CHECKING:
    from tutti.binding import Bound

__all__ = ["Work"]

# Results of at least that size are copied back by a thread of their own, so that the completions of
# other works don't wait for it: 4 MiB take half a millisecond, a thread a tenth of that.
_LARGE_RESULT_BYTES = 4 << 20
# The daemon ends works at their deadline. One that it has not ended so much later never will be:
# the daemon is stopped or stuck, though its process is there.
_DAEMON_GRACE_S = 10.0


class Work:
    """One submitted operation. Wait for it with `wait()` or `await`.

    Keeps its tensors alive until it has completed; don't touch them before. Thread-safe; any number
    of threads and coroutines may wait. On failure no tensor has been written, but where the session
    itself has ended (NodeLostError, or the client was closed): then an operation that was running
    may have written, or may still write, arrays that live in arenas.
    """

    def __init__(
        self, description: str, owner: object, bound: Bound | None, timeout_s: float | None
    ) -> None:
        """Made by Group. `owner` lives until completion; `timeout_s` None: not known here."""
        self._description = description
        self._owner: object | None = owner
        self._bound = bound
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._error: BaseException | None = None
        self._callbacks: list[Callable[[], None]] = []

    def wait(self, timeout: float | None = None) -> None:
        """Returns when the operation has succeeded, and its result is in the tensor.

        `timeout` in seconds only ends the waiting, with TimeoutError: the operation goes on, and
        has its own deadline. Raises the operation's CollectiveError.
        """
        if not self._done.is_set():
            _fork.check()
            self._wait(timeout)
        if self._error is not None:
            _exit.raise_copy(self._error)

    def done(self) -> bool:
        """True once the operation has ended, well or badly."""
        return self._done.is_set()

    def exception(self) -> BaseException | None:
        """The operation's error; None if it has succeeded. Raises RuntimeError if it isn't done."""
        if not self._done.is_set():
            raise RuntimeError(f"{self._description} is not done")
        return self._error

    def __await__(self) -> Generator[Any, None, None]:
        """As `wait()`, in asyncio. Cancelling the task only ends the waiting."""
        if not self._done.is_set():
            _fork.check()
            loop = asyncio.get_running_loop()
            waiter = loop.create_future()

            def wake() -> None:
                if not waiter.done():
                    waiter.set_result(None)

            def on_done() -> None:
                with contextlib.suppress(RuntimeError):  # the loop has been closed
                    loop.call_soon_threadsafe(wake)

            self._when_done(on_done)
            yield from waiter
        self.wait()

    def __repr__(self) -> str:
        state = "pending"
        if self._done.is_set():
            state = "done" if self._error is None else f"failed: {self._error}"
        return f"<Work {self._description}: {state}>"

    @property
    def patience_s(self) -> float | None:
        """After so long the daemon has ended the work, or never will; None: not known."""
        return None if self._timeout_s is None else self._timeout_s + _DAEMON_GRACE_S

    def _wait(self, timeout: float | None) -> None:
        limit = self.patience_s
        if timeout is not None and (limit is None or timeout < limit):
            if not self._done.wait(timeout):
                raise TimeoutError(f"{self._description} is still pending after {timeout:g} s")
        elif not self._done.wait(limit):
            raise NodeLostError(
                f"{self._description}: the daemon has not ended it {_DAEMON_GRACE_S:g} s after its "
                "deadline. The daemon may be stopped (`tutti status`)"
            )

    def _when_done(self, callback: Callable[[], None]) -> None:
        with self._lock:
            if not self._done.is_set():
                self._callbacks.append(callback)
                return
        callback()

    def _complete(self, error: CollectiveError | None) -> None:
        """The daemon has ended the work. On the lane's thread."""
        bound = self._bound
        if error is None and bound is not None and bound.results_bytes >= _LARGE_RESULT_BYTES:
            copying = threading.Thread(
                target=self._finish, args=(None,), name="tutti-copy", daemon=True
            )
            with contextlib.suppress(RuntimeError):  # there can't be more threads
                copying.start()
                return
        self._finish(error)

    def _finish(self, error: CollectiveError | None) -> None:
        """Copies staged results back if the work has succeeded, and ends it."""
        failed: BaseException | None = error
        if self._bound is not None:
            try:
                self._bound.finish(error is None)
            except Exception as broken:  # of the copy; whoever waits must go on
                failed = broken
        with self._lock:
            self._error = failed
            self._bound = None
            self._owner = None
            callbacks, self._callbacks = self._callbacks, []
            self._done.set()
        for callback in callbacks:
            callback()
