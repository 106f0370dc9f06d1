"""Every operation with the real daemon and the C++ client: groups of 1 to 4 ranks, every type, in
place and out of place, in shared and in plain memory.
"""

from __future__ import annotations

from collections.abc import Callable

import cases
import pytest
from cases import DTYPES, WAYS, Case, Way, run_case
from conftest import Crew
from rank import ask_all, must_all, run_all

Make = Callable[..., Case]

REDUCING: dict[str, Make] = {
    "allreduce": cases.allreduce,
    "coalesced": cases.coalesced,
    "reduce": cases.rooted_reduce,
    "reduce_scatter": cases.reduce_scatter,
}
MOVING: dict[str, Make] = {
    "broadcast": cases.broadcast,
    "allgather": cases.allgather,
    "gather": cases.gather,
    "scatter": cases.scatter,
    "all_to_all": cases.all_to_all,
    "all_to_all_uneven": cases.all_to_all_uneven,
}
ROOTED = ("reduce", "broadcast", "gather", "scatter")
WORLDS = (1, 2, 3, 4)


def roots_of(name: str, world: int) -> range:
    return range(world if name in ROOTED else 1)


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("name", [*REDUCING, *MOVING])
def test_every_type_in_every_way(crew: Crew, name: str, world: int) -> None:
    ranks, group = crew.group(world)
    make = (REDUCING | MOVING)[name]
    for dtype in DTYPES:
        for root in roots_of(name, world):
            for way in WAYS:
                run_case(ranks, group, make(dtype, world, root=root), way)


@pytest.mark.parametrize("op", ["product", "min", "max", "avg"])
@pytest.mark.parametrize("name", REDUCING)
def test_every_reduce_op(crew: Crew, name: str, op: str) -> None:
    ranks, group = crew.group(3)
    for dtype in DTYPES:
        # Rounded averages are the kernels' tests.
        if op == "avg" and dtype in ("bool", "float16", "bfloat16", "float32", "float64"):
            continue
        run_case(ranks, group, REDUCING[name](dtype, 3, op=op, root=2), Way())
    if op == "avg":
        ranks, group = crew.group(2)
        for dtype in ("float16", "bfloat16", "float32", "float64"):
            run_case(ranks, group, REDUCING[name](dtype, 2, op=op, root=1), Way(in_place=True))


def test_an_average_of_bools_is_refused_at_all_ranks(crew: Crew) -> None:
    ranks, group = crew.group(3)
    must_all(ranks, "tensor t bool 4")
    for verdict in run_all(ranks, f"allreduce {group} t avg"):
        assert verdict.cause == "UNSUPPORTED", verdict
        assert "average of bool" in verdict.message, verdict
    assert all(verdict.ok for verdict in run_all(ranks, f"allreduce {group} t sum"))


@pytest.mark.parametrize("dtype", DTYPES)
def test_send_and_receive_every_type(crew: Crew, dtype: str) -> None:
    for world in (2, 4):
        ranks, group = crew.group(world)
        for memory in ("tensor", "plain"):
            run_case(ranks, group, cases.send_recv(dtype, world), Way(memory=memory))


# On both sides of what is executed on the control loop (128 KiB, says node.py), and odd.
@pytest.mark.parametrize("count", [1, 33_333, 1_000_003])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int64"])
def test_large_tensors(crew: Crew, dtype: str, count: int) -> None:
    ranks, group = crew.group(4)
    quarter = count // 4
    must_all(ranks, f"tensor in {dtype} {count}")
    must_all(ranks, f"tensor out {dtype} {count}")
    must_all(ranks, f"tensor part {dtype} {quarter}")
    must_all(ranks, "fill in {rank} 1 7")

    def run(command: str) -> None:
        must_all(ranks, "fill out 99")
        verdicts = run_all(ranks, command)
        assert all(verdict.ok for verdict in verdicts), verdicts

    run(f"allreduce_to {group} in out sum")
    must_equal(crew, ["out 6 4 7"] * 4)
    run(f"reduce_scatter {group} in/4 part sum")
    run(f"allreduce_to {group} in out sum")
    for number, rank in enumerate(ranks):
        assert rank.hash("part") == rank.hash(f"out[{number * quarter}:{(number + 1) * quarter}]")
    run(f"allgather {group} in[0:{quarter}] out/4")
    for source in range(4):
        at = f"out[{source * quarter}:{(source + 1) * quarter}]"
        must_equal(crew, [f"{at} {source} 1 7"] * 4)
    must_all(ranks, "fill in {rank}")
    run(f"all_to_all {group} in/4 out/4")
    for source in range(4):
        at = f"out[{source * quarter}:{(source + 1) * quarter}]"
        must_equal(crew, [f"{at} {source}"] * 4)
    run(f"broadcast {group} in 2")
    must_equal(crew, ["in 2"] * 4)


def must_equal(crew: Crew, checks: list[str]) -> None:
    ranks = crew.ranks[: len(checks)]
    for rank, reply in enumerate(ask_all(ranks, [f"check {check}" for check in checks])):
        assert reply.get("equal"), f"rank {rank}: {checks[rank]}: {reply}"


def test_tensors_without_elements(crew: Crew) -> None:
    ranks, group = crew.group(3)
    must_all(ranks, "tensor none float32 0")
    must_all(ranks, "plain nothing float32 0")
    for name in ("none", "nothing"):
        listed = ",".join([name] * 3)
        for command in (
            f"allreduce {group} {name} sum",
            f"coalesced {group} {listed} sum",
            f"reduce {group} {name} 1 sum",
            f"broadcast {group} {name} 2",
            f"allgather {group} {name} {listed}",
            f"reduce_scatter {group} {listed} {name} min",
            f"all_to_all {group} {listed} {listed}",
        ):
            verdicts = run_all(ranks, command)
            assert all(verdict.ok for verdict in verdicts), f"{command}: {verdicts}"


def test_a_thousand_small_tensors_are_one_operation(crew: Crew) -> None:
    ranks, group = crew.group(4)
    for memory in ("tensor", "plain"):
        must_all(ranks, f"{memory} t float32 8000")
        must_all(ranks, "fill t {rank} 1 1000")
        verdicts = run_all(ranks, f"coalesced {group} t/1000 sum")
        assert all(verdict.ok for verdict in verdicts), verdicts
        assert {verdict.sequence for verdict in verdicts} == {0}
        must_equal(crew, ["t 6 4 1000"] * 4)


def test_agree(crew: Crew) -> None:
    for world in WORLDS:
        ranks, group = crew.group(world)
        for no in range(world + 1):
            flags = [int(rank != no) for rank in range(world)]
            replies = ask_all(ranks, [f"agree {group} {flag}" for flag in flags])
            assert [reply["agreed"] for reply in replies] == [all(flags)] * world


def test_the_same_bits_at_all_ranks_and_in_every_run(crew: Crew) -> None:
    ranks, group = crew.group(4)
    hashes = set()
    must_all(ranks, "tensor in float32 100003")
    must_all(ranks, "tensor out float32 100003")
    # A sum that every other order rounds otherwise.
    must_all(ranks, "fill in 0.1{rank} 0.37 1013")
    for _ in range(5):
        verdicts = run_all(ranks, f"allreduce_to {group} in out sum")
        assert all(verdict.ok for verdict in verdicts), verdicts
        hashes |= {rank.hash("out") for rank in ranks}
    assert len(hashes) == 1


def test_groups_and_pairs_from_many_threads(crew: Crew) -> None:
    groups = []
    ranks, _ = crew.group(4)
    for _ in range(3):
        groups.append(crew.group(4)[1])
    rounds = 200
    replies = ask_all(ranks, [f"storm {rounds} {','.join(groups)}"] * 4)
    for reply in replies:
        assert reply["problem"] == "", reply
        # Each round an allreduce, a send and a recv on each group.
        assert reply["works"] == 3 * rounds * len(groups)
