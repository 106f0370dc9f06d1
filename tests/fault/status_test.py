"""Status under trouble: while the control loop is blocked for 10 s, the tool and the admin socket
answer within a second, and say how old it is what they show.
"""

import functools
import time
from collections.abc import Callable
from typing import Any

import checks
from cli import Answer, tutti
from node import Node
from rank import ask_all, join_all, must_all, submit_all, wait_all
from waiting import wait_until

WORLD = 2
GROUP = "dp"
BLOCKED_S = 10.0
# What the tool calls stuck.
STALE_S = 1.0

# As a person types them; all but health exit with 0 then.
COMMANDS = ("status", "groups", f"group {GROUP}", "sessions", "ops")
CALLS: dict[str, dict[str, Any]] = {
    "GetStatus": {},
    "ListGroups": {},
    "GetGroup": {"name": GROUP},
    "ListSessions": {},
    "ListOps": {},
}


def test_status_answers_while_the_control_loop_is_blocked(
    node: Node, figure: Callable[[str], None]
) -> None:
    ranks = node.new_ranks(WORLD)
    join_all(ranks, GROUP)
    must_all(ranks, "tensor t float32 1000")
    must_all(ranks, "fill t 1")
    works = submit_all(ranks, f"allreduce {GROUP} t sum")
    assert all(verdict.ok for verdict in wait_all(ranks, works))
    number = node.admin.fresh_status().snapshot.number
    took_s: list[float] = []
    with node.admin.paused("loop.task"):
        node.admin.wait_held("loop.task")
        # What is shown was published before this. The snapshot may be a period older.
        blocked_since = time.monotonic()
        works = submit_all(ranks, f"allreduce {GROUP} t sum")
        _wait_stale(node)
        while time.monotonic() - blocked_since < BLOCKED_S:
            for call, fields in CALLS.items():
                ask = functools.partial(_age_of_call, node, call, fields)
                took_s.append(checks.check_tells_age(ask, blocked_since)[1])
            for command in COMMANDS:
                for output in ("table", "json"):
                    took_s.append(_check_tool(node, blocked_since, *command.split(), "-o", output))
            took_s.append(_check_health(node))
        blocked_s = time.monotonic() - blocked_since
        assert node.admin.status().snapshot.number <= number + 1, "the loop was not blocked"
    # All goes on: the works that were submitted meanwhile, and the snapshots.
    assert all(verdict.ok for verdict in wait_all(ranks, works))
    checks.check_results(ask_all(ranks, [f"check t {WORLD * WORLD}"] * WORLD))
    assert node.admin.fresh_status().snapshot.age_ms < 1000 * STALE_S
    healthy = tutti(node.socket_dir, "health")
    assert healthy.exit_code == 0 and healthy.out == "serving\n", healthy
    ordered = sorted(took_s)
    figure(
        f"blocked for {blocked_s:.1f} s: {len(ordered)} answers of status, p50 "
        f"{1000 * ordered[len(ordered) // 2]:.0f} ms, max {1000 * ordered[-1]:.0f} ms"
    )


def _age_of_call(node: Node, call: str, fields: dict[str, Any]) -> int:
    age: int = node.admin.call(call, **fields).snapshot.age_ms
    return age


def _wait_stale(node: Node) -> None:
    """The tool speaks of an age from a second on."""
    wait_until(
        lambda: node.admin.status().snapshot.age_ms > 1000 * STALE_S, "the snapshot is a second old"
    )


def _check_tool(node: Node, blocked_since: float, *command: str) -> float:
    answers: list[Answer] = []

    def ask() -> int:
        answers.append(tutti(node.socket_dir, *command))
        assert answers[0].exit_code == 0, answers[0]
        return answers[0].stated_age_ms()

    checks.check_tells_age(ask, blocked_since)
    return answers[0].took_s


def _check_health(node: Node) -> float:
    """Health says so, and fails: a stuck daemon is not healthy."""
    answer = tutti(node.socket_dir, "health")
    assert answer.exit_code == 1 and answer.out.startswith("stuck"), answer
    assert answer.stated_age_ms() > 1000 * STALE_S
    assert answer.took_s < checks.ANSWERS_WITHIN_S, answer
    return answer.took_s
