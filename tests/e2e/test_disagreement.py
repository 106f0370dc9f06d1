"""Ranks that disagree, or whose calls are wrong in themselves, in every kind of operation: an error
at all ranks that says what is wrong and at whom, nothing written, and the group goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import checks
import pytest
from conftest import Crew
from rank import Rank, Verdict, ask_all, must_all, run_all, wait_all

WORLD = 3
COUNT = 12
TENSORS = {
    "in": f"float32 {COUNT}",
    "out": f"float32 {COUNT}",
    "part": f"float32 {COUNT // WORLD}",
    "ints": f"int32 {COUNT}",
    "int_part": f"int32 {COUNT // WORLD}",
}


@dataclass(frozen=True)
class Disagreement:
    """What the ranks submit, rank 2 something else, and what the error has to say."""

    right: str
    wrong: str
    field: str
    sides: tuple[str, str]
    # What rank 0 does as the root, if it is not what rank 1 does.
    at_root: str = ""


MISMATCHES = {
    "reduce_root": Disagreement(
        "reduce G in 0 sum", "reduce G in 2 sum", "root", ("root 0", "root 2")
    ),
    "reduce_op": Disagreement(
        "reduce G in 0 sum", "reduce G in 0 max", "reduce op", ("sum", "max")
    ),
    "reduce_count": Disagreement(
        "reduce G in 0 sum", "reduce G in[0:11] 0 sum", "element count", ("12", "11")
    ),
    "kind": Disagreement(
        "allgather G part in/3", "reduce G in 0 sum", "operation", ("allgather", "reduce")
    ),
    "allgather_count": Disagreement(
        "allgather G part in/3",
        "allgather G part[0:3] in[0:3],in[3:6],in[6:9]",
        "element count",
        ("4", "3"),
    ),
    "allgather_dtype": Disagreement(
        "allgather G part in/3", "allgather G int_part ints/3", "dtype", ("float32", "int32")
    ),
    "gather_root": Disagreement(
        "gather G part - 0",
        "gather G part in/3 2",
        "root",
        ("root 0", "root 2"),
        at_root="gather G part in/3 0",
    ),
    "scatter_count": Disagreement(
        "scatter G - part 0",
        "scatter G - part[0:3] 0",
        "element count",
        ("4", "3"),
        at_root="scatter G in/3 part 0",
    ),
    "reduce_scatter_count": Disagreement(
        "reduce_scatter G in/3 part sum",
        "reduce_scatter G in[0:2],in[2:4],in[4:6] part[0:2] sum",
        "element count",
        ("4", "2"),
    ),
    "reduce_scatter_op": Disagreement(
        "reduce_scatter G in/3 part sum",
        "reduce_scatter G in/3 part product",
        "reduce op",
        ("sum", "product"),
    ),
    "all_to_all_dtype": Disagreement(
        "all_to_all G in/3 out/3", "all_to_all G ints/3 ints/3", "dtype", ("float32", "int32")
    ),
    "coalesced_number": Disagreement(
        "coalesced G in/3 sum", "coalesced G in/4 sum", "number of tensors", ("3", "4")
    ),
    # As many tensors with as many elements in all, cut elsewhere.
    "coalesced_lengths": Disagreement(
        "coalesced G in[0:4],in[4:6] sum", "coalesced G in[0:3],in[3:6] sum", "tensor 0", ("4", "3")
    ),
}


@dataclass(frozen=True)
class Wrong:
    """What the ranks submit, rank 2 something that is wrong, and what is said to that."""

    right: str
    wrong: str
    words: tuple[str, ...]
    at_root: str = ""


# With what is told all ranks, because only the daemon can tell.
INVALID = {
    "root_beyond": Wrong("reduce G in 0 sum", "reduce G in 3 sum", ("root 3",)),
    "broadcast_root_beyond": Wrong("broadcast G in 0", "broadcast G in 9", ("root 9",)),
    "list_too_short": Wrong("allgather G part in/3", "allgather G part in/2", ("1 and 2",)),
    "list_too_long": Wrong(
        "reduce_scatter G in/3 part sum", "reduce_scatter G in/4 part sum", ("not 4 and 1",)
    ),
    "all_to_all_short": Wrong("all_to_all G in/3 out/3", "all_to_all G in/3 out/2", ("3 and 2",)),
    "uneven_list": Wrong(
        "allgather G part in/3", "allgather G part in[0:4],in[4:8],in[8:11]", ("one size",)
    ),
    "list_where_not_the_root": Wrong(
        "gather G part - 0",
        "gather G part in/3 0",
        ("not 1 and 3",),
        at_root="gather G part in/3 0",
    ),
    "no_list_at_the_root": Wrong("scatter G - part 2", "scatter G - part 2", ("not 0 and 1",)),
    "unequal_sides": Wrong(
        "allreduce_to G in out sum", "allreduce_to G in out[0:11] sum", ("48", "44")
    ),
    "outputs_overlap": Wrong(
        "allgather G part in/3", "allgather G part in[0:4],in[2:6],in[8:12]", ("overlap",)
    ),
    "input_overlaps": Wrong(
        "all_to_all G in/3 out/3", "all_to_all G in/3 in[4:8],in[0:4],in[8:12]", ("overlap",)
    ),
    "no_reduce_op": Wrong("reduce G in 0 sum", "reduce G in 0 nonsense", ("needs a reduce op",)),
}

# The client knows, and tells its caller; the others are told at once that this rank is to blame.
LOCAL = {
    "no_tensor": Wrong("reduce G in 0 sum", "reduce G - 0 sum", ("never made",)),
    "no_tensors": Wrong("coalesced G in/3 sum", "coalesced G - sum", ("of no tensors",)),
    "one_of_a_list": Wrong(
        "all_to_all G in/3 out/3", "all_to_all G in,none,in out/3", ("never made",)
    ),
    "types": Wrong("allgather G part in/3", "allgather G part ints/3", ("float32 and int32",)),
}


def prepare(crew: Crew) -> tuple[Sequence[Rank], str]:
    ranks, group = crew.group(WORLD)
    for place, (name, shape) in enumerate(TENSORS.items()):
        must_all(ranks, f"tensor {name} {shape}")
        must_all(ranks, f"fill {name} {10 * place}{{rank}} 1")
    return ranks, group


def hashes(ranks: Sequence[Rank]) -> dict[str, str]:
    return {f"{name} of {rank}": rank.hash(name) for rank in ranks for name in TENSORS}


def submit(ranks: Sequence[Rank], group: str, case: Disagreement | Wrong) -> list[Verdict]:
    commands = [case.at_root or case.right, case.right, case.wrong]
    commands = [command.replace(" G", f" {group}", 1) for command in commands]
    return wait_all(ranks, [reply["work"] for reply in ask_all(ranks, commands)])


def check_usable(ranks: Sequence[Rank], group: str) -> None:
    must_all(ranks, "fill out 1")
    assert all(verdict.ok for verdict in run_all(ranks, f"allreduce {group} out sum"))
    checks.check_results(ask_all(ranks, [f"check out {WORLD}"] * WORLD))


def check_refused(
    crew: Crew, case: Disagreement | Wrong, cause: str, words: Sequence[str]
) -> None:
    """All ranks are told the same about rank 2, in these words; nothing is written, all goes on."""
    ranks, group = prepare(crew)
    before = hashes(ranks)
    verdict = checks.check_same_verdict(dict(enumerate(submit(ranks, group, case))))
    checks.check_names(verdict, cause, [2])
    for word in (*words, group):
        assert word in verdict.message, f"{word} is not in: {verdict.message}"
    checks.check_untouched(before, hashes(ranks))
    check_usable(ranks, group)


@pytest.mark.parametrize("name", MISMATCHES)
def test_a_mismatch_names_both_sides(crew: Crew, name: str) -> None:
    case = MISMATCHES[name]
    check_refused(crew, case, "MISMATCH", (*case.sides, case.field, "rank"))


@pytest.mark.parametrize("name", INVALID)
def test_a_wrong_call_is_refused_at_all_ranks(crew: Crew, name: str) -> None:
    case = INVALID[name]
    check_refused(crew, case, "INVALID", case.words)


@pytest.mark.parametrize("name", LOCAL)
def test_what_the_client_refuses_is_an_error_at_the_other_ranks_too(crew: Crew, name: str) -> None:
    ranks, group = prepare(crew)
    case = LOCAL[name]
    before = hashes(ranks)
    verdicts = submit(ranks, group, case)
    assert verdicts[2].cause == "INVALID", verdicts
    for word in case.words:
        assert word in verdicts[2].message, verdicts
    told = checks.check_same_verdict({0: verdicts[0], 1: verdicts[1]})
    checks.check_names(told, "INVALID", [2])
    checks.check_untouched(before, hashes(ranks))
    check_usable(ranks, group)


def test_splits_that_do_not_fit_are_named(crew: Crew) -> None:
    ranks, group = prepare(crew)
    before = hashes(ranks)
    commands = [f"all_to_all {group} in/3 out/3"] * WORLD
    # Rank 1 has 3 elements for rank 2, which expects 4.
    commands[1] = f"all_to_all {group} in[0:4],in[4:8],in[8:11] out/3"
    verdicts = wait_all(ranks, [reply["work"] for reply in ask_all(ranks, commands)])
    verdict = checks.check_same_verdict(dict(enumerate(verdicts)))
    checks.check_names(verdict, "MISMATCH", [1, 2])
    for word in ("rank 1 has 3 elements for rank 2", "expects 4", group):
        assert word in verdict.message, verdict
    checks.check_untouched(before, hashes(ranks))
    check_usable(ranks, group)


def test_an_agree_among_other_operations_is_a_mismatch(crew: Crew) -> None:
    ranks, group = prepare(crew)
    works = [rank.submit(f"barrier {group}") for rank in ranks[1:]]
    reply = ranks[0].ask(f"agree {group} 1")
    assert reply["cause"] == "MISMATCH" and reply["culprits"] == [0], reply
    for rank, work in zip(ranks[1:], works, strict=True):
        checks.check_names(rank.wait(work), "MISMATCH", [0])
    check_usable(ranks, group)


# --- A tensor that two operations in flight use ---


def test_what_one_writes_no_other_in_flight_may_use(crew: Crew) -> None:
    ranks, group = prepare(crew)
    pending = ranks[0].submit(f"recv {group} in 1")
    must_all(ranks, f"barrier {group}")
    for command in (f"allreduce {group} in sum", f"allreduce_to {group} in out sum"):
        verdicts = run_all(ranks, command)
        verdict = checks.check_same_verdict(dict(enumerate(verdicts)))
        checks.check_names(verdict, "INVALID", [0])
        assert "in use by recv" in verdict.message, verdict
    # A part of it too, and from another pair or group.
    send = ranks[0].run(f"send {group} in[3:5] 2")
    assert send.cause == "INVALID" and "in use" in send.message, send
    other_ranks, other = crew.group(2)
    verdicts = run_all(other_ranks, f"allreduce {other} in[11:12] sum")
    checks.check_names(checks.check_same_verdict(dict(enumerate(verdicts))), "INVALID", [0])
    # What lies beside it is free, and so is all of it once the recv has ended.
    assert ranks[1].run(f"send {group} in 0").ok
    assert ranks[0].wait(pending).ok
    check_usable(ranks, group)
    assert all(verdict.ok for verdict in run_all(ranks, f"allreduce {group} in sum"))


def test_what_nobody_writes_may_be_read_by_many(crew: Crew) -> None:
    ranks, group = crew.group(2)
    must_all(ranks, "tensor in float32 100000")
    must_all(ranks, "tensor out float32 100000")
    must_all(ranks, "fill in 2")
    # Large enough to wait for its recv.
    send = ranks[0].submit(f"send {group} in 1")
    verdicts = run_all(ranks, f"allreduce_to {group} in out sum")
    assert all(verdict.ok for verdict in verdicts), verdicts
    checks.check_results(ask_all(ranks, ["check out 4"] * 2))
    assert ranks[1].run(f"recv {group} out 0").ok
    assert ranks[0].wait(send).ok
    checks.check_results([ranks[1].ask("check out 2")])


def test_operations_of_one_order_may_use_one_tensor(crew: Crew) -> None:
    ranks, group = crew.group(2)
    must_all(ranks, "tensor t int64 50000")
    must_all(ranks, "fill t 1")
    rounds = 10
    works = [[rank.submit(f"allreduce {group} t sum") for _ in range(rounds)] for rank in ranks]
    for rank, its in zip(ranks, works, strict=True):
        for work in its:
            assert rank.wait(work).ok
    checks.check_results(ask_all(ranks, [f"check t {2**rounds}"] * 2))
