"""An actor's seat in a declared group: turns, and what happens if there are none. Without Ray."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import tutti
from tutti.ray import _member


class FakeGroup:
    """What a Member knows of its group."""

    name, world_size = "g", 2

    def __init__(self, error: Exception | None = None) -> None:
        self.left = False
        self.error = error

    def barrier(self) -> None:
        if self.left:
            raise tutti.GroupClosedError("left")
        if self.error is not None:
            raise self.error

    def leave(self) -> None:
        self.left = True


def test_an_operation_that_does_not_come(monkeypatch: Any) -> None:
    """It was cancelled, say. The next one leaves, so that the other ranks don't wait; those after
    it don't wait either.
    """
    monkeypatch.setattr(_member, "_GAP_S", 0.1)
    group: Any = FakeGroup()
    member = _member.Member(group, "formation", None)
    member.run(1, "barrier", [], {})
    with pytest.raises(tutti.DeadlineError, match="operation 3 .* waits for operation 2"):
        member.run(3, "barrier", [], {})
    assert group.left
    monkeypatch.setattr(_member, "_GAP_S", 600)
    with pytest.raises(tutti.GroupClosedError):
        member.run(4, "barrier", [], {})
    member.leave(9)


@pytest.mark.parametrize(
    ("error", "leaves"),
    [
        (TypeError("a mistake of ours"), True),
        (tutti.LimitError("no room for results"), True),
        (tutti.MismatchError("all ranks know"), False),
    ],
)
def test_an_error_of_which_the_others_cannot_know(error: Exception, leaves: bool) -> None:
    """They wait for what this rank has not submitted."""
    group: Any = FakeGroup(error)
    member = _member.Member(group, "formation", None)
    with pytest.raises(type(error)):
        member.run(1, "barrier", [], {})
    assert group.left == leaves


def test_operations_take_place_as_they_are_stated() -> None:
    """Whichever thread comes first."""
    done: list[int] = []
    group: Any = FakeGroup()
    member = _member.Member(group, "formation", None)
    first_may_start = threading.Event()

    def run(number: int) -> None:
        if number == 1:
            first_may_start.wait()
        member.run(number, "barrier", [], {})
        done.append(number)

    threads = [threading.Thread(target=run, args=[number]) for number in (1, 2, 3)]
    for thread in threads:
        thread.start()
    threads[2].join(0.2)
    assert not done
    first_may_start.set()
    for thread in threads:
        thread.join(60)
    assert sorted(done) == [1, 2, 3]
