"""What can go wrong in a collective: `CollectiveError` and its kinds.

Bad arguments (a rank out of range, an unsupported dtype) are `ValueError` and `TypeError`, raised
before anything is sent; `ArgumentError` is a ValueError. Everything that the daemon reports, or
that happens to it, is a `CollectiveError`. On every one of them nobody's tensor was written. All of
them can be pickled, because Ray sends them from process to process.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Any, ClassVar

from tutti import _wire

__all__ = [
    "ArgumentError",
    "Cause",
    "CollectiveError",
    "DeadlineError",
    "ForkedError",
    "GroupClosedError",
    "InvalidError",
    "LimitError",
    "MismatchError",
    "NodeLostError",
    "RankLostError",
    "error_of",
]


class ArgumentError(ValueError, RuntimeError):
    """A list of the wrong length, tensors that don't fit together, a send to oneself: nothing was
    sent. Ray raises RuntimeError for these.
    """


class Cause(enum.Enum):
    """Why, for programs. Members and numbers are those of tutti.v1.Cause; see docs/errors.md."""

    UNSPECIFIED = 0
    RANK_DIED = 1
    SESSION_CLOSED = 2
    RANK_LEFT = 3
    MISMATCH = 4
    DEADLINE = 5
    INVALID = 6
    LIMIT = 7
    DRAINING = 8
    NODE_LOST = 9
    BACKEND = 10
    NOT_FOUND = 11
    SEAT_TAKEN = 12
    UNSUPPORTED = 13
    PROTOCOL = 14
    WITHDRAWN = 15
    INTERNAL = 16


class CollectiveError(RuntimeError):
    """A collective, a join, or the service itself failed.

    Attributes:
        group: name of the group, "" if none is concerned.
        epoch: which formation of that name, counted from 1; 0 if none.
        culprits: the ranks that caused it, ascending.
        missing: the ranks that had not arrived, ascending.
        sequence: the group's collective (1, 2, 3...) that it ended; 0 if none.
        cause: why.
        code: the number of a google.rpc.Code, the same that the daemon's gRPC status has.
    """

    default_cause: ClassVar[Cause] = Cause.INTERNAL
    default_code: ClassVar[int] = 13

    def __init__(
        self,
        message: str,
        *,
        cause: Cause | None = None,
        code: int | None = None,
        group: str = "",
        epoch: int = 0,
        culprits: Iterable[int] = (),
        missing: Iterable[int] = (),
        sequence: int = 0,
    ) -> None:
        super().__init__(message)
        self.cause = self.default_cause if cause is None else cause
        self.code = self.default_code if code is None else code
        self.group = group
        self.epoch = epoch
        self.culprits = tuple(culprits)
        self.missing = tuple(missing)
        self.sequence = sequence

    def __reduce__(self) -> tuple[Any, ...]:
        # By default exceptions are pickled as (class, args), and the fields would be lost.
        fields = {
            name: getattr(self, name)
            for name in ("cause", "code", "group", "epoch", "culprits", "missing", "sequence")
        }
        return _rebuild, (type(self), str(self), fields)


def _rebuild(kind: type[CollectiveError], message: str, fields: dict[str, Any]) -> CollectiveError:
    return kind(message, **fields)


class MismatchError(CollectiveError):
    """Ranks submitted operations that don't fit together. The group stays usable."""

    default_cause = Cause.MISMATCH
    default_code = 9


class RankLostError(CollectiveError):
    """A process that held a rank died or closed its session; `culprits` names the rank."""

    default_cause = Cause.RANK_DIED
    default_code = 10


class DeadlineError(CollectiveError):
    """A deadline passed; `missing` names the ranks that had not arrived."""

    default_cause = Cause.DEADLINE
    default_code = 4


class NodeLostError(CollectiveError):
    """The daemon is gone, can't be reached or is draining; or another node was lost."""

    default_cause = Cause.NODE_LOST
    default_code = 14


class LimitError(CollectiveError):
    """A bound of the daemon was reached; the message names it and its setting."""

    default_cause = Cause.LIMIT
    default_code = 8


class GroupClosedError(CollectiveError):
    """A rank left, this process left or never joined, or the client was closed."""

    default_cause = Cause.RANK_LEFT
    default_code = 9


class InvalidError(CollectiveError):
    """The daemon refused the request: it is wrong, or this build doesn't do it."""

    default_cause = Cause.INVALID
    default_code = 3


class ForkedError(CollectiveError):
    """This process was forked from one that uses Tutti; the session stays with the parent."""

    default_cause = Cause.UNSUPPORTED
    default_code = 9


# Causes that aren't here are plain CollectiveErrors.
_KINDS: dict[Cause, type[CollectiveError]] = {
    Cause.RANK_DIED: RankLostError,
    Cause.SESSION_CLOSED: RankLostError,
    Cause.RANK_LEFT: GroupClosedError,
    Cause.MISMATCH: MismatchError,
    Cause.DEADLINE: DeadlineError,
    Cause.INVALID: InvalidError,
    Cause.LIMIT: LimitError,
    Cause.DRAINING: NodeLostError,
    Cause.NODE_LOST: NodeLostError,
    Cause.NOT_FOUND: GroupClosedError,
    Cause.UNSUPPORTED: InvalidError,
}


def error_of(failure: _wire.types.Failure) -> CollectiveError:
    """The exception for a tutti.v1.Failure. A cause of a newer daemon becomes UNSPECIFIED."""
    try:
        cause = Cause(failure.cause)
    except ValueError:
        cause = Cause.UNSPECIFIED
    return _KINDS.get(cause, CollectiveError)(
        failure.message or f"the daemon reported {cause.name} without a message",
        cause=cause,
        code=failure.code,
        group=failure.group,
        epoch=failure.epoch,
        culprits=failure.culprits,
        missing=failure.missing,
        sequence=failure.sequence,
    )
