"""Signal handlers, which call us in the middle of a call of their own thread; destructors as well.

The interrupted call goes on only when they return. So locks are reentrant where it does no harm to
pass one twice. Elsewhere what is called asks first, and raises an error: it would wait for ever.
"""

from __future__ import annotations

from typing import Any


def is_held(lock: Any) -> bool:
    """Whether the calling thread has this RLock. threading.Condition asks in the same way."""
    return bool(lock._is_owned())


def cannot_submit() -> RuntimeError:
    """For one that has interrupted who numbers works."""
    return RuntimeError(
        "an operation cannot be submitted in a signal handler that has interrupted a submission; "
        "set a flag and submit from the main program"
    )


def cannot_wait() -> RuntimeError:
    """For one that holds up who would end the wait."""
    return RuntimeError(
        "a signal handler cannot wait where it has interrupted what ends the wait; set a flag and "
        "wait in the main program"
    )


def cannot_allocate() -> RuntimeError:
    """For one that has interrupted the allocator. To release memory is no better."""
    return RuntimeError(
        "memory cannot be allocated in a signal handler that has interrupted an allocation; set a "
        "flag and allocate in the main program"
    )
