"""The one way in which tests wait for something that nothing announces.

What can be waited for by itself (a process, a reply, a socket) is waited for by itself. A counter
in the daemon is looked at again and again, with a pause, and never without a deadline.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# Long enough for this machine at its worst; nothing waits that long unless it fails.
DEADLINE_S = 20.0

# Pauses double between these: what comes soon is seen soon, and what comes late is not disturbed.
_PAUSE_MIN_MS, _PAUSE_MAX_MS = 1, 20


class OutOfTime(AssertionError):
    """A deadline of a test has passed."""


def wait_until(
    condition: Callable[[], T],
    what: str,
    timeout_s: float = DEADLINE_S,
    pidfd: int | None = None,
) -> T:
    """Calls `condition` until what it returns is true, and returns that.

    Fails with OutOfTime, saying `what` did not come. The pauses are spent on `pidfd`: if that
    process ends, `condition` is asked a last time and then the wait fails at once.
    """
    poll = select.poll()
    if pidfd is not None:
        poll.register(pidfd, select.POLLIN)
    give_up = time.monotonic() + timeout_s
    pause_ms = _PAUSE_MIN_MS
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() >= give_up:
            raise OutOfTime(f"after {timeout_s:g} s still not: {what}")
        if poll.poll(pause_ms):
            result = condition()
            if result:
                return result
            raise OutOfTime(f"the process ended before: {what}")
        pause_ms = min(2 * pause_ms, _PAUSE_MAX_MS)


def wait_for_exit(pidfd: int, what: str, timeout_s: float = DEADLINE_S) -> None:
    """Returns when the process behind `pidfd` has ended."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    if not poll.poll(timeout_s * 1000):
        raise OutOfTime(f"after {timeout_s:g} s still running: {what}")
