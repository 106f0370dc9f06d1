"""What happens to Tutti around a fork: the parent goes on; the child can't use it, and is told so.

The child has copies of the parent's session socket and of gRPC's, but none of its threads. If it
kept the session socket open, the daemon would believe the parent alive after its death; if it
touched gRPC, it could hang. So the child closes its copy of the session socket right after the
fork, gRPC's objects are never touched nor destroyed there, and each call raises ForkedError.

A process whose parent had only imported Tutti is free to use it.
"""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from typing import Protocol

from tutti.errors import ForkedError

# gRPC reads it when it is first imported. It makes gRPC stand still while the process forks.
# Without it, forking in an open call has broken the parent's channel and hung the child (grpcio
# 1.51); 1.85 survives, but writes to stderr.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "1")


class Forkable(Protocol):
    """What has something to do at a fork."""

    def before_fork(self) -> None:
        """In the parent: ends open calls. With one open, gRPC stands still only after a second."""

    def after_fork_in_parent(self) -> None:
        """Goes on."""

    def after_fork_in_child(self) -> list[object]:
        """Closes what the child must not hold. Returns objects that must never be destroyed.

        Takes no locks, for a thread that doesn't exist may hold them.
        """


_lock = threading.Lock()
_live: weakref.WeakSet[Forkable] = weakref.WeakSet()
_parent = 0  # in a child that can't use Tutti: the process it was forked from
_user = 0  # the process that has used gRPC through us; 0 if there is none yet


def register(holder: Forkable) -> None:
    """From now on a child of this process can't use Tutti, and `holder` is told of a fork.

    A channel must have been made before, for then gRPC has registered its hooks, and those that
    are registered last run first: ours end the calls that gRPC's would wait for.
    """
    global _user
    with _lock:
        if not _user:
            os.register_at_fork(
                before=_before_fork,
                after_in_parent=_after_fork_in_parent,
                after_in_child=_after_fork_in_child,
            )
        _user = os.getpid()
        _live.add(holder)


def check() -> None:
    """Raises ForkedError in a child of a process that uses Tutti."""
    if _parent:
        raise ForkedError(
            f"process {os.getpid()} was forked from {_parent}, which uses Tutti, and can't use it: "
            "sessions don't survive a fork. Start the process with exec (subprocess, or "
            "multiprocessing.get_context('spawn')), or fork before the first use of Tutti"
        )


def _before_fork() -> None:
    if not _parent:
        for holder in list(_live):
            holder.before_fork()


def _after_fork_in_parent() -> None:
    if not _parent:
        for holder in list(_live):
            holder.after_fork_in_parent()


def _after_fork_in_child() -> None:
    global _parent
    if not _user or _parent:
        return
    _parent = _user
    for holder in list(_live):
        for treasure in holder.after_fork_in_child():
            # One reference too many: neither the collector nor the interpreter's end destroys it.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(treasure))
