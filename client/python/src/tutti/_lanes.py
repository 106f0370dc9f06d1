"""Which lane a session has: TUTTI_LANE, and the steps that make a ring with the daemon."""

from __future__ import annotations

import os
from collections.abc import Callable

from tutti import _exit, _ring, _rpc, _wire
from tutti._doorbell import Doorbell
from tutti._lane import Lane
from tutti._memory import Memory
from tutti._ring_lane import RingLane
from tutti._session import Session
from tutti._stream_lane import StreamLane
from tutti.errors import Cause, CollectiveError, InvalidError

_CHOICES = ("auto", "ring", "grpc")
# What Open.no_ring may have.
_REASON_BYTES_MAX = 256
_REQUEST_TIMEOUT_S = 10.0
# Arenas are whole pages.
_PAGE_BYTES = 4096


def choice_of_environment() -> str:
    """$TUTTI_LANE, or "auto". Raises ValueError if it is none that there is."""
    choice = os.environ.get("TUTTI_LANE") or "auto"
    if choice not in _CHOICES:
        raise ValueError(f"TUTTI_LANE must be auto, ring or grpc, and is {choice!r}")
    return choice


def make_ring(session: Session, memory: Memory) -> RingLane:
    """Makes a ring the session's lane. Raises why it can't be: CollectiveError, MemoryError."""
    if not _ring.is_supported():
        raise InvalidError("rings are for x86-64 only", cause=Cause.UNSUPPORTED)
    in_flight_max = session.welcome.works_in_flight_max or _wire.WORKS_IN_FLIGHT_MAX
    entries = _ring.entries_for(in_flight_max)
    # Not the pool's: it hands out none of it, and never gives it back.
    arena = memory.make_arena(-(-_ring.region_bytes(entries) // _PAGE_BYTES) * _PAGE_BYTES)
    region = arena.bytes.data
    _ring.format_region(region, entries)
    create = _wire.session.CreateRing(arena=arena.number)
    try:
        reply, fd = session.request(_REQUEST_TIMEOUT_S, create_ring=create)
        if fd is None or reply.ring_created.last_received:
            if fd is not None:
                os.close(fd)
            raise CollectiveError("the daemon sent a ring that is of no use", cause=Cause.PROTOCOL)
    except BaseException:
        memory.give_back(arena.number)
        raise
    return RingLane(
        (_ring.Submissions(region, entries), _ring.Completions(region, entries)),
        Doorbell(fd),
        min(in_flight_max, entries),
        reply.ring_created.spin_us,
        memory.pool,
    )


def make_stream(session: Session, stub: _rpc.ClientStub, no_ring: str) -> StreamLane:
    """Makes a gRPC stream the session's lane. `no_ring` says to people why it isn't a ring."""
    in_flight_max = session.welcome.works_in_flight_max or _wire.WORKS_IN_FLIGHT_MAX
    short = no_ring.encode()[:_REASON_BYTES_MAX].decode(errors="ignore")
    return StreamLane(stub, in_flight_max, _breaker(session), short)


def make_lane(session: Session, memory: Memory, stub: _rpc.ClientStub, choice: str) -> Lane:
    """The lane that was chosen. Raises CollectiveError, or MemoryError, if it can't be had."""
    if choice == "grpc":
        return make_stream(session, stub, "TUTTI_LANE=grpc")
    try:
        lane = make_ring(session, memory)
    except (CollectiveError, MemoryError, OSError) as error:
        if session.ended is not None:
            _exit.raise_copy(session.ended)
        if choice == "ring":
            raise _no_ring(error) from error
        return make_stream(session, stub, str(error))
    lane.on_broken = _breaker(session)
    lane.nudge = session.nudge
    return lane


def _breaker(session: Session) -> Callable[[CollectiveError], None]:
    return lambda error: session.close(error, goodbye=False)


def _no_ring(error: Exception) -> CollectiveError:
    text = f"TUTTI_LANE=ring, and the ring can't be had: {error}. TUTTI_LANE=auto goes without it"
    if isinstance(error, CollectiveError):
        return type(error)(text, cause=error.cause, code=error.code)
    return CollectiveError(text)
