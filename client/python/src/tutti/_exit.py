"""The end of the process: sessions say goodbye, and nothing is written to stderr.

The interpreter runs this when only daemon threads are left besides the main one. Their waits end
with the sessions; instead of a traceback from each, they stand still, and end with the process.
"""

from __future__ import annotations

import atexit
import copy
import threading
import weakref
from typing import NoReturn, Protocol

_ending = False


class Closable(Protocol):
    """What ends at the process's end."""

    def close(self) -> None:
        """Lets it end; does not wait."""

    def join(self) -> None:
        """Waits until it has ended."""


_open: weakref.WeakSet[Closable] = weakref.WeakSet()


def register(closable: Closable) -> None:
    """It is closed at the process's end, unless it is garbage by then."""
    _open.add(closable)


def raise_copy(error: BaseException) -> NoReturn:
    """Raises a copy of `error`: one error ends many waits, and a traceback belongs to one."""
    if _ending and threading.current_thread().daemon:
        threading.Event().wait()
    raise copy.copy(error) from None


def _end() -> None:
    global _ending
    _ending = True
    closables = list(_open)
    for closable in closables:
        closable.close()
    # gRPC is torn down after this; its threads and ours must be gone by then.
    for closable in closables:
        closable.join()


atexit.register(_end)
