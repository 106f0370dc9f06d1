"""Ranks that disagree (F-40): each field of the signature wrong in one rank is an error on all
ranks that names both sides, writes nobody's memory, and leaves the group usable.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import checks
import pytest
from messages import message, name_of, number
from node import Node
from rank import Rank, Verdict, ask_all, join_all, must_all, run_all
from raw import RawArena, RawClient

WORLD = 4
GROUP = "dp"
COUNT = 50_000  # 200 KB a rank: executed by a worker, not by the control loop


@dataclass(frozen=True)
class Case:
    """What all ranks but one submit, what that one does, and what the error has to say."""

    right: str
    wrong: str
    field: str
    sides: tuple[str, str]


CASES = {
    "operation": Case(
        f"allreduce_to {GROUP} in out sum",
        f"broadcast {GROUP} in 0",
        "operation",
        ("allreduce", "broadcast"),
    ),
    "operation_without_data": Case(
        f"allreduce_to {GROUP} in out sum",
        f"barrier {GROUP}",
        "operation",
        ("allreduce", "barrier"),
    ),
    "dtype": Case(
        f"allreduce_to {GROUP} in out sum",
        f"allreduce_to {GROUP} in_int out_int sum",
        "dtype",
        ("float32", "int32"),
    ),
    "count": Case(
        f"allreduce_to {GROUP} in out sum",
        f"allreduce_to {GROUP} in_short out_short sum",
        "element count",
        (str(COUNT), str(COUNT - 1)),
    ),
    "reduce_op": Case(
        f"allreduce_to {GROUP} in out sum",
        f"allreduce_to {GROUP} in out max",
        "reduce op",
        ("sum", "max"),
    ),
    "in_place_reduce_op": Case(
        f"allreduce {GROUP} in sum", f"allreduce {GROUP} in avg", "reduce op", ("sum", "avg")
    ),
    "root": Case(
        f"broadcast {GROUP} in 0", f"broadcast {GROUP} in 2", "root", ("root 0", "root 2")
    ),
    "broadcast_dtype": Case(
        f"broadcast {GROUP} in 1", f"broadcast {GROUP} in_int 1", "dtype", ("float32", "int32")
    ),
}
TENSORS = {
    "in": f"float32 {COUNT}",
    "out": f"float32 {COUNT}",
    "in_int": f"int32 {COUNT}",
    "out_int": f"int32 {COUNT}",
    "in_short": f"float32 {COUNT - 1}",
    "out_short": f"float32 {COUNT - 1}",
}


def group_of_four(node: Node) -> list[Rank]:
    """Ranks with tensors, inputs and poisoned outputs, all different."""
    ranks = node.new_ranks(WORLD)
    join_all(ranks, GROUP)
    for place, (name, shape) in enumerate(TENSORS.items()):
        must_all(ranks, f"tensor {name} {shape}")
        ask_all(ranks, [f"fill {name} {1000 * place + rank + 1}" for rank in range(WORLD)])
    return ranks


def hashes(ranks: Sequence[Rank]) -> dict[str, str]:
    return {
        f"{name} of rank {number}": rank.hash(name)
        for number, rank in enumerate(ranks)
        for name in TENSORS
    }


def disagree(ranks: Sequence[Rank], case: Case, culprit: int) -> Verdict:
    """Runs the case, with every check but that of the memory."""
    commands = [case.wrong if rank == culprit else case.right for rank in range(WORLD)]
    works = [reply["work"] for reply in ask_all(ranks, commands)]
    replies = ask_all(ranks, [f"wait {work}" for work in works])
    verdict = checks.check_same_verdict(dict(enumerate(map(Verdict.of, replies))))
    checks.check_names(verdict, "MISMATCH", [culprit])
    for word in (*case.sides, f"ranks disagree on {case.field}", "rank", GROUP):
        assert word in verdict.message, f"{word} is not in: {verdict.message}"
    return verdict


def check_usable(ranks: Sequence[Rank]) -> None:
    """The next correct operation succeeds, with right results."""
    verdicts = run_all(ranks, f"allreduce_to {GROUP} in out sum")
    assert all(verdict.ok for verdict in verdicts), verdicts
    wanted = sum(range(1, WORLD + 1))
    checks.check_results(ask_all(ranks, [f"check out {wanted}"] * WORLD))


@pytest.mark.parametrize("name", CASES)
def test_each_field_is_compared(node: Node, figure: Callable[[str], None], name: str) -> None:
    ranks = group_of_four(node)
    for culprit in (0, 2, WORLD - 1):
        before = hashes(ranks)
        verdict = disagree(ranks, CASES[name], culprit)
        checks.check_untouched(before, hashes(ranks))
        check_usable(ranks)
        # Poisoned again for the next.
        ask_all(ranks, [f"fill out {1000 + rank + 1}" for rank in range(WORLD)])
    figure(verdict.message)


def test_two_sides_of_the_same_size_are_both_named(node: Node) -> None:
    ranks = group_of_four(node)
    before = hashes(ranks)
    right, wrong = f"allreduce {GROUP} in sum", f"allreduce {GROUP} in max"
    works = [reply["work"] for reply in ask_all(ranks, [right, right, wrong, wrong])]
    replies = ask_all(ranks, [f"wait {work}" for work in works])
    verdict = checks.check_same_verdict(dict(enumerate(map(Verdict.of, replies))))
    checks.check_names(verdict, "MISMATCH", [2, 3])
    assert "ranks 0, 1: " in verdict.message or "ranks 0-1: " in verdict.message, verdict
    checks.check_untouched(before, hashes(ranks))
    check_usable(ranks)


# --- Works that are wrong in themselves, which no client library would send ---

ARENA_BYTES = 1 << 20


@dataclass
class Pair:
    """A rank that says what it wants, rank 0, and a decent one, rank 1."""

    raw: RawClient
    arena: RawArena
    seat: int
    decent: Rank

    def work(self, number_: int, offset: int, length: int, arena: int | None = None) -> None:
        span = message("Span")(
            arena=self.arena.id if arena is None else arena, offset=offset, length=length
        )
        self.raw.submit(
            number=number_,
            membership=self.seat,
            kind=number("CollectiveKind", "ALLREDUCE"),
            dtype=number("DataType", "FLOAT32"),
            op=number("ReduceOp", "SUM"),
            inputs=[span],
            outputs=[span],
        )


WRONG_SPANS = {
    "behind_the_end": (ARENA_BYTES - 2048, 4096, None),
    "offset_beyond": (ARENA_BYTES, 4096, None),
    "wraps_around": ((1 << 64) - 4096, 8192, None),
    "length_of_everything": (0, (1 << 64) - 4, None),
    "no_such_arena": (0, 4096, 77),
    "unaligned_offset": (2, 4096, None),
    "half_an_element": (0, 4094, None),
}


@pytest.mark.parametrize("name", WRONG_SPANS)
def test_a_work_outside_its_arena_is_refused_at_all_ranks(node: Node, name: str) -> None:
    offset, length, arena = WRONG_SPANS[name]
    with RawClient(node.socket_dir) as raw:
        raw.hello()
        pair = pair_of(node, raw)
        before = {"arena": bytes(pair.arena.bytes), "t": pair.decent.hash("t")}
        work = pair.decent.submit(f"allreduce {GROUP} t sum")
        pair.work(1, offset, length, arena)
        completion = raw.completion()
        assert completion.number == 1
        assert name_of("Cause", completion.failure.cause) == "INVALID", completion
        assert list(completion.failure.culprits) == [0]
        verdict = pair.decent.wait(work)
        checks.check_names(verdict, "INVALID", [0])
        assert verdict.message == completion.failure.message
        after = {"arena": bytes(pair.arena.bytes), "t": pair.decent.hash("t")}
        assert before == after, "written although the work was refused"
        # The group goes on.
        work = pair.decent.submit(f"allreduce {GROUP} t sum")
        pair.work(2, 4096, 4096)
        assert not raw.completion().HasField("failure")
        assert pair.decent.wait(work).ok
        node.check_alive()


def pair_of(node: Node, raw: RawClient) -> Pair:
    arena = raw.new_arena(ARENA_BYTES)
    arena.bytes[:] = b"\x3c" * ARENA_BYTES
    decent = node.new_rank()
    decent.must("tensor t float32 1024")
    decent.must("fill t 7")
    joining = raw.join(GROUP, rank=0, world_size=2)
    decent.must(f"join {GROUP} 1 2")
    raw.attach()
    return Pair(raw, arena, joining.result().membership, decent)
