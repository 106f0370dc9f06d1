"""How long a thread that waits yields its processor before it sleeps.

To be woken costs some 25 microseconds, to yield one or less, if the processor is idle or its other
threads have little to do. So the budget is of the processor's time that yielding takes from others:
a yield that lets another thread run costs no more than the switch, however long that thread runs.

But one that computes keeps the processor for milliseconds once it has been given, while a sleeper
that is woken takes it back at once. So a yield that took several times the budget is a lesson: the
next waits sleep without yielding, the more of them the more often that happens. (shm/spin.h is the
daemon's, and has the same figures.)
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

# What one yield takes itself, if it leads to another thread.
_SWITCH_NS = 2000
# So many budgets are longer than it takes to be woken.
_LESSON = 4
# Then one wait in 65 tries again.
_PENALTY_MAX = 64


class Spin:
    """Shared by all threads; what they write at the same time are only guesses."""

    def __init__(self, budget_us: int) -> None:
        """0: never yields."""
        self._budget_ns = budget_us * 1000
        self._penalty = 0
        self._skip = 0  # waits to come that don't yield

    def run(self, has_come: Callable[[], bool], yields_max: int = 1 << 30) -> bool:
        """Yields until `has_come`, or it has been long enough. Returns if it has come."""
        if self._skip or not self._budget_ns:
            self._skip = max(0, self._skip - 1)
            return False
        yields, clock, left = os.sched_yield, time.monotonic_ns, self._budget_ns
        lesson = _LESSON * left
        last = clock()
        for _ in range(yields_max):
            yields()
            now = clock()
            took = now - last
            last = now
            come = has_come()
            if took > lesson:
                self._skip = self._penalty = min(max(2 * self._penalty, 1), _PENALTY_MAX)
                return come
            if come:
                self._penalty //= 2
                return True
            left -= took if took < _SWITCH_NS else _SWITCH_NS
            if left <= 0:
                break
        return False
