"""Every checker of an invariant sees what it is for (T-16): with a defect planted in the daemon
(`Mutated("...")` in its source), the checks that other tests rely on fail.

Each test first shows that its checks pass without the defect.
"""

import contextlib
import os
import random
import time
from collections.abc import Sequence

import checks
import death
import grpc
import pytest
from life_cycle_test import HEAP_GROWTH_KIB
from mismatch_test import CASES, WRONG_SPANS, disagree, group_of_four, hashes, pair_of
from node import Node
from rank import Rank, ask_all, join_all, must_all, run_all, submit_all, wait_all
from raw import RawClient
from waiting import DEADLINE_S, wait_for_exit, wait_until

GROUP = death.GROUP
# Of the tensor "big" of each rank.
BIG_BYTES = 4_000_000


def ready_ranks(node: Node, count: int = 4) -> list[Rank]:
    ranks = node.new_ranks(count)
    must_all(ranks, f"tensor big float32 {BIG_BYTES // 4}")
    must_all(ranks, "tensor small float32 1024")
    join_all(ranks, GROUP)
    return ranks


def rank_dies(node: Node, ranks: Sequence[Rank], phase: death.Phase) -> death.Death:
    """The last one."""
    return phase(death.Scene(node, ranks, len(ranks) - 1, random.Random(1)))


# --- Verdicts ---


@pytest.mark.parametrize("phase", [death.before_others_wait, death.before_anyone])
def test_two_verdicts_for_one_work(node: Node, phase: death.Phase) -> None:
    told = rank_dies(node, ready_ranks(node), phase)
    checks.check_same_verdict(told.work_k)
    for defect_from in (1, 2):
        ranks = ready_ranks(node)
        # From the second failure on, or the third: ranks are told that all is well.
        with node.admin.mutated("complete.split_verdict", 1 + defect_from):
            told = rank_dies(node, ranks, phase)
        with pytest.raises(checks.Broken, match="two verdicts"):
            checks.check_same_verdict(told.work_k)
        must_all(ranks[:-1], f"leave {GROUP}")


def test_the_wrong_rank_is_named(node: Node) -> None:
    ranks = ready_ranks(node)
    with node.admin.mutated("verdict.blame_next"):
        told = rank_dies(node, ranks, death.before_others_wait)
    checks.check_same_verdict(told.next_work)
    with pytest.raises(checks.Broken, match="RANK_DIED of ranks"):
        checks.check_named_in_time(told.next_work, 3, told.counts_from_ns())


def test_a_death_that_is_noticed_late(node: Node) -> None:
    ranks = ready_ranks(node)
    alive = ranks[:-1]
    with node.admin.mutated("session_socket.miss_death"):
        works = submit_all(alive, f"allreduce {GROUP} small sum")
        killed = ranks[-1].kill()
        ranks[-1].wait_exit()
        # Until the bar is missed.
        node.admin.wait_hit("session_socket.miss_death")
        missed_ns = killed + 1e6 * checks.NAMED_WITHIN_MS
        wait_until(lambda: time.monotonic_ns() > missed_ns, "the bar is missed")
    told = dict(enumerate(wait_all(alive, works)))
    with pytest.raises(checks.Broken, match="100 ms are promised"):
        checks.check_named_in_time(told, 3, killed)
    # It is only late.
    checks.check_named_in_time(told, 3, killed, within_ms=1000 * DEADLINE_S)


def test_a_deadline_that_names_nobody(node: Node) -> None:
    for defect in (False, True):
        ranks = ready_ranks(node, 3)
        if defect:
            node.admin.failpoint("group.name_nobody", "MUTATE")
        works = submit_all(ranks[:2], f"allreduce {GROUP} small sum 200")
        verdict = checks.check_same_verdict(dict(enumerate(wait_all(ranks[:2], works))))
        if defect:
            with pytest.raises(checks.Broken, match="DEADLINE of ranks"):
                checks.check_names(verdict, "DEADLINE", [2])
        else:
            checks.check_names(verdict, "DEADLINE", [2])
        must_all(ranks, f"leave {GROUP}")


# --- Results and memory ---


def test_a_part_that_is_not_done(node: Node) -> None:
    ranks = ready_ranks(node)

    def run() -> None:
        ask_all(ranks, [f"fill big {rank}" for rank in range(4)])
        assert all(verdict.ok for verdict in run_all(ranks, f"allreduce {GROUP} big sum"))

    run()
    checks.check_results(ask_all(ranks, ["check big 6"] * 4))
    checks.check_bit_identical([rank.hash("big") for rank in ranks])
    with node.admin.mutated("local.skip_last_chunk"):
        run()
    with pytest.raises(checks.Broken, match="with wrong results"):
        checks.check_results(ask_all(ranks, ["check big 6"] * 4))
    with pytest.raises(checks.Broken, match="differ"):
        checks.check_bit_identical([rank.hash("big") for rank in ranks])


def test_another_order_of_reduction(node: Node) -> None:
    ranks = ready_ranks(node)

    def run() -> list[str]:
        # In this order the sum is 1; backwards it is 0.
        ask_all(ranks, [f"fill big {value}" for value in ("1e8", "1", "-1e8", "1")])
        assert all(verdict.ok for verdict in run_all(ranks, f"allreduce {GROUP} big sum"))
        return [rank.hash("big") for rank in ranks]

    first = run()
    checks.check_bit_identical([*first, *run()])
    with node.admin.mutated("local.wrong_order"):
        wrong = run()
    checks.check_bit_identical(wrong)
    with pytest.raises(checks.Broken, match="differ"):
        checks.check_bit_identical([*first, *wrong])


@pytest.mark.parametrize("name", ["reduce_op", "in_place_reduce_op", "root"])
def test_memory_is_written_in_spite_of_a_mismatch(node: Node, name: str) -> None:
    ranks = group_of_four(node)
    before = hashes(ranks)
    disagree(ranks, CASES[name], 1)
    checks.check_untouched(before, hashes(ranks))
    with node.admin.mutated("match.skip_signature"), pytest.raises(checks.Broken, match="MISMATCH"):
        disagree(ranks, CASES[name], 1)
    with pytest.raises(checks.Broken, match="written although"):
        checks.check_untouched(before, hashes(ranks))


@pytest.mark.parametrize("name", ["behind_the_end", "offset_beyond"])
def test_a_work_outside_its_arena_is_not_refused(node: Node, name: str) -> None:
    offset, length, arena = WRONG_SPANS[name]
    node.may_end = True  # it reads memory that is not there
    with RawClient(node.socket_dir) as raw:
        raw.hello()
        pair = pair_of(node, raw)
        with node.admin.mutated("arena.skip_bounds"):
            work = pair.decent.submit(f"allreduce {GROUP} t sum")
            pair.work(1, offset, length, arena)
            verdict = pair.decent.wait(work)
        with pytest.raises(checks.Broken, match="INVALID"):
            checks.check_names(verdict, "INVALID", [0])


# --- The daemon ---


def test_a_daemon_that_dies_of_garbage(node: Node) -> None:
    def send_garbage() -> None:
        with RawClient(node.socket_dir) as raw:
            raw.send_packet(b"\xff" * 100)
            raw.wait_hang_up()

    send_garbage()
    node.check_alive()
    node.may_end = True
    node.admin.failpoint("session_socket.trust_packets", "MUTATE")
    send_garbage()
    wait_for_exit(node.daemon.pidfd, "tuttid")
    with pytest.raises(checks.Broken, match="has died"):
        node.check_alive()


def test_a_daemon_that_unmaps_memory_in_use(node: Node) -> None:
    """The invariant that teardown protects (design.md, Memory)."""
    for defect in (False, True):
        ranks = ready_ranks(node)
        if defect:
            node.may_end = True
            node.admin.failpoint("arena.unmap_early", "MUTATE")
        with contextlib.suppress(grpc.RpcError), node.admin.paused("execute.before_run"):
            works = submit_all(ranks, f"allreduce {GROUP} big sum")
            node.admin.wait_held("execute.before_run")
            before = node.admin.fresh_status()
            ranks[-1].kill()
            node.admin.wait_sessions(before.sessions - 1)
            after = node.admin.fresh_status()
            # Its ring is in an arena of its own, which nothing uses any more.
            unmapped = before.arena_bytes - after.arena_bytes
            assert (unmapped >= BIG_BYTES) == defect
        if defect:
            wait_for_exit(node.daemon.pidfd, "tuttid")
            with pytest.raises(checks.Broken, match="has died"):
                node.check_alive()
        else:
            assert all(verdict.ok for verdict in wait_all(ranks[:-1], works[:-1]))
            node.check_alive()
            for rank in ranks:
                node.close_rank(rank)


# --- Status ---


def test_an_age_that_is_not_told(node: Node) -> None:
    def age_ms() -> int:
        age: int = node.admin.status().snapshot.age_ms
        return age

    with node.admin.paused("loop.task"):
        node.admin.wait_held("loop.task")
        blocked_since = time.monotonic()
        wait_until(lambda: age_ms() > 1500, "the snapshot is old")
        checks.check_tells_age(age_ms, blocked_since)
        with (
            node.admin.mutated("snapshot.hide_age"),
            pytest.raises(checks.Broken, match="claims an age"),
        ):
            checks.check_tells_age(age_ms, blocked_since)


def test_an_answer_that_hangs(node: Node) -> None:
    def age_ms() -> int:
        try:
            node.admin.call("GetStatus", timeout_s=checks.ANSWERS_WITHIN_S + 0.2)
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        return 0

    with (
        node.admin.paused("admin.before_answer"),
        pytest.raises(checks.Broken, match="the answer took"),
    ):
        checks.check_tells_age(age_ms, time.monotonic())


# --- Leaks ---


def test_sessions_that_are_never_freed(node: Node) -> None:
    def with_arena() -> None:
        with RawClient(node.socket_dir) as raw:
            raw.hello()
            raw.new_arena(1 << 20).bytes.close()
            raw.hang_up()

    def with_offered_arena() -> None:
        with RawClient(node.socket_dir) as raw:
            raw.hello()
            _, fd = raw.offer_arena(1 << 20)
            os.close(fd)
            raw.hang_up()

    with_arena()
    with_offered_arena()
    baseline = checks.settled_usage(node.pid, node.admin)
    for leave_behind, leaked in (
        (with_arena, ("arena_mappings", "arena_bytes")),
        (with_offered_arena, ("descriptors", "arena_bytes")),
    ):
        leave_behind()
        checks.check_no_leak(node.pid, node.admin, baseline)
        with node.admin.mutated("session.leak"):
            leave_behind()
        with pytest.raises(checks.Broken, match="leaked") as broken:
            checks.check_no_leak(node.pid, node.admin, baseline, settle_s=2)
        for each in leaked:
            assert each in str(broken.value)
        baseline = checks.settled_usage(node.pid, node.admin)
    with pytest.raises(checks.Broken, match="arena_bytes"):
        node.check_clean()
    node.may_end = True


def test_bytes_that_are_never_freed(node: Node) -> None:
    def samples() -> list[float]:
        heap_kib = []
        for _ in range(20):
            for _ in range(100):
                with RawClient(node.socket_dir) as raw:
                    raw.hello(label="x" * 200)
                    raw.hang_up()
            heap_kib.append(float(checks.heap_kib(node.pid)))
        return heap_kib

    samples()
    checks.check_flat("the heap", samples(), growth_max=HEAP_GROWTH_KIB)
    with node.admin.mutated("session.leak"):
        leaking = samples()
    with pytest.raises(checks.Broken, match="the heap grows"):
        checks.check_flat("the heap", leaking, growth_max=HEAP_GROWTH_KIB)


def test_the_check_of_many_deaths_finds_too_many_late_ones() -> None:
    checks.check_most_in_time([5.0] * 199 + [101.0])
    with pytest.raises(checks.Broken, match="3 of 200 times"):
        checks.check_most_in_time([5.0] * 197 + [101.0] * 3)
