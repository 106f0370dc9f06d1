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
    from tutti._lane import Lane
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

    __slots__ = (
        "__weakref__",
        "_bound",
        "_copying",
        "_ended",
        "_error",
        "_lane",
        "_names",
        "_owner",
        "_timeout_s",
        "_wakers",
    )

    def __init__(
        self,
        names: tuple[str, str],
        owner: object,
        lane: Lane,
        bound: Bound,
        timeout_s: float | None,
    ) -> None:
        """Made by Group. `names` are those of the operation and the group. `owner` lives until
        completion; `timeout_s` None: not known here.
        """
        self._names = names
        self._owner: object | None = owner
        self._lane = lane
        self._bound: Bound | None = bound
        self._timeout_s = timeout_s
        self._error: BaseException | None = None
        self._copying: threading.Lock | None = None
        # Who adds a waker looks at _ended after it, and who sets _ended calls the wakers after it.
        self._ended = False
        self._wakers: list[Callable[[], None]] = []

    def wait(self, timeout: float | None = None) -> None:
        """Returns when the operation has succeeded, and its result is in the tensor.

        `timeout` in seconds only ends the waiting, with TimeoutError: the operation goes on, and
        has its own deadline. Raises the operation's CollectiveError.

        A signal handler that has interrupted Tutti may get a RuntimeError from this, as from any
        operation: where it would wait for ever. Better it sets a flag.
        """
        if not self._ended:
            _fork.check()
            self._wait(timeout)
        if self._error is not None:
            _exit.raise_copy(self._error)

    def done(self) -> bool:
        """True once the operation has ended, well or badly."""
        if not self._ended:
            _fork.check()
            self._lane.poll()
        return self._ended

    def exception(self) -> BaseException | None:
        """The operation's error; None if it has succeeded. Raises RuntimeError if it isn't done."""
        if not self.done():
            raise RuntimeError(f"{self._description} is not done")
        return self._error

    def __await__(self) -> Generator[Any, None, None]:
        """As `wait()`, in asyncio. Cancelling the task only ends the waiting."""
        if not self.done() and not self._lane.linger(self):
            yield from self._suspend()
        self.wait()

    def __repr__(self) -> str:
        state = "pending"
        if self._ended:
            state = "done" if self._error is None else f"failed: {self._error}"
        return f"<Work {self._description}: {state}>"

    @property
    def patience_s(self) -> float | None:
        """After so long the daemon has ended the work, or never will; None: not known."""
        return None if self._timeout_s is None else self._timeout_s + _DAEMON_GRACE_S

    @property
    def _is_ending(self) -> bool:
        """Its end is known, though the result may be still on its way into the tensor."""
        return self._ended or self._copying is not None

    @property
    def _description(self) -> str:
        label, group = self._names
        return f"{label} of group {group!r}"

    def _wait(self, timeout: float | None) -> None:
        limit = self.patience_s
        if timeout is not None and (limit is None or timeout < limit):
            if not self._lane.wait(self, max(0.0, timeout)):
                raise TimeoutError(f"{self._description} is still pending after {timeout:g} s")
        elif not self._lane.wait(self, limit):
            raise self._overdue()

    def _overdue(self) -> NodeLostError:
        return NodeLostError(
            f"{self._description}: the daemon has not ended it {_DAEMON_GRACE_S:g} s after its "
            "deadline. The daemon may be stopped (`tutti status`)"
        )

    def _suspend(self) -> Generator[Any, None, None]:
        """Until it has ended. Raises NodeLostError as `_wait` does."""
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        limit = self.patience_s

        def stop_waiting() -> None:
            if not waiter.done():
                waiter.set_result(None)

        def wake() -> None:
            if _running_loop() is loop:
                stop_waiting()
            else:
                with contextlib.suppress(RuntimeError):  # the loop has been closed
                    loop.call_soon_threadsafe(stop_waiting)

        self._wakers.append(wake)
        timer = None if limit is None else loop.call_later(limit, stop_waiting)
        try:
            self._lane.watch(loop, waiter)
            if not self._ended:
                yield from waiter
        finally:
            if timer is not None:
                timer.cancel()
            self._wakers.remove(wake)
            self._lane.unwatch(loop, waiter)
        if not self._ended:
            raise self._overdue()

    def _complete(self, error: CollectiveError | None) -> None:
        """The daemon has ended the work. See Completable."""
        bound = self._bound
        if error is None and bound is not None and bound.results_bytes >= _LARGE_RESULT_BYTES:
            if self._copying is None:
                self._copying = threading.Lock()
            copying = threading.Thread(target=self._copy, name="tutti-copy", daemon=True)
            with contextlib.suppress(RuntimeError):  # there can't be more threads
                copying.start()
                return
        self._finish(error)

    def _copy(self) -> None:
        # Ctrl-C while the thread was being started may have led to another one.
        assert self._copying is not None
        with self._copying:
            self._finish(None)

    def _finish(self, error: CollectiveError | None) -> None:
        """Copies staged results back if the work has succeeded, and ends it."""
        bound = self._bound  # None soon, if a signal handler ends it meanwhile
        if not self._ended:
            failed: BaseException | None = error
            if bound is not None:
                try:
                    bound.finish(error is None)
                except Exception as broken:  # of the copy; whoever waits must go on
                    failed = broken
            self._error = failed
            self._ended = True
        self._bound = None
        self._owner = None
        for wake in tuple(self._wakers):
            wake()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
