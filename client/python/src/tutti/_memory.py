"""The memory of one session: its pool, and the steps that make an arena with the daemon."""

from __future__ import annotations

import errno
import mmap
import os

from tutti import _wire
from tutti._session import Session
from tutti.arena import Arena, Pool
from tutti.errors import CollectiveError, LimitError

_REQUEST_TIMEOUT_S = 10.0
# The daemon maps 85 ms per GiB, one arena after the other.
_MAP_TIMEOUT_S = 120.0


class Memory:
    """Owns the pool of one session. Thread-safe."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.pool = Pool(self.make_arena)

    def release_unused(self) -> int:
        """Gives arenas that hold nothing back. Returns their bytes, which are free by then."""
        unused = self.pool.take_unused()
        for arena in unused:
            self.release(arena.number)
        return sum(arena.size for arena in unused)

    def make_arena(self, size_bytes: int) -> Arena:
        """An arena of the caller's own, zeroed. The size is a multiple of 4096.

        Raises what the daemon refuses it with, and MemoryError.
        """
        try:
            return self._try_make_arena(size_bytes)
        except LimitError:
            # What nobody uses may be what is missing. Arenas of other sizes lie idle after a change
            # of model, say.
            if self.release_unused() == 0:
                raise
            return self._try_make_arena(size_bytes)

    def _try_make_arena(self, size_bytes: int) -> Arena:
        create = _wire.session.CreateArena(size_bytes=size_bytes)
        reply, fd = self._session.request(_REQUEST_TIMEOUT_S, create_arena=create)
        number = int(reply.arena_created.arena)
        if fd is None:
            raise CollectiveError(f"the daemon sent arena {number} without its descriptor")
        try:
            arena = Arena(number, _allocate_and_map(fd, size_bytes))
            mapped = _wire.session.ArenaMapped(arena=number)
            self._session.request(_MAP_TIMEOUT_S, arena_mapped=mapped)
            return arena
        except BaseException:
            self.give_back(number)
            raise
        finally:
            os.close(fd)

    def give_back(self, number: int) -> None:
        """As `release`, but waits for nothing: the daemon may have stopped."""
        self._session.post(release_arena=_wire.session.ReleaseArena(arena=number))

    def release(self, number: int) -> None:
        """Gives an arena back to the daemon. Works in flight that name it complete first."""
        try:
            release = _wire.session.ReleaseArena(arena=number)
            self._session.request(_MAP_TIMEOUT_S, release_arena=release)
        except CollectiveError:
            pass  # the session has ended, and all its arenas with it


def _allocate_and_map(fd: int, size_bytes: int) -> mmap.mmap:
    """Allocates all blocks of the memfd, at the cost of this process, and maps them.

    A cgroup's limit kills whoever exceeds it here, without an error: this process, not the daemon.
    """
    try:
        os.posix_fallocate(fd, 0, size_bytes)
        return mmap.mmap(fd, size_bytes, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE)
    except OSError as error:
        if error.errno not in (errno.ENOMEM, errno.ENOSPC):
            raise
        raise MemoryError(
            f"no memory for an arena of {size_bytes >> 20} MiB, which tensors are shared with the "
            f"daemon in: {error.strerror}"
        ) from error
