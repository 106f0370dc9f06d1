"""What a lane is: how works reach the daemon, and how they end.

There are two: the ring in shared memory (`_ring_lane`) and the gRPC stream (`_stream_lane`).
Numbers, checks and errors are the same on both; `_lanes` chooses.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

from tutti import _wire
from tutti.binding import Bound
from tutti.errors import CollectiveError, LimitError

# System calls don't take any timeout: poll's ends at 24 days.
_WAIT_MAX_S = 600.0

# What tutti.v1.Work says, but for its number: membership, kind, dtype, op, root, timeout_ms; and
# the spans.
Request: TypeAlias = tuple[
    int,
    _wire.types.CollectiveKind,
    _wire.types.DataType,
    _wire.types.ReduceOp,
    int,
    int,
    Bound,
]


class Awaited(Protocol):
    """What threads and coroutines wait for."""

    # Called, possibly more than once, after `_ended` has become true.
    _wakers: list[Callable[[], None]]

    @property
    def _ended(self) -> bool: ...


class Completable(Awaited, Protocol):
    """What is submitted along with a request."""

    def _complete(self, error: CollectiveError | None) -> None:
        """Ends it. A call that was interrupted (Ctrl-C) is made again, and does the rest."""


class Lane(Protocol):
    """The lane of one session. Thread-safe, but for what concerns a fork. Owned by the connection.

    Nothing but `forked` may be called in a forked child.
    """

    def wait_ready(self) -> None:
        """Returns when works may be submitted. Raises why they can't be."""

    def submit(self, request: Request, work: Completable, patience_s: float | None = None) -> None:
        """Numbers the request and sends it; `work` is completed later.

        Waits while as many works are in flight as may be, but not longer than `patience_s`. Raises
        why the lane has ended.
        """

    def has_taken(self, work: Completable) -> bool:
        """True from when `work` was sent until it was completed: its tensors are the daemon's."""

    @property
    def last_number(self) -> int:
        """The number of the last work submitted; 0 if there is none."""

    def poll(self) -> None:
        """Ends works whose completions are there, if that needs somebody to do it."""

    def wait(self, work: Completable, timeout_s: float | None) -> bool:
        """Returns if `work` has ended within that time."""

    def linger(self, work: Completable) -> bool:
        """As `wait`, for so short a time that a coroutine may do it."""

    def watch(self, loop: Any, token: object) -> None:
        """On the thread of `loop`, which is to end works while a coroutine of it waits."""

    def unwatch(self, loop: Any, token: object) -> None:
        """Ends what `watch` began with that token."""

    def attend(self) -> float | None:
        """On the session's thread, when it was nudged or its time was up: looks after what nobody
        waits for. Returns after how many seconds it wants to be called again, if any.
        """

    def close(self, reason: CollectiveError) -> None:
        """Ends the lane; works in flight fail with `reason`. Idempotent.

        Completions that have already been sent still count: they get a quarter of a second.
        """

    def join(self, timeout_s: float) -> None:
        """Waits for what `close` has left running."""

    def pause(self) -> None:
        """Before a fork: ends calls of gRPC until `resume`. Nothing fails."""

    def resume(self) -> None:
        """In the parent, after a fork."""

    def forked(self) -> None:
        """In a child: closes what it must not hold."""


def none_has_ended(in_flight_max: int) -> LimitError:
    """What `submit` raises if it has waited for so long."""
    return LimitError(
        f"{in_flight_max} operations are in flight, and none has ended; works_in_flight_max is the "
        "daemon's setting"
    )


def deadline_of(timeout_s: float | None) -> float | None:
    """On the clock of `left_until`; None: never."""
    return None if timeout_s is None else time.monotonic() + timeout_s


def left_until(deadline: float | None) -> float:
    """How many seconds to wait before the next look: 0 only if the deadline has come."""
    if deadline is None:
        return _WAIT_MAX_S
    return min(max(0.0, deadline - time.monotonic()), _WAIT_MAX_S)
