"""Joins that wait for nobody, and what becomes of them."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from fake_daemon import FakeDaemon, wait_until

import tutti


def seats(daemon: FakeDaemon, group: str = "g") -> set[int]:
    """Which ranks have asked for one and hold it or wait."""
    with daemon.lock:
        return {
            rank
            for (_, name), found in daemon.groups.items()
            if name == group and found.error is None
            for rank in found.seats
        }


def test_the_group_is_ready_when_all_have_joined(client: tutti.Client) -> None:
    joins = [client.start_join("g", rank, 2) for rank in range(2)]
    groups = [joining.wait() for joining in joins]
    assert [group.rank for group in groups] == [0, 1]
    assert [joining.group for joining in joins] == groups
    assert joins[0].wait() is groups[0]
    assert (joins[1].rank, joins[1].world_size) == (1, 2)


def test_its_error_is_raised_by_each_wait(client: tutti.Client) -> None:
    joining = client.start_join("g", 0, 2, timeout=0.05)
    for _ in range(2):
        with pytest.raises(tutti.DeadlineError) as caught:
            joining.wait()
        assert caught.value.missing == (1,)
    joining.cancel()


def test_called_off_while_it_waits(client: tutti.Client, daemon: FakeDaemon) -> None:
    """The seat is free at once, and whoever waits is told."""
    joining = client.start_join("g", 0, 2)
    raised: list[Any] = []

    def wait() -> None:
        try:
            joining.wait()
        except tutti.GroupClosedError as error:
            raised.append(error)

    waiter = threading.Thread(target=wait)
    waiter.start()
    wait_until(lambda: seats(daemon) == {0})
    joining.cancel()
    waiter.join(10)
    assert "has left group 'g' before it was ready" in str(raised[0])
    wait_until(lambda: not seats(daemon))
    joining.cancel()
    with pytest.raises(tutti.GroupClosedError):
        joining.wait()


def test_called_off_when_it_is_ready(client: tutti.Client, daemon: FakeDaemon) -> None:
    """Whether the answer was looked at or not."""
    for looked in (False, True):
        one, other = (client.start_join("g", rank, 2) for rank in range(2))
        group = other.wait()
        if looked:
            one.wait()
        one.cancel()
        assert not daemon.memberships or list(daemon.memberships.values())[0][1] == 1
        with pytest.raises(tutti.GroupClosedError) as caught:
            group.barrier(timeout=10)
        assert caught.value.culprits == (0,)
        other.cancel()
        assert not daemon.memberships


def test_ctrl_c_gives_the_seat_back(
    client: tutti.Client, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(client._connection, "end_call", interrupt)
    with pytest.raises(KeyboardInterrupt):
        client.join("g", 0, 2)
    wait_until(lambda: not seats(daemon))


def test_after_the_daemon_has_died(client: tutti.Client, daemon: FakeDaemon) -> None:
    joining = client.start_join("g", 0, 2)
    wait_until(lambda: seats(daemon) == {0})
    daemon.stop()
    with pytest.raises(tutti.NodeLostError):
        joining.wait()
    joining.cancel()
    with pytest.raises(tutti.NodeLostError):
        joining.wait()
