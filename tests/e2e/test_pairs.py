"""send and recv: in order per pair of ranks and apart from the collectives, small sends ahead of
their recv, large ones with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import checks
import pytest
from conftest import Crew
from node import Node
from rank import Rank, ask_all, join_all, must_all, run_all

# A send of that many bytes completes once it is copied, a larger one when it is received.
SMALL_BYTES = 64 << 10


def must_equal(rank: Rank, check: str) -> None:
    reply = rank.must(f"check {check}")
    assert reply["equal"], f"{check}: {reply}"


def must_end_well(rank: Rank, works: Sequence[int]) -> None:
    for work in works:
        verdict = rank.wait(work)
        assert verdict.ok, verdict


def meet(ranks: Sequence[Rank], group: str) -> None:
    """A barrier: what was submitted before has arrived at the daemon, and its completions here."""
    verdicts = run_all(ranks, f"barrier {group}")
    assert all(verdict.ok for verdict in verdicts), verdicts


def is_done(rank: Rank, work: int) -> bool:
    done: bool = rank.must(f"done {work}")["done"]
    return done


@pytest.mark.parametrize("count", [10, 100_000])
def test_a_pair_is_first_in_first_out(crew: Crew, count: int) -> None:
    (first, second), group = crew.group(2)
    messages = 20
    for number in range(messages):
        first.must(f"tensor out{number} int32 {count}")
        first.must(f"fill out{number} {number} 1 5")
        second.must(f"tensor in{number} int32 {count}")
    # Some recvs are there first, then the sends, then the other recvs.
    half = messages // 2
    recvs = [second.submit(f"recv {group} in{number} 0") for number in range(half)]
    sends = [first.submit(f"send {group} out{number} 1") for number in range(messages)]
    recvs += [second.submit(f"recv {group} in{number} 0") for number in range(half, messages)]
    must_end_well(first, sends)
    must_end_well(second, recvs)
    for number in range(messages):
        must_equal(second, f"in{number} {number} 1 5")


@pytest.mark.parametrize("count", [10, 100_000])
def test_both_directions_at_once(crew: Crew, count: int) -> None:
    pair, group = crew.group(2)
    must_all(pair, f"tensor out float32 {count}")
    must_all(pair, f"tensor in float32 {count}")
    must_all(pair, "fill out {rank}")
    works = []
    for rank, peer in zip(pair, (1, 0), strict=True):
        works.append([rank.submit(f"send {group} out {peer}")])
        works[-1].append(rank.submit(f"recv {group} in {peer}"))
    for rank, (send, recv) in zip(pair, works, strict=True):
        must_end_well(rank, [send, recv])
    must_equal(pair[0], "in 1")
    must_equal(pair[1], "in 0")


def test_a_small_send_completes_before_anyone_receives_it(crew: Crew) -> None:
    (first, second), group = crew.group(2)
    count = SMALL_BYTES // 4
    first.must(f"tensor t float32 {count}")
    second.must(f"tensor t float32 {count}")
    for number in range(3):
        first.must(f"fill t {number} 1 9")
        assert first.run(f"send {group} t 1").ok
    # The tensor is the sender's again.
    first.must("fill t 77")
    for number in range(3):
        assert second.run(f"recv {group} t 0").ok
        must_equal(second, f"t {number} 1 9")


def test_two_ranks_that_both_send_first_do_not_wait_for_each_other(crew: Crew) -> None:
    pair, group = crew.group(2)
    must_all(pair, "tensor out int64 100")
    must_all(pair, "tensor in int64 100")
    must_all(pair, "fill out {rank}")
    for rank, peer in zip(pair, (1, 0), strict=True):
        assert rank.run(f"send {group} out {peer}").ok
    for rank, peer in zip(pair, (1, 0), strict=True):
        assert rank.run(f"recv {group} in {peer}").ok
        must_equal(rank, f"in {peer}")


def test_a_large_send_completes_when_it_is_received(crew: Crew) -> None:
    pair, group = crew.group(2)
    first, second = pair
    count = SMALL_BYTES // 4 + 1
    must_all(pair, f"tensor t float32 {count}")
    first.must("fill t 5 1 11")
    send = first.submit(f"send {group} t 1")
    meet(pair, group)
    assert not is_done(first, send)
    assert second.run(f"recv {group} t 0").ok
    must_end_well(first, [send])
    must_equal(second, "t 5 1 11")


def test_without_room_for_copies_a_small_send_waits_too(new_node: Callable[..., Node]) -> None:
    node = new_node("--send_bytes_per_session_max=8KiB")
    pair = node.new_ranks(2)
    join_all(pair, "g")
    first, second = pair
    must_all(pair, "tensor t float32 1000")
    first.must("fill t 3")
    sends = [first.submit("send g t 1") for _ in range(3)]
    meet(pair, "g")
    done = [is_done(first, send) for send in sends]
    assert done[0] and not done[2], done
    for _ in sends:
        assert second.run("recv g t 0").ok
        must_equal(second, "t 3")
    must_end_well(first, sends)


def test_pairs_do_not_wait_for_other_pairs_nor_for_collectives(crew: Crew) -> None:
    ranks, group = crew.group(4)
    must_all(ranks, "tensor t float64 50000")
    must_all(ranks, "tensor u float64 50000")
    must_all(ranks, "fill t {rank}")
    # Rank 0 waits for a collective, and for a transfer that comes last.
    barrier = ranks[0].submit(f"barrier {group}")
    late = ranks[0].submit(f"recv {group} u 1")
    for source, target in ((2, 3), (3, 2)):
        recv = ranks[target].submit(f"recv {group} u {source}")
        assert ranks[source].run(f"send {group} t {target}").ok
        must_end_well(ranks[target], [recv])
        must_equal(ranks[target], f"u {source}")
    assert ranks[1].run(f"send {group} t 0").ok
    must_end_well(ranks[0], [late])
    must_equal(ranks[0], "u 1")
    assert not is_done(ranks[0], barrier)
    verdicts = run_all(ranks[1:], f"barrier {group}")
    assert all(verdict.ok for verdict in verdicts)
    must_end_well(ranks[0], [barrier])


@pytest.mark.parametrize(("peer", "word"), [(1, "itself"), (2, "peer 2"), (77, "peer 77")])
def test_no_transfer_to_oneself_or_to_nobody(crew: Crew, peer: int, word: str) -> None:
    pair, group = crew.group(2)
    rank = pair[1]
    rank.must("tensor t int8 3")
    for command in ("send", "recv"):
        verdict = rank.run(f"{command} {group} t {peer}")
        assert verdict.cause == "INVALID" and word in verdict.message, verdict
    meet(pair, group)


def test_a_recv_without_a_send_is_withdrawn_and_the_group_goes_on(crew: Crew) -> None:
    pair, group = crew.group(2)
    first, second = pair
    must_all(pair, "tensor t float32 30000")
    second.must("tensor u float32 30000")
    verdict = second.run(f"recv {group} t 0 200")
    checks.check_names(verdict, "DEADLINE", [0])
    meet(pair, group)
    # What comes later meets the next recv, and not the one that was withdrawn.
    first.must("fill t 8")
    second.must("fill t 1")
    send = first.submit(f"send {group} t 1")
    assert second.run(f"recv {group} u 0").ok
    must_end_well(first, [send])
    must_equal(second, "u 8")
    must_equal(second, "t 1")


def test_of_several_recvs_the_one_that_waits_too_long_is_withdrawn(crew: Crew) -> None:
    pair, group = crew.group(2)
    first, second = pair
    for name in ("a", "b", "c"):
        second.must(f"tensor {name} int32 8")
        second.must(f"fill {name} 0")
    patient = second.submit(f"recv {group} a 0")
    hasty = second.submit(f"recv {group} b 0 200")
    last = second.submit(f"recv {group} c 0")
    checks.check_names(second.wait(hasty), "DEADLINE", [0])
    first.must("tensor t int32 8")
    for value in (1, 2):
        first.must(f"fill t {value}")
        assert first.run(f"send {group} t 1").ok
    must_end_well(second, [patient, last])
    for name, value in (("a", 1), ("b", 0), ("c", 2)):
        must_equal(second, f"{name} {value}")


def test_a_large_send_that_nobody_receives_ends_the_group(new_node: Callable[..., Node]) -> None:
    node = new_node()
    pair = node.new_ranks(2)
    join_all(pair, "g")
    pair[0].must("tensor t float32 100000")
    verdict = pair[0].run("send g t 1 200")
    checks.check_names(verdict, "DEADLINE", [1])
    # The first error is what every later call is told.
    for rank in pair:
        later = rank.run("barrier g")
        assert later.cause == "DEADLINE" and later.missing == (1,), later


@pytest.mark.parametrize("count", [10, 100_000])
def test_a_transfer_that_does_not_fit_is_named_at_both_ends(crew: Crew, count: int) -> None:
    pair, group = crew.group(2)
    first, second = pair
    must_all(pair, f"tensor right float32 {count}")
    must_all(pair, f"tensor short float32 {count - 1}")
    must_all(pair, f"tensor other int32 {count}")
    must_all(pair, "fill right 1")
    for wrong, words in (
        ("short", ("element count", str(count), str(count - 1))),
        ("other", ("dtype", "float32", "int32")),
    ):
        before = second.hash(wrong)
        recv = second.submit(f"recv {group} {wrong} 0")
        # The recv is there when the send comes: else a small send would have completed.
        meet(pair, group)
        send = first.submit(f"send {group} right 1")
        verdict = checks.check_same_verdict({0: first.wait(send), 1: second.wait(recv)})
        assert verdict.cause == "MISMATCH", verdict
        assert verdict.culprits in ((0,), (1,), (0, 1)), verdict
        for word in (*words, "rank 0", "rank 1"):
            assert word in verdict.message, f"{word} is not in: {verdict.message}"
        assert second.hash(wrong) == before
    # Both go on.
    send = first.submit(f"send {group} right 1")
    assert second.run(f"recv {group} right 0").ok
    must_end_well(first, [send])


def test_a_recv_that_does_not_fit_a_completed_send_is_told_the_receiver(crew: Crew) -> None:
    pair, group = crew.group(2)
    first, second = pair
    must_all(pair, "tensor t float32 10")
    second.must("tensor short float32 9")
    assert first.run(f"send {group} t 1").ok
    verdict = second.run(f"recv {group} short 0")
    assert verdict.cause == "MISMATCH" and "element count" in verdict.message, verdict
    assert first.run(f"send {group} t 1").ok
    assert second.run(f"recv {group} t 0").ok


def test_a_completed_send_is_received_after_its_sender_has_left(
    new_node: Callable[..., Node],
) -> None:
    node = new_node()
    pair = node.new_ranks(2)
    join_all(pair, "g")
    must_all(pair, "tensor t float32 10")
    pair[0].must("fill t 6")
    assert pair[0].run("send g t 1").ok
    pair[0].must("leave g")
    assert pair[1].run("recv g t 0").ok
    must_equal(pair[1], "t 6")
    verdict = pair[1].run("recv g t 0")
    checks.check_names(verdict, "RANK_LEFT", [0])


def test_a_rank_that_dies_ends_what_waits_for_it(new_node: Callable[..., Node]) -> None:
    node = new_node()
    ranks = node.new_ranks(3)
    join_all(ranks, "g")
    must_all(ranks, "tensor t float32 100000")
    works = [ranks[0].submit("send g t 2"), ranks[1].submit("recv g t 2")]
    ranks[2].kill()
    for rank, work in zip(ranks, works, strict=False):
        checks.check_names(rank.wait(work), "RANK_DIED", [2])
    # Also what would have concerned two living ranks: the epoch is over.
    replies = ask_all(ranks[:2], ["send g t 1", "recv g t 0"])
    for rank, reply in zip(ranks, replies, strict=False):
        checks.check_names(rank.wait(reply["work"]), "RANK_DIED", [2])
