"""The daemon is not the one who pays (F-21, SEC-8): in a control group of 256 MiB, a client that
asks for an arena of 1 GiB may die; the daemon does not.
"""

import signal
import time
from collections.abc import Callable

import checks
import pytest
from cgroup import Unavailable, memory_limit
from node import Node
from rank import Rank, RankEnded, ask_all, join_all, must_all, run_all

LIMIT_BYTES = 256 << 20
ARENA_ELEMENTS = (1 << 30) // 4


def works(ranks: list[Rank]) -> None:
    must_all(ranks, "fill t 3")
    assert all(verdict.ok for verdict in run_all(ranks, "allreduce others t sum"))
    checks.check_results(ask_all(ranks, [f"check t {3 * len(ranks)}"] * len(ranks)))


def test_a_client_without_the_memory_for_its_arena_dies_alone(
    node: Node, figure: Callable[[str], None]
) -> None:
    others = node.new_ranks(2)
    join_all(others, "others")
    must_all(others, "tensor t float32 100000")
    works(others)
    partner = node.new_rank()
    before = node.admin.fresh_status().arena_bytes
    try:
        with memory_limit(LIMIT_BYTES) as entrance:
            poor = node.start_rank(before=lambda: _enter(str(entrance)))
            poor.connect()
            # The group: survivors are told who is gone.
            for number, rank in enumerate((poor, partner)):
                rank.send(f"join poor {number} 2")
            assert all(rank.receive()["ok"] for rank in (poor, partner))
            waiting = partner.submit("barrier poor")
            asked = time.monotonic()
            poor.send(f"tensor huge float32 {ARENA_ELEMENTS}")
            outcome = _outcome(poor)
            took_s = time.monotonic() - asked
            works(others)
            if outcome == "killed":
                checks.check_names(partner.wait(waiting), "RANK_DIED", [0])
            else:
                assert poor.run("barrier poor").ok and partner.wait(waiting).ok
            node.close_rank(poor)
            status = node.admin.fresh_status()
            assert status.arena_bytes == before, "the quota of the dead client's arena is lost"
            node.check_alive()
            figure(
                f"1 GiB in a group of {LIMIT_BYTES >> 20} MiB: the client was {outcome} after "
                f"{took_s:.2f} s; tuttid still is pid {status.pid}, arena bytes are back"
            )
    except Unavailable as reason:
        pytest.skip(str(reason))
    works(others)
    # Outside the group the same arena is no trouble.
    rich = node.new_rank()
    rich.must("tensor huge float32 1000000")


def _enter(entrance: str) -> None:
    with open(entrance, "w") as file:
        file.write("0")


def _outcome(poor: Rank) -> str:
    """The kernel kills it, or it is refused; nothing else is right."""
    try:
        reply = poor.receive(timeout_s=60)
    except RankEnded:
        assert poor.wait_exit() == -signal.SIGKILL
        return "killed"
    assert not reply["ok"], "1 GiB in 256 MiB"
    return "refused"
