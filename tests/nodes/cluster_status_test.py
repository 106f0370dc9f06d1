"""`tutti status --cluster`: every daemon sees all, who is silent or lost is named, and nobody who
looks is kept waiting.
"""

from __future__ import annotations

import base64
import signal
from collections.abc import Callable

import pytest
from cli import Answer, tutti
from conftest import Nodes
from node import Node
from rank import join_all, run_all
from waiting import wait_until

# Shorter than the defaults, so that tests are.
QUICK = ("--peer_keepalive_ms=500ms", "--peer_timeout_ms=1s")
# A second is what is promised; the rest is this machine's: to start a process.
ANSWERS_WITHIN_S = 1.3
# What the others, who are well, may need on a machine that is busy. Not for who is timed.
PATIENT = "--timeout=10s"


def look(node: Node, *arguments: str) -> Answer:
    return tutti(node.socket_dir, "status", "--cluster", *arguments)


def states(nodes: Nodes, answer: Answer) -> dict[int | str, str]:
    """Of each host, by its number, the state of its daemon: {0: "ANSWERED"}. Several daemons on one
    host are an error.
    """
    numbers = {host.address: number for number, host in enumerate(nodes.hosts)}
    found: dict[int | str, str] = {}
    for each in answer.json()["nodes"]:
        address = each["node"]["address"].rpartition(":")[0]
        key = numbers.get(address, address)
        assert key not in found, answer.out
        found[key] = each["state"].removeprefix("NODE_STATE_")
    return found


def all_answer(nodes: Nodes, viewer: int) -> bool:
    answer = look(nodes.nodes[viewer], PATIENT, "-o", "json")
    return states(nodes, answer) == dict.fromkeys(range(len(nodes.nodes)), "ANSWERED")


def wait_all_answer(nodes: Nodes) -> None:
    for viewer in range(len(nodes.nodes)):
        wait_until(lambda viewer=viewer: all_answer(nodes, viewer), f"all are seen from {viewer}")


def quick_look(node: Node, *arguments: str) -> Answer:
    """As people look, who wait for a second."""
    answer = look(node, *arguments)
    assert answer.took_s < ANSWERS_WITHIN_S, answer
    return answer


@pytest.fixture
def nodes(new_nodes: Callable[..., Nodes]) -> Nodes:
    """Three that see each other."""
    made = new_nodes(3, *QUICK)
    wait_all_answer(made)
    return made


def test_every_daemon_sees_all(nodes: Nodes) -> None:
    incarnations = {node.admin.status().incarnation for node in nodes.nodes}
    for number, node in enumerate(nodes.nodes):
        answer = look(node, PATIENT, "-o", "json", "--check")
        assert answer.exit_code == 0, answer
        rows = answer.json()["nodes"]
        assert {base64.b64decode(each["node"]["id"]) for each in rows} == incarnations
        assert [each["self"] for each in rows] == [True, False, False]
        assert rows[0]["node"]["address"].startswith(f"{nodes.hosts[number].address}:")
        seeds = [each["node"]["address"] for each in rows if each["seed"]]
        assert seeds == [f"{nodes.hosts[0].address}:7411"]
        assert look(node, PATIENT).out.startswith("3 nodes   seen from ")


def test_plain_status_says_where_the_daemon_stands(nodes: Nodes) -> None:
    seed = tutti(nodes.nodes[0].socket_dir, "status", PATIENT).out
    assert "cluster this daemon is the seed" in seed
    assert "links 2" in seed
    other = tutti(nodes.nodes[1].socket_dir, "status", PATIENT).out
    assert "cluster seed " in other
    assert f"({nodes.hosts[0].address}:7411)   connected for " in other


def test_groups_over_several_nodes_are_shown_with_their_ranks(nodes: Nodes) -> None:
    ranks = nodes.new_ranks([0, 1, 1])
    join_all(ranks, "wide")
    join_all(nodes.new_ranks([2]), "narrow")
    assert all(verdict.ok for verdict in run_all(ranks, "barrier wide"))

    a, b = (nodes.hosts[number].address for number in (0, 1))

    def shown() -> bool:
        out = look(nodes.nodes[2], PATIENT).out
        rows = [line for line in out.splitlines() if line.startswith("wide ")]
        return (
            len(rows) == 1 and f" {a}:7411 (1), {b}:" in rows[0] and rows[0].endswith(" (2)")
        )

    wait_until(shown, "the group is shown, with its ranks on both nodes")
    assert "narrow" not in look(nodes.nodes[2], PATIENT).out
    rows = look(nodes.nodes[2], PATIENT, "-o", "json").json()["nodes"]
    sessions = {
        each["node"]["address"].rpartition(":")[0]: each["status"]["sessions"] for each in rows
    }
    assert [sessions[nodes.hosts[number].address] for number in range(3)] == ["1", "2", "1"]


@pytest.mark.parametrize("viewer", [0, 1], ids=["from the seed", "from another"])
def test_a_stopped_daemon_is_silent_then_lost_then_back(nodes: Nodes, viewer: int) -> None:
    stopped = nodes.nodes[2].daemon
    stopped.send_signal(signal.SIGSTOP)
    try:
        answer = quick_look(nodes.nodes[viewer], "--check")
        assert answer.exit_code == 1, answer
        assert answer.out.startswith("3 nodes, 1 silent "), answer.out
        assert f"({nodes.hosts[2].address}:" in answer.out.partition("PROBLEMS")[2]

        def lost() -> bool:
            answer = quick_look(nodes.nodes[viewer], "-o", "json")
            return states(nodes, answer) == {0: "ANSWERED", 1: "ANSWERED", 2: "LOST"}

        wait_until(lost, "the stopped one is lost")
        # Itself, it answers nobody: the tool does not wait for it either.
        assert quick_look(nodes.nodes[2]).exit_code == 3
    finally:
        stopped.send_signal(signal.SIGCONT)
    wait_all_answer(nodes)


def test_a_killed_daemon_is_lost_until_another_takes_its_place(nodes: Nodes) -> None:
    killed = f"({nodes.hosts[2].address}:"
    nodes.nodes[2].may_end = True
    nodes.nodes[2].daemon.kill()
    for viewer in (0, 1):

        def lost(viewer: int = viewer) -> bool:
            answer = quick_look(nodes.nodes[viewer], "-o", "json")
            return states(nodes, answer) == {0: "ANSWERED", 1: "ANSWERED", 2: "LOST"}

        wait_until(lost, f"{viewer} shows that it is lost")
        answer = quick_look(nodes.nodes[viewer], "--check")
        assert answer.exit_code == 1
        assert answer.out.startswith("2 nodes, 1 lost "), answer.out
        assert killed in answer.out.partition("PROBLEMS")[2]
    nodes.nodes[2].restart()
    wait_all_answer(nodes)
    assert look(nodes.nodes[1], PATIENT, "--check").exit_code == 0


def test_who_leaves_in_good_order_is_not_missed(nodes: Nodes) -> None:
    nodes.nodes[2].may_end = True
    nodes.nodes[2].daemon.terminate()

    def gone() -> bool:
        answer = look(nodes.nodes[1], PATIENT, "-o", "json")
        return states(nodes, answer) == {0: "ANSWERED", 1: "ANSWERED"}

    wait_until(gone, "it is not shown any more")
    assert look(nodes.nodes[1], PATIENT, "--check").exit_code == 0


def test_without_the_seed_each_shows_what_it_knows(nodes: Nodes) -> None:
    # These two have a link.
    ranks = nodes.new_ranks([1, 2])
    join_all(ranks, "dp")
    nodes.nodes[0].may_end = True
    nodes.nodes[0].daemon.kill()

    def known() -> bool:
        answer = quick_look(nodes.nodes[1], "-o", "json")
        return states(nodes, answer) == {0: "LOST", 1: "ANSWERED", 2: "ANSWERED"}

    wait_until(known, "the seed is lost, the other is not")
    answer = quick_look(nodes.nodes[1], "--check")
    assert answer.exit_code == 1
    assert "warning: the seed has not said who is in the cluster" in answer.out
    status = tutti(nodes.nodes[1].socket_dir, "status").out
    assert f"cluster looks for the seed at {nodes.hosts[0].address}:7411   for " in status
    nodes.nodes[0].restart()
    wait_all_answer(nodes)


def test_a_stopped_seed_keeps_nobody_waiting(nodes: Nodes) -> None:
    nodes.nodes[0].daemon.send_signal(signal.SIGSTOP)
    try:
        answer = quick_look(nodes.nodes[1], "-o", "json", "--check")
        assert answer.exit_code == 1
        assert states(nodes, answer)[0] == "SILENT"
        assert answer.json()["seed_silent"]
    finally:
        nodes.nodes[0].daemon.send_signal(signal.SIGCONT)
    wait_all_answer(nodes)


def test_a_control_loop_that_is_stuck_is_seen_from_everywhere(nodes: Nodes) -> None:
    with nodes.nodes[2].admin.paused("loop.task"):
        for viewer in range(3):

            def stuck(viewer: int = viewer) -> bool:
                answer = quick_look(nodes.nodes[viewer], "--check")
                lines = [line for line in answer.out.splitlines() if " stuck " in line]
                return (
                    answer.exit_code == 1
                    and len(lines) == 1
                    and f" {nodes.hosts[2].address}:" in lines[0]
                )

            wait_until(stuck, f"{viewer} shows that it is stuck")
    wait_all_answer(nodes)


@pytest.mark.parametrize("way", ["out", "in"])
def test_who_is_cut_off_from_here_is_silent_from_here(nodes: Nodes, way: str) -> None:
    a, b = nodes.hosts[1], nodes.hosts[2]
    if way == "in":
        a, b = b, a
    a.cut(b)
    answer = quick_look(nodes.nodes[1], "-o", "json")
    assert states(nodes, answer) == {0: "ANSWERED", 1: "ANSWERED", 2: "SILENT"}
    # The seed reaches both.
    assert all_answer(nodes, 0)
    a.heal(b)
    wait_all_answer(nodes)


def test_a_daemon_in_no_cluster_shows_itself() -> None:
    node = Node()
    try:
        answer = look(node, PATIENT, "-o", "json", "--check")
        assert answer.exit_code == 0
        (row,) = answer.json()["nodes"]
        assert row["self"] and row["state"] == "NODE_STATE_ANSWERED"
        assert base64.b64decode(row["node"]["id"]) == node.admin.status().incarnation
        assert look(node, PATIENT).out.startswith("1 node: this daemon is in no cluster\n")
        assert "cluster" not in tutti(node.socket_dir, "status", PATIENT).out.partition("\n\n")[0]
    finally:
        node.close()
