"""The daemon's side of a ring, after shm/ring_layout.h and nothing of the client's code: takes
works, puts completions, rings and sleeps. Strict where the daemon is.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from tutti.v1 import client_pb2

MAGIC = int.from_bytes(b"TUTRING1", "little")
SLOTS, SLOT_BYTES = 16, 4096
SUBMISSION_TAIL, SUBMISSION_HEAD, COMPLETION_TAIL, COMPLETION_HEAD = 0x40, 0x80, 0xC0, 0x100
DAEMON_SLEEPS, CLIENT_SLEEPS = 0x140, 0x180


class Refused(Exception):
    """What the daemon ends a session, or refuses a ring, for."""


class RingMemory:
    """The words and entries of a region."""

    def __init__(self, memory: memoryview) -> None:
        self.memory = memory
        self._words = memory[:4096].cast("Q")
        self._flags = memory[:4096].cast("I")
        magic, self.entries, *sizes, reserved = struct.unpack_from("<Q6I", memory)
        if magic != MAGIC or sizes != [128, 32, SLOTS, SLOT_BYTES] or reserved:
            raise Refused("not a ring")
        if self.entries not in [1 << bits for bits in range(1, 13)]:
            raise Refused(f"{self.entries} entries")
        if any(memory[32:4096]):
            raise Refused("the region was not zeroed")

    def word(self, at: int) -> int:
        return self._words[at // 8]

    def set_word(self, at: int, value: int) -> None:
        self._words[at // 8] = value

    def flag(self, at: int) -> int:
        return self._flags[at // 4]

    def set_flag(self, at: int, value: int) -> None:
        self._flags[at // 4] = value

    def submission(self, index: int) -> bytes:
        at = 4096 + index % self.entries * 128
        return bytes(self.memory[at : at + 128])

    def put_completion(self, index: int, *fields: int) -> None:
        at = 4096 + self.entries * 128 + index % self.entries * 32
        struct.pack_into("<QQIIQ", self.memory, at, *fields, 0)

    def slot_at(self, slot: int) -> int:
        return 4096 + self.entries * 160 + slot * SLOT_BYTES


class FakeRing:
    """One session's. `submit(work)` takes a tutti.v1.Work on the ring's own thread.

    `put` is called with `lock` held, a Condition, as `submit` is. `doorbell` is our end, if the
    other (`theirs`) is with the client already.
    """

    def __init__(
        self,
        memory: memoryview,
        arenas: dict[int, Any],
        lock: Any,
        submit: Callable[[Any], None],
        broken: Callable[[], None],
        doorbell: socket.socket | None = None,
    ) -> None:
        self.ring = RingMemory(memory)
        self._arenas = arenas
        self._lock = lock
        self._submit = submit
        self._broken = broken
        self._fence = threading.Lock()
        if doorbell is None:
            doorbell, self.theirs = socket.socketpair()
            self.theirs.setblocking(False)
        self._ours = doorbell
        self._ours.setblocking(False)
        self.rings = 0  # that were sent
        self.only_to_sleepers = False  # works are taken only while the client sleeps
        self._backlog: deque[Any] = deque()
        self._slots = [0] * SLOTS  # free when so many completions have been taken
        self._quit = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Hangs up. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._quit.set()
        with contextlib.suppress(OSError):
            self._ours.shutdown(socket.SHUT_RDWR)
        if threading.current_thread() is not self._thread:
            self._thread.join(10)
        self._ours.close()
        del self.ring  # which keeps the arena

    # --- Works ---

    def _run(self) -> None:
        try:
            while not self._quit.is_set():
                if not self._take() and not self._quit.is_set():
                    self._sleep()
        except Exception as error:
            print("fake ring:", repr(error))
            self._broken()

    def _take(self) -> bool:
        ring = self.ring
        head, tail = ring.word(SUBMISSION_HEAD), ring.word(SUBMISSION_TAIL)
        with self._lock:
            while self._backlog and self._put(self._backlog[0]):
                self._backlog.popleft()
        if not 0 <= tail - head <= ring.entries:
            raise Refused(f"submission tail {tail}, head {head}")
        if head == tail:
            return False
        if self.only_to_sleepers and not ring.flag(CLIENT_SLEEPS):
            self._quit.wait(0.001)
            return True
        entry = ring.submission(head)
        ring.set_word(SUBMISSION_HEAD, head + 1)
        with self._lock:
            self._submit(self._message_of(entry))
            self._lock.notify_all()
        return True

    def _sleep(self) -> None:
        ring = self.ring
        ring.set_flag(DAEMON_SLEEPS, 1)
        with self._fence:
            pass
        if ring.word(SUBMISSION_HEAD) == ring.word(SUBMISSION_TAIL) and not self._backlog_fits():
            poll = select.poll()
            poll.register(self._ours, select.POLLIN)
            poll.poll()
            with contextlib.suppress(BlockingIOError, ConnectionResetError):
                if not self._ours.recv(4096):
                    self._quit.set()
        ring.set_flag(DAEMON_SLEEPS, 0)

    def _message_of(self, entry: bytes) -> Any:
        number, membership, timeout_ms, root, kind, dtype, op, pad, inputs, outputs = (
            struct.unpack_from("<QQQI4BII", entry)
        )
        if pad or any(entry[88:]):
            raise Refused("reserved fields are not 0")
        spans = [struct.unpack_from("<QQQ", entry, at) for at in (40, 64)]
        if inputs > 1 or outputs > 1:
            (arena, offset, length), unused = spans
            if length != 24 * (inputs + outputs) or any(unused):
                raise Refused("the table")
            table = memoryview(self._arenas[arena])[offset : offset + length]
            spans = list(struct.iter_unpack("<QQQ", table))
        else:
            if (not inputs and any(spans[0])) or (not outputs and any(spans[1])):
                raise Refused("a span that is none")
            spans = [*spans[:inputs], *spans[1 : 1 + outputs]]
        made = [client_pb2.Span(arena=a, offset=o, length=n) for a, o, n in spans]
        return client_pb2.Work(
            number=number, membership=membership, timeout_ms=timeout_ms, root=root, kind=kind,
            dtype=dtype, op=op, inputs=made[:inputs], outputs=made[inputs:],
        )  # fmt: skip

    # --- Completions ---

    def put(self, completion: Any) -> None:
        """A tutti.v1.Completion. Drops it once this is closed."""
        if self._quit.is_set():
            return
        if self._backlog or not self._put(completion):
            self._backlog.append(completion)

    def _put(self, completion: Any) -> bool:
        ring, slot, failure = self.ring, -1, b""
        tail, taken = ring.word(COMPLETION_TAIL), ring.word(COMPLETION_HEAD)
        if completion.HasField("failure"):
            failure = completion.failure.SerializeToString()
            slot = next((n for n, until in enumerate(self._slots) if until <= taken), -1)
            if slot < 0:
                return False
            self._slots[slot] = tail + 1
            at = ring.slot_at(slot)
            ring.memory[at : at + len(failure)] = failure
        if not 0 <= tail - taken < ring.entries:
            raise Refused(f"completion tail {tail}, head {taken}")
        ring.put_completion(tail, completion.serial, completion.number, slot + 1, len(failure))
        ring.set_word(COMPLETION_TAIL, tail + 1)
        with self._fence:
            pass
        if ring.flag(CLIENT_SLEEPS):
            self.ring_client()
        return True

    def ring_client(self) -> None:
        self.rings += 1
        with contextlib.suppress(OSError):
            self._ours.send(b"\1", socket.MSG_NOSIGNAL)

    def _backlog_fits(self) -> bool:
        return bool(self._backlog) and min(self._slots) <= self.ring.word(COMPLETION_HEAD)
