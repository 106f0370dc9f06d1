"""A rank that never comes (F-6): the deadline's error names it, and meanwhile the admin socket and
`tutti group NAME` say what it is doing.
"""

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import checks
import pytest
from admin import activity
from cli import tutti
from node import Node
from rank import Rank, Verdict, ask_all, join_all, must_all, run_all, submit_all, wait_all
from waiting import wait_until

WORLD = 4
GROUP = "dp"
# Long enough to look at the group meanwhile, twice with the tool.
TIMEOUT_MS = 4000
# From a deadline to its verdict (I-1).
LATE_MS = 250.0


@contextmanager
def idle(node: Node, rank: Rank) -> Iterator[str]:
    """It does nothing. Yields what the daemon has to say of it."""
    yield "idle"


@contextmanager
def in_another_operation(node: Node, rank: Rank) -> Iterator[str]:
    """It waits in another group, for a rank that does not come there."""
    other = node.new_rank()
    pair = [rank, other]
    join_all(pair, "pair")
    barrier = rank.submit("barrier pair")
    yield 'in barrier #1 of group "pair"'
    assert other.run("barrier pair").ok
    assert rank.wait(barrier).ok
    must_all(pair, "leave pair")


@contextmanager
def stopped(node: Node, rank: Rank) -> Iterator[str]:
    """Its process is stopped."""
    rank.signal(signal.SIGSTOP)
    try:
        yield "stopped"
    finally:
        rank.signal(signal.SIGCONT)


CASES = {
    "IDLE": idle,
    "IN_OTHER_OPERATION": in_another_operation,
    "STOPPED": stopped,
}


@pytest.mark.parametrize("missing", [0, 2])
@pytest.mark.parametrize("shown_as", CASES)
def test_the_deadline_names_who_is_missing_and_what_it_does(
    node: Node, figure: Callable[[str], None], shown_as: str, missing: int
) -> None:
    doing: Callable[[Node, Rank], AbstractContextManager[str]] = CASES[shown_as]
    ranks = node.new_ranks(WORLD)
    join_all(ranks, GROUP)
    must_all(ranks, "tensor t float32 1024")
    arrived = [number for number in range(WORLD) if number != missing]
    waiting = [ranks[number] for number in arrived]
    with doing(node, ranks[missing]) as words:
        submitted_ns = time.monotonic_ns()
        works = submit_all(waiting, f"allreduce {GROUP} t sum {TIMEOUT_MS}")
        group = wait_until(
            lambda: _shows(node, missing, shown_as), f"rank {missing} is shown as {shown_as}"
        )
        assert words in group.ranks[missing].detail, group
        assert group.ranks[missing].pid == ranks[missing].pid
        assert list(group.pending[0].missing) == [missing]
        assert list(group.pending[0].arrived) == arrived
        _check_tool(node, ranks[missing], missing, shown_as, words)
        verdicts = dict(zip(arrived, wait_all(waiting, works), strict=True))
    verdict = checks.check_same_verdict(verdicts)
    checks.check_names(verdict, "DEADLINE", [missing])
    assert words in verdict.message, verdict
    assert f"pid {ranks[missing].pid}" in verdict.message, verdict
    # The deadline of the first to come rules.
    last_ns = max(verdict.monotonic_ns for verdict in verdicts.values())
    late_ms = (last_ns - submitted_ns) / 1e6 - TIMEOUT_MS
    assert 0 <= late_ms <= LATE_MS, f"the verdict came {late_ms:.1f} ms after the deadline"
    figure(f"{late_ms:.1f} ms after the deadline: {verdict.message}")
    # Who comes too late is told the same.
    checks.check_names(ranks[missing].run(f"allreduce {GROUP} t sum"), "DEADLINE", [missing])
    _form_again(ranks)


@pytest.mark.parametrize("missing", [0, 3])
def test_a_group_that_does_not_form_names_who_never_joined(
    node: Node, figure: Callable[[str], None], missing: int
) -> None:
    ranks = node.new_ranks(WORLD)
    present = [number for number in range(WORLD) if number != missing]
    for number in present:
        ranks[number].send(f"join {GROUP} {number} {WORLD} {TIMEOUT_MS}")

    def is_shown() -> Any:
        group = node.admin.find_group(GROUP)
        if group is None or group.summary.joined != WORLD - 1:
            return None
        return group if activity(group.ranks[missing]) == "NEVER_JOINED" else None

    group = wait_until(is_shown, f"rank {missing} is shown as NEVER_JOINED")
    assert [each.rank for each in group.ranks] == list(range(WORLD))
    assert group.ranks[missing].detail == "has not joined"
    shown = tutti(node.socket_dir, "group", GROUP)
    assert shown.exit_code == 0 and "never joined" in shown.row(missing), shown
    (rank,) = [
        each
        for each in tutti(node.socket_dir, "group", GROUP, "-o", "json").json()["ranks"]
        if each["rank"] == missing
    ]
    assert rank["activity"] == "RANK_ACTIVITY_NEVER_JOINED", rank

    verdicts = {number: Verdict.of(ranks[number].receive()) for number in present}
    verdict = checks.check_same_verdict(verdicts)
    checks.check_names(verdict, "DEADLINE", [missing])
    assert "never joined" in verdict.message
    figure(verdict.message)
    _form_again(ranks, leave=False)


def _shows(node: Node, missing: int, shown_as: str) -> Any:
    group = node.admin.find_group(GROUP)
    if group is None:
        return None
    others = [activity(rank) for rank in group.ranks if rank.rank != missing]
    right = activity(group.ranks[missing]) == shown_as and others == ["WAITING"] * (WORLD - 1)
    return group if right else None


def _check_tool(node: Node, rank: Rank, missing: int, shown_as: str, words: str) -> None:
    """`tutti group NAME` says the same, in words and in JSON."""
    table = tutti(node.socket_dir, "group", GROUP)
    assert table.exit_code == 0, table
    row = table.row(missing)
    assert shown_as.lower().replace("_", " ") in row and str(rank.pid) in row, table.out
    assert f"missing: {missing}" in table.out, table.out
    answer = tutti(node.socket_dir, "group", GROUP, "-o", "json").json()
    (shown,) = [each for each in answer["ranks"] if each["rank"] == missing]
    assert shown["activity"] == f"RANK_ACTIVITY_{shown_as}", shown
    assert words in shown["detail"] and shown["pid"] == rank.pid, shown
    assert answer["pending"][0]["missing"] == [missing]


def _form_again(ranks: Sequence[Rank], leave: bool = True) -> None:
    """I-9."""
    if leave:
        must_all(ranks, f"leave {GROUP}")
    join_all(ranks, GROUP)
    must_all(ranks, "tensor t float32 1024")
    must_all(ranks, "fill t 2")
    assert all(verdict.ok for verdict in run_all(ranks, f"allreduce {GROUP} t sum"))
    checks.check_results(ask_all(ranks, [f"check t {2 * WORLD}"] * WORLD))


def test_a_join_at_a_daemon_that_is_stopped_ends_by_the_daemons_own_deadline(
    new_node: Callable[..., Node],
) -> None:
    node = new_node("--join_timeout_ms=1s")
    rank = node.new_ranks(1)[0]
    node.daemon.send_signal(signal.SIGSTOP)
    try:
        reply = rank.ask("join dp 0 2", timeout_s=60)  # the client waits for 10 s more
    finally:
        node.daemon.send_signal(signal.SIGCONT)
    assert reply["cause"] == "DEADLINE", reply
