"""Starting, ending, dying and starving (F-10, F-12, F-22, F-33, F-34, F-35, F-38)."""

import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence

import checks
from cli import tutti
from node import Node
from rank import Rank, ask_all, join_all, must_all, run_all, submit_all, wait_all
from raw import connect
from waiting import wait_until

SOCKETS = ("session.sock", "grpc.sock", "admin.sock")
# F-10, F-12, F-22, F-34 of the notes.
LOST_WITHIN_MS = 50.0
SECOND_DAEMON_WITHIN_S = 2.0
ACCEPTS_AGAIN_WITHIN_S = 1.0
ENDS_AT_ONCE_WITHIN_S = 1.0


def works(ranks: Sequence[Rank], group: str) -> None:
    must_all(ranks, "tensor t float32 100000")
    must_all(ranks, "fill t 1.5")
    verdicts = run_all(ranks, f"allreduce {group} t sum")
    assert all(verdict.ok for verdict in verdicts), verdicts
    checks.check_results(ask_all(ranks, [f"check t {1.5 * len(ranks)}"] * len(ranks)))


def sockets_left(node: Node) -> list[str]:
    return [name for name in SOCKETS if (node.socket_dir / name).exists()]


# --- One daemon per directory ---


def test_a_second_daemon_says_who_holds_the_directory(node: Node) -> None:
    started = time.monotonic()
    second = subprocess.run(
        [os.environ["TUTTID"], f"--socket_dir={node.socket_dir}"],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert time.monotonic() - started < SECOND_DAEMON_WITHIN_S
    assert second.returncode == 2, second
    assert f"pid {node.pid}" in second.stderr and str(node.socket_dir) in second.stderr, second
    ranks = node.new_ranks(2)
    join_all(ranks, "dp")
    works(ranks, "dp")


# --- Ending ---


def test_sigterm_lets_works_in_flight_end(node: Node) -> None:
    ranks = node.new_ranks(2)
    join_all(ranks, "dp")
    must_all(ranks, "tensor t float32 100000")
    must_all(ranks, "fill t 2")
    with node.admin.paused("execute.before_run"):
        held = submit_all(ranks, "allreduce dp t sum")
        node.admin.wait_held("execute.before_run")
        node.daemon.signal(signal.SIGTERM)
        wait_until(lambda: node.admin.status().draining, "the daemon says that it is draining")
        late = node.start_rank()
        late.send_connect()
        refused = late.receive()
        assert not refused["ok"] and "draining" in refused["message"], refused
        health = tutti(node.socket_dir, "health")
        assert health.exit_code == 1 and "draining" in health.out, health
        assert node.daemon.alive()
    assert all(verdict.ok for verdict in wait_all(ranks, held)), "works in flight were lost"
    checks.check_results(ask_all(ranks, ["check t 4"] * 2))
    node.may_end = True
    assert node.daemon.wait_exit() == 0
    assert sockets_left(node) == []
    # The sessions ended because of that, and say so.
    for rank in ranks:
        verdict = rank.run("allreduce dp t sum")
        assert verdict.cause in ("DRAINING", "NODE_LOST"), verdict


def test_drain_over_the_admin_socket_is_the_same(node: Node) -> None:
    node.new_rank()
    node.may_end = True
    answer = tutti(node.socket_dir, "drain", "--wait", "10s", "--timeout", "10s")
    assert answer.exit_code == 0, answer
    assert node.daemon.wait_exit() == 0
    assert sockets_left(node) == []


def test_a_second_sigterm_ends_it_at_once(node: Node, figure: Callable[[str], None]) -> None:
    ranks = node.new_ranks(2)
    join_all(ranks, "dp")
    must_all(ranks, "tensor t float32 100000")
    node.admin.failpoint("execute.before_run", "PAUSE")
    held = submit_all(ranks, "allreduce dp t sum")
    node.admin.wait_held("execute.before_run")
    node.daemon.signal(signal.SIGTERM)
    wait_until(lambda: node.admin.status().draining, "the daemon says that it is draining")
    node.may_end = True
    again = time.monotonic()
    node.daemon.signal(signal.SIGTERM)
    assert node.daemon.wait_exit() == 0
    took_s = time.monotonic() - again
    assert took_s < ENDS_AT_ONCE_WITHIN_S
    assert sockets_left(node) == []
    assert {verdict.cause for verdict in wait_all(ranks, held)} == {"NODE_LOST"}
    figure(f"ended {1000 * took_s:.0f} ms after the second SIGTERM")


# --- Dying ---


def test_a_killed_daemon_is_noticed_at_once_and_its_files_do_no_harm(
    new_node: Callable[..., Node], figure: Callable[[str], None]
) -> None:
    took_ms = []
    node = new_node()
    for _ in range(10):
        ranks = node.new_ranks(3)
        join_all(ranks, "dp")
        must_all(ranks, "tensor t float32 1000")
        # Rank 2 does not come, so that the others wait.
        waiting = ranks[:2]
        held = submit_all(waiting, "allreduce dp t sum")
        wait_until(lambda: node.admin.group("dp").pending, "the operation is pending")
        killed_ns = time.monotonic_ns()
        node.daemon.signal(signal.SIGKILL)
        verdicts = wait_all(waiting, held)
        assert {verdict.cause for verdict in verdicts} == {"NODE_LOST"}, verdicts
        took_ms += [(verdict.monotonic_ns - killed_ns) / 1e6 for verdict in verdicts]
        node.daemon.wait_exit()
        assert sockets_left(node) == list(SOCKETS), "a killed daemon leaves its files"
        for rank in ranks:
            node.close_rank(rank)
        node.restart()
        fresh = node.new_ranks(2)
        join_all(fresh, "dp")
        works(fresh, "dp")
        for rank in fresh:
            node.close_rank(rank)
    figure(f"clients knew {min(took_ms):.1f} to {max(took_ms):.1f} ms after the kill")
    assert max(took_ms) < LOST_WITHIN_MS


# --- Starving ---


def test_accepting_resumes_after_descriptors_ran_out(
    new_node: Callable[..., Node], figure: Callable[[str], None]
) -> None:
    node = new_node(descriptors_max=96)
    ranks = node.new_ranks(2)
    join_all(ranks, "dp")
    works(ranks, "dp")
    before = checks.settled_usage(node.pid, node.admin)
    for name in SOCKETS:
        crowd: list[socket.socket] = []
        try:
            turned_away = _crowd_in(node, name, crowd)
            # Who was there before is not disturbed. It makes no arena, which is a descriptor.
            assert all(verdict.ok for verdict in run_all(ranks, "allreduce dp t sum"))
        finally:
            for connection in crowd:
                connection.close()
        relieved = time.monotonic()
        late = node.new_rank()
        took_s = time.monotonic() - relieved
        assert took_s < ACCEPTS_AGAIN_WITHIN_S
        assert node.admin.status().pid == node.pid
        node.close_rank(late)
        figure(
            f"{name}: after {len(crowd)} connections, of which {turned_away} were turned away, a "
            f"new client was in after {1000 * took_s:.0f} ms"
        )
    checks.check_no_leak(node.pid, node.admin, before)


def _crowd_in(node: Node, name: str, crowd: list[socket.socket]) -> int:
    """Connects until ten in a row were turned away."""
    in_a_row = turned_away = 0
    while in_a_row < 10:
        assert len(crowd) < 500, f"{name} accepts without a limit"
        connection = connect(node.socket_dir, name)
        crowd.append(connection)
        if _is_closed(node, connection):
            in_a_row += 1
            turned_away += 1
        else:
            in_a_row = 0
    return turned_away


def _is_closed(node: Node, connection: socket.socket) -> bool:
    """Whether the daemon closes a new connection, or holds it: its descriptors tell."""
    before = len(os.listdir(f"/proc/{node.pid}/fd"))

    def decided() -> str:
        if select.select([connection], [], [], 0)[0]:
            return "readable"
        return "held" if len(os.listdir(f"/proc/{node.pid}/fd")) > before else ""

    return wait_until(decided, "the daemon accepts") == "readable" and not connection.recv(1)


# --- Coming and going ---

CYCLES = 300


def test_clients_that_come_and_are_killed_leave_nothing(
    node: Node, figure: Callable[[str], None]
) -> None:
    # Killed in turn: after connecting, with an arena, while joining, in a group with a work.
    def batch() -> None:
        ranks = node.new_ranks(4)
        ranks[1].must("tensor t float32 1000000")
        ranks[2].send("join nobody_comes 0 2")
        ranks[3].must("join alone 0 1")
        ranks[3].must("tensor t float32 1000000")
        for _ in range(3):
            ranks[3].submit("allreduce alone t sum")
        for rank in ranks:
            rank.kill()
        for rank in ranks:
            node.close_rank(rank)

    for _ in range(80 // 4):
        batch()
    before = checks.settled_usage(node.pid, node.admin)
    heap_kib: list[float] = []
    for _ in range(CYCLES // 4):
        batch()
        heap_kib.append(checks.heap_kib(node.pid))
    after = checks.check_no_leak(node.pid, node.admin, before)
    growth = checks.check_flat("the daemon's heap (KiB)", heap_kib, growth_max=300)
    figure(f"before {CYCLES} cycles {before}")
    figure(f"after {after}; heap grew by {growth:.0f} KiB in the fit")
