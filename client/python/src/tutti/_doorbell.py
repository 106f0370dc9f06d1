"""The client's end of a ring's doorbell: a stream socket, of which any byte is a ring."""

from __future__ import annotations

import contextlib
import math
import os
import select
import socket
import threading

from tutti._nudge import Nudge

# More than one ring is waiting only if this side was slow.
_DRAIN_BYTES = 4096
_FLAGS = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL


class Doorbell:
    """Owns the descriptor. Thread-safe; nothing but the two waits blocks."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)
        self._socket.setblocking(False)
        self._lock = threading.RLock()  # a signal handler may ring as well
        self._nudge = Nudge()
        self.hung_up = False  # the daemon has: nothing will come

    def fileno(self) -> int:
        """Readable when the daemon has rung or hung up; -1 once this is closed."""
        return self._socket.fileno()

    def ring(self) -> None:
        """Wakes the daemon. Does nothing if it has hung up, or has rings enough."""
        # Not while another thread closes it, and something else gets its number.
        with contextlib.suppress(OSError), self._lock:
            self._socket.send(b"\1", _FLAGS)

    def silence(self) -> None:
        """Takes the rings that have come, or sets `hung_up`. Look at the ring after it."""
        try:
            self.hung_up = self._socket.recv(_DRAIN_BYTES, _FLAGS) == b""
        except BlockingIOError:
            pass
        except OSError:
            self.hung_up = True

    def wait(self, timeout_s: float) -> None:
        """Returns after a ring, a hang-up or a `wake`, or after that time. One thread at a time.

        After a hang-up it waits for `wake` only.
        """
        poll = select.poll()
        poll.register(self._nudge, select.POLLIN)
        if not self.hung_up:
            poll.register(self._socket, select.POLLIN)
        poll.poll(math.ceil(timeout_s * 1000))
        self._nudge.take()

    def wake(self) -> None:
        """Ends the `wait` of another thread, or the next one."""
        self._nudge.give()

    def wait_for_hang_up(self, timeout_s: float) -> None:
        """Returns once the daemon has closed its end, or after that time."""
        poll = select.poll()
        poll.register(self._socket, 0)
        poll.poll(timeout_s * 1000)

    def close(self) -> None:
        """REQUIRES: no thread waits, and no loop watches. Idempotent."""
        with self._lock:
            self._socket.close()
        self._nudge.close()

    def forked(self) -> None:
        """In a child: gives up the copies. Takes no lock, for a thread that isn't may hold it."""
        # detach: what the object closes later must not be a descriptor that is someone else's then.
        with contextlib.suppress(OSError):
            os.close(self._socket.detach())
        self._nudge.forked()
