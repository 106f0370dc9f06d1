"""How a rank may end, other than by SIGKILL (F-4, F-5, F-7, F-8), and how its lane may (F-28): the
others are told what happened, and by whom.
"""

import select
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Sequence

import checks
import pytest
from messages import number as number_of
from node import Node
from rank import Rank, ask_all, join_all, must_all, run_all, submit_all, wait_all
from raw import RawClient

WORLD = 4
GROUP = "dp"


def ready_ranks(node: Node) -> list[Rank]:
    ranks = node.new_ranks(WORLD)
    must_all(ranks, "tensor t float32 1000000")
    must_all(ranks, "fill t 1")
    join_all(ranks, GROUP)
    return ranks


def form_again(node: Node, survivors: Sequence[Rank]) -> None:
    """I-9."""
    must_all(survivors, f"leave {GROUP}")
    ranks = [*survivors, node.new_rank()]
    join_all(ranks, GROUP)
    must_all(ranks, "tensor t float32 1000000")
    must_all(ranks, "fill t 1")
    assert all(verdict.ok for verdict in run_all(ranks, f"allreduce {GROUP} t sum"))
    checks.check_results(ask_all(ranks, [f"check t {WORLD}"] * WORLD))


def exit_without_leaving(rank: Rank) -> None:
    rank.send("exit")


def segfault(rank: Rank) -> None:
    rank.signal(signal.SIGSEGV)


def say_goodbye(rank: Rank) -> None:
    rank.must("goodbye")


def leave(rank: Rank) -> None:
    rank.must(f"leave {GROUP}")


WAYS: dict[Callable[[Rank], None], str] = {
    exit_without_leaving: "SESSION_CLOSED",
    segfault: "RANK_DIED",
    say_goodbye: "SESSION_CLOSED",
    leave: "RANK_LEFT",
}


@pytest.mark.parametrize("way", WAYS, ids=[way.__name__ for way in WAYS])
def test_the_others_are_told(
    node: Node, figure: Callable[[str], None], way: Callable[[Rank], None]
) -> None:
    ranks = ready_ranks(node)
    survivors = ranks[:-1]
    works = submit_all(survivors, f"allreduce {GROUP} t sum")
    since_ns = time.monotonic_ns()
    way(ranks[-1])
    told = dict(enumerate(wait_all(survivors, works)))
    verdict = checks.check_same_verdict(told)
    checks.check_names(verdict, WAYS[way], [WORLD - 1])
    took_ms = (max(each.monotonic_ns for each in told.values()) - since_ns) / 1e6
    assert took_ms < checks.NAMED_WITHIN_MS
    figure(f"after {took_ms:.1f} ms: {verdict.message}")
    # Nobody's memory was written, and later works are told the same.
    checks.check_results(ask_all(survivors, ["check t 1"] * (WORLD - 1)))
    again = run_all(survivors, f"allreduce {GROUP} t sum")
    checks.check_names(checks.check_same_verdict(dict(enumerate(again))), WAYS[way], [WORLD - 1])
    form_again(node, survivors)


def test_works_that_a_leaver_has_submitted_complete(node: Node) -> None:
    ranks = ready_ranks(node)
    works = [ranks[-1].submit(f"allreduce {GROUP} t sum")]
    ranks[-1].must(f"leave {GROUP}")
    works = [*submit_all(ranks[:-1], f"allreduce {GROUP} t sum"), *works]
    assert all(verdict.ok for verdict in wait_all(ranks, works))
    checks.check_results(ask_all(ranks, [f"check t {WORLD}"] * WORLD))
    later = run_all(ranks[:-1], f"barrier {GROUP}")
    checks.check_names(checks.check_same_verdict(dict(enumerate(later))), "RANK_LEFT", [WORLD - 1])


def test_a_matched_work_does_not_need_a_rank_that_is_stopped(node: Node) -> None:
    ranks = ready_ranks(node)
    with node.admin.paused("local.mid_chunk"):
        works = submit_all(ranks, f"allreduce {GROUP} t sum")
        node.admin.wait_held("local.mid_chunk")
        ranks[-1].signal(signal.SIGSTOP)
    try:
        assert all(verdict.ok for verdict in wait_all(ranks[:-1], works[:-1]))
    finally:
        ranks[-1].signal(signal.SIGCONT)
    assert ranks[-1].wait(works[-1]).ok
    checks.check_results(ask_all(ranks, [f"check t {WORLD}"] * WORLD))


# A client that forks: the child keeps the parent's session socket open.
_FORKING = """
    import os, sys
    sys.path.insert(0, sys.argv[1])
    import pathlib
    from raw import RawClient
    raw = RawClient(pathlib.Path(sys.argv[2]))
    raw.hello("parent")
    if os.fork() == 0:
        os.set_inheritable(raw.socket.fileno(), True)
        print("forked", flush=True)
        sys.stdin.read()  # until the test ends it
        os._exit(0)
    sys.stdin.read()
"""


def test_a_session_ends_with_its_process_although_a_child_holds_its_socket(node: Node) -> None:
    harness = next(path for path in sys.path if path.endswith("tests/harness"))
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_FORKING), harness, str(node.socket_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert parent.stdin is not None and parent.stdout is not None
    try:
        assert select.select([parent.stdout], [], [], 20)[0], "the client has not forked"
        assert parent.stdout.readline() == b"forked\n"
        node.admin.wait_sessions(1)
        parent.kill()
        assert parent.wait(20) == -signal.SIGKILL
        node.admin.wait_sessions(0)
    finally:
        # The child's end of file.
        parent.stdin.close()
        parent.stdout.close()


def test_a_stream_that_breaks_loses_nothing(node: Node) -> None:
    barrier = number_of("CollectiveKind", "BARRIER")
    with RawClient(node.socket_dir) as raw:
        raw.hello()
        seat = raw.join(GROUP, rank=0, world_size=1).result().membership
        raw.attach()
        for work in (1, 2, 3):
            raw.submit(number=work, membership=seat, kind=barrier)
        assert [raw.completion().serial for _ in range(3)] == [1, 2, 3]
        raw.detach()
        # The client has seen only the first: the others come again, once.
        assert raw.attach(acknowledged=1).last_received == 3
        again = [raw.completion() for _ in range(2)]
        assert [(each.serial, each.number) for each in again] == [(2, 2), (3, 3)]
        raw.submit(number=4, membership=seat, kind=barrier)
        last = raw.completion()
        assert (last.serial, last.number) == (4, 4) and not last.HasField("failure")
        node.check_alive()
