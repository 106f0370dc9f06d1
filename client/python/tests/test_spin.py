"""How long a waiter yields, with a clock of the test's own."""

from __future__ import annotations

import os
import time

import pytest

from tutti._spin import Spin


class Processor:
    """Each yield takes `takes_us`; what is waited for comes with yield number `comes_at`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_us = 0
        self.takes_us = 1
        self.comes_at = 1 << 60
        self.yields = 0
        monkeypatch.setattr(os, "sched_yield", self._yield)
        monkeypatch.setattr(time, "monotonic_ns", lambda: self.now_us * 1000)

    def _yield(self) -> None:
        self.yields += 1
        self.now_us += self.takes_us

    def run(self, spin: Spin, **limits: int) -> tuple[bool, int]:
        """Whether it has come, and after how many yields."""
        self.yields = 0
        come = spin.run(lambda: self.yields >= self.comes_at, **limits)
        return come, self.yields


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch) -> Processor:
    return Processor(monkeypatch)


def test_until_it_comes(processor: Processor) -> None:
    processor.comes_at = 7
    assert processor.run(Spin(50)) == (True, 7)


def test_not_longer_than_the_budget(processor: Processor) -> None:
    assert processor.run(Spin(50)) == (False, 50)


def test_the_time_of_others_is_not_counted(processor: Processor) -> None:
    for processor.takes_us in (2, 5, 200):
        assert processor.run(Spin(50)) == (False, 25)


def test_not_oftener_than_a_coroutine_may(processor: Processor) -> None:
    assert processor.run(Spin(50), yields_max=20) == (False, 20)


def test_without_a_budget_never(processor: Processor) -> None:
    processor.comes_at = 0
    assert processor.run(Spin(0)) == (False, 0)


def test_long_yields_are_a_lesson(processor: Processor) -> None:
    """After each more waits sleep at once, up to 64; waits that go well forgive half of it."""
    spin = Spin(50)
    processor.takes_us = 201
    for skipped in (1, 2, 4, 8, 16, 32, 64, 64):
        assert processor.run(spin) == (False, 1)
        assert [processor.run(spin) for _ in range(skipped)] == [(False, 0)] * skipped
    processor.takes_us, processor.comes_at = 1, 3
    for _ in range(4):
        assert processor.run(spin) == (True, 3)
    processor.takes_us, processor.comes_at = 201, 1
    assert processor.run(spin) == (True, 1), "it has come all the same"
    assert [processor.run(spin)[1] for _ in range(9)] == [0] * 8 + [1]
