"""The client's ends of a ring in shared memory: it puts works in and takes completions out.

shm/ring_layout.h is the layout and says how the two sides share it. Of that, here:

* An index is one element of a memoryview of 64-bit words: one load or store. (`struct.pack_into`
  clears a field before it writes it, and the other side would see that.)
* x86 lets a load overtake a store before it. A lock's release is a locked instruction, which
  nothing overtakes: that is the fence.
* There is no state but what is in the memory. So whatever interrupts a call here (Ctrl-C), the
  next one goes on where it was.

Pure memory: nothing waits here. Each end belongs to who holds the lock for it.
"""

from __future__ import annotations

import platform
import struct
import sys
import threading

from tutti.errors import Cause, CollectiveError

MAGIC = 0x31474E4952545554  # "TUTRING1"
ENTRIES_MAX = 4096
FAILURE_SLOTS = 16
FAILURE_BYTES = 4096

_ENTRIES_BEGIN = 0x1000
_HEADER = struct.Struct("<Q6I")
# number, membership, timeout_ms, root, kind, dtype, op, inputs, outputs, two spans.
_SUBMISSION = struct.Struct("<QQQIBBBxII6Q40x")
# serial, number, failure, failure_bytes.
_COMPLETION = struct.Struct("<QQII8x")
# Words of 64 bits.
_SUBMISSION_TAIL = 0x0040 // 8
_SUBMISSION_HEAD = 0x0080 // 8
_COMPLETION_TAIL = 0x00C0 // 8
_COMPLETION_HEAD = 0x0100 // 8
# Words of 32 bits.
_DAEMON_SLEEPS = 0x0140 // 4
_CLIENT_SLEEPS = 0x0180 // 4


def is_supported() -> bool:
    """The order in which other machines' memory shows stores is not the one this relies on."""
    # And a word must be one store: an interpreter of 32 bits makes two of it.
    wide = sys.maxsize > 1 << 32
    return platform.machine() in ("x86_64", "AMD64") and sys.byteorder == "little" and wide


def entries_for(works_in_flight_max: int) -> int:
    """The smallest ring that so many works fit into."""
    wanted = max(2, min(works_in_flight_max, ENTRIES_MAX))
    return 1 << (wanted - 1).bit_length()


def region_bytes(entries: int) -> int:
    """How large a region of so many entries is."""
    return (
        _ENTRIES_BEGIN
        + entries * (_SUBMISSION.size + _COMPLETION.size)
        + FAILURE_SLOTS * FAILURE_BYTES
    )


def format_region(memory: memoryview, entries: int) -> None:
    """Makes zeroed memory an empty ring, to be named to the daemon."""
    sizes = (_SUBMISSION.size, _COMPLETION.size, FAILURE_SLOTS, FAILURE_BYTES)
    _HEADER.pack_into(memory, 0, MAGIC, entries, *sizes, 0)


class RingBroken(CollectiveError):
    """The daemon has broken the protocol. Apart from what a signal handler raises anywhere."""

    default_cause = Cause.PROTOCOL


def _broken(message: str) -> RingBroken:
    return RingBroken(f"the ring is broken: {message}")


class Submissions:
    """Where works go in. `memory` is the region, which starts at a multiple of 8."""

    def __init__(self, memory: memoryview, entries: int) -> None:
        self._memory = memory
        self._entries = entries
        self._words = memory[:_ENTRIES_BEGIN].cast("Q")
        self._flags = memory[:_ENTRIES_BEGIN].cast("I")

    @property
    def last_number(self) -> int:
        """The number of the last work that was put: works are numbered 1, 2, 3..."""
        return self._words[_SUBMISSION_TAIL]

    @property
    def in_flight(self) -> int:
        """How many works were put whose completions have not been taken."""
        return self._words[_SUBMISSION_TAIL] - self._words[_COMPLETION_HEAD]

    def number_of_next(self, in_flight_max: int) -> int:
        """The number of the work that `put` puts next; 0 if so many works are in flight.

        Raises RingBroken if the daemon has broken the ring.
        """
        words = self._words
        tail = words[_SUBMISSION_TAIL]
        if tail - words[_COMPLETION_HEAD] >= in_flight_max:
            return 0
        # The daemon has taken what it has completed, so there is room.
        if not 0 <= tail - words[_SUBMISSION_HEAD] < self._entries:
            raise _broken(f"{words[_SUBMISSION_HEAD]} works were taken, of {tail}")
        return tail + 1

    def put(self, number: int, *fields: int) -> None:
        """Publishes the work `number_of_next`. The other fields are those of _SUBMISSION."""
        slot = (number - 1) & (self._entries - 1)
        at = _ENTRIES_BEGIN + slot * _SUBMISSION.size
        _SUBMISSION.pack_into(self._memory, at, number, *fields)
        self._words[_SUBMISSION_TAIL] = number

    def must_ring(self) -> bool:
        """After a `put` and a fence: is the daemon to be woken?"""
        return self._flags[_DAEMON_SLEEPS] != 0


class Completions:
    """Where completions come out. `memory` is the region, which starts at a multiple of 8."""

    def __init__(self, memory: memoryview, entries: int) -> None:
        self._memory = memory
        self._entries = entries
        self._words = memory[:_ENTRIES_BEGIN].cast("Q")
        self._flags = memory[:_ENTRIES_BEGIN].cast("I")
        self._begin = _ENTRIES_BEGIN + entries * _SUBMISSION.size
        self._failures = self._begin + entries * _COMPLETION.size

    def is_empty(self) -> bool:
        """Without being the one who takes: a hint."""
        words = self._words
        return words[_COMPLETION_HEAD] == words[_COMPLETION_TAIL]

    @property
    def taken(self) -> int:
        """How many were taken so far."""
        return self._words[_COMPLETION_HEAD]

    def peek(self) -> tuple[int, int, bytes | None] | None:
        """The oldest completion, which stays there: its serial, the work's number, and either a
        serialised tutti.v1.Failure or None. None if there is no completion.

        Raises RingBroken; also, once in a while, if a signal handler has `taken` it meanwhile.
        """
        words = self._words
        head = words[_COMPLETION_HEAD]
        ready = words[_COMPLETION_TAIL] - head
        if ready == 0:
            return None
        if not 0 < ready <= self._entries:
            raise _broken(f"{head + ready} completions, of which {head} were taken")
        at = self._begin + (head & (self._entries - 1)) * _COMPLETION.size
        serial, number, failure, size = _COMPLETION.unpack_from(self._memory, at)
        if serial != head + 1:
            raise RingBroken(f"completion {serial} follows {head}")
        if not failure:
            return serial, number, None
        if failure > FAILURE_SLOTS or size > FAILURE_BYTES:
            raise _broken(f"a failure of {size} bytes in slot {failure}")
        slot = self._failures + (failure - 1) * FAILURE_BYTES
        return serial, number, bytes(self._memory[slot : slot + size])

    def take(self, serial: int) -> None:
        """Acknowledges what `peek` has returned, unless that has been done meanwhile."""
        words = self._words
        if words[_COMPLETION_HEAD] == serial - 1:
            words[_COMPLETION_HEAD] = serial

    def fence(self) -> None:
        """What was stored before is seen by all before anything is loaded after it."""
        # A new one: a signal handler that comes between passes here as well.
        with threading.Lock():
            pass

    def sleep(self, sleeps: bool) -> None:
        """With True, a fence, and another look before it waits: the doorbell will be rung."""
        self._flags[_CLIENT_SLEEPS] = sleeps
        self.fence()
