"""For one thread to wake another of this process that waits in poll."""

from __future__ import annotations

import contextlib
import os
import threading


class Nudge:
    """Owns an eventfd. Thread-safe."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        # Not while another thread closes it, and something else gets its number. A signal handler
        # may come between.
        self._lock = threading.RLock()

    def fileno(self) -> int:
        """Readable from `give` to `take`."""
        return self._fd

    def give(self) -> None:
        """Does nothing once it is closed."""
        with self._lock:
            if self._fd >= 0:
                os.eventfd_write(self._fd, 1)

    def take(self) -> bool:
        """Returns if there was one."""
        with contextlib.suppress(BlockingIOError):
            return os.eventfd_read(self._fd) > 0
        return False

    def close(self) -> None:
        """REQUIRES: no thread waits for it. Idempotent."""
        with self._lock:
            self.forked()

    def forked(self) -> None:
        """In a child: as `close`. Takes no lock, for a thread that doesn't exist may hold it."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
