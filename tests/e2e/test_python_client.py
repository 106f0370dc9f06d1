"""The Python client with the real daemon: four processes, as four Ray actors would be."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tutti
from actors import Actors
from daemon import DaemonProcess
from tutti import collective as col

DTYPES = ("float32", "float64", "int32", "int64")
SIZES = (1, 7, 1000, 100_003)


# Every test runs on both lanes.
pytestmark = pytest.mark.usefixtures("lane")


@pytest.fixture(scope="module")
def crew(lane: str, daemon_of_module: DaemonProcess) -> Iterator[Actors]:
    """Four processes that outlive the tests: starting them takes seconds."""
    del lane, daemon_of_module
    with Actors(4) as actors:
        yield actors


@pytest.fixture
def four(crew: Actors) -> Iterator[Actors]:
    """Four ranks of the group "dp"."""
    crew.all(init, "dp")
    yield crew
    crew.all(destroy)


@pytest.fixture
def mortals(daemon: DaemonProcess) -> Iterator[Actors]:
    """Four ranks of the group "dp" that may be killed."""
    del daemon
    with Actors(4) as actors:
        actors.all(init, "dp")
        yield actors


@contextlib.contextmanager
def fails_as(kind: type[tutti.CollectiveError]) -> Iterator[Any]:
    with pytest.raises(kind) as caught:
        yield caught


# --- What ranks do: (rank, world_size, ...) ---


def init(rank: int, world_size: int, name: str, timeout: float | None = None) -> None:
    col.init_collective_group(world_size, rank, group_name=name, timeout=timeout)


def init_fewer(rank: int, world_size: int, name: str) -> None:
    """Without the last rank."""
    init(rank, world_size - 1, name)


def init_alone(rank: int, world_size: int, name: str) -> None:
    del rank, world_size
    init(0, 1, name)
    col.allreduce(np.ones(3), name)
    col.destroy_collective_group(name)


def error_of(rank: int, world_size: int, function: Any, *arguments: Any) -> tutti.CollectiveError:
    try:
        function(rank, world_size, *arguments)
    except tutti.CollectiveError as error:
        return error
    raise AssertionError("it has not failed")


def make(rank: int, size: int, dtype: str) -> Any:
    return np.arange(size).astype(dtype) % 5 + rank


def reduce_everything(rank: int, world_size: int) -> int:
    done = 0
    for dtype in DTYPES:
        for size in SIZES:
            inputs = np.stack([make(each, size, dtype) for each in range(world_size)])
            for op, expected in (
                (col.ReduceOp.SUM, inputs.sum(0)),
                (col.ReduceOp.PRODUCT, inputs.prod(0)),
                (col.ReduceOp.MIN, inputs.min(0)),
                (col.ReduceOp.MAX, inputs.max(0)),
                (col.ReduceOp.AVG, (inputs.sum(0) / world_size).astype(dtype)),
            ):
                plain = make(rank, size, dtype)
                readonly = plain.copy()
                readonly.flags.writeable = False
                strided = np.zeros((size, 3), dtype)[:, 1]
                strided[:] = plain
                for array in (plain, tutti.from_numpy(plain), readonly, strided):
                    col.allreduce(array, "dp", op)
                    np.testing.assert_array_equal(array, expected)
                    done += 1
    return done


def import_torch(rank: int, world_size: int) -> None:
    del rank, world_size
    importlib.import_module("torch")


def reduce_torch(rank: int, world_size: int) -> None:
    import torch

    for dtype in (torch.float32, torch.float64, torch.int32, torch.int64):
        tensor = torch.full((5, 3), rank + 1, dtype=dtype)
        in_arena = torch.from_numpy(tutti.from_numpy(tensor.numpy()))
        for each in (tensor, tensor.clone().T, in_arena):
            col.allreduce(each, "dp")
            assert (each == world_size * (world_size + 1) // 2).all()
    parameter = torch.nn.Parameter(torch.full((4,), float(rank)))
    col.broadcast(parameter, 2, "dp")
    assert parameter.tolist() == [2.0] * 4


def broadcast_everything(rank: int, world_size: int) -> None:
    for root in range(world_size):
        for array in (make(rank, 1000, "float64"), tutti.from_numpy(make(rank, 1000, "int32"))):
            col.broadcast(array, root, "dp")
            np.testing.assert_array_equal(array, make(root, 1000, str(array.dtype)))


def reduce_without_elements(rank: int, world_size: int) -> None:
    del rank, world_size
    col.allreduce(np.zeros((0, 3)), "dp")
    scalar = np.array(2.0)
    col.allreduce(scalar, "dp")
    assert scalar == 8


def reduce_ahead(rank: int, world_size: int) -> None:
    """Many works in flight, waited for in any order, and awaited."""
    arrays = [np.full(100, float(rank + n)) for n in range(50)]
    works = [col.allreduce(array, "dp", async_op=True) for array in arrays]
    for work in reversed(works):
        work.wait(30)
    for n, array in enumerate(arrays):
        assert (array == sum(range(world_size)) + n * world_size).all()

    async def main() -> None:
        ahead = [col.allreduce(array, "dp", async_op=True) for array in arrays]
        for work in ahead:
            await work

    asyncio.run(main())


def barrier(rank: int, world_size: int, name: str = "dp") -> float:
    del rank, world_size
    col.barrier(name)
    return time.monotonic()


def reduce_ones(rank: int, world_size: int, size: int = 10, dtype: str = "float32") -> float:
    del rank
    array = np.ones(size, dtype)
    col.allreduce(array, "dp")
    assert (array == world_size).all()
    return time.monotonic()


def average_of_bools(rank: int, world_size: int) -> None:
    del rank, world_size
    col.allreduce(np.ones(3, bool), "dp", col.ReduceOp.AVG)


def reduce_wrongly(rank: int, world_size: int, what: str) -> tuple[Any, bool]:
    """Rank 2 does something else than the others. Returns the error, and if memory is untouched."""
    del world_size
    odd = rank == 2
    results = []
    for in_arena in (False, True):
        array = np.ones(11 if odd and what == "count" else 10, np.float32)
        if odd and what == "dtype":
            array = array.astype(np.int32)
        array = tutti.from_numpy(array) if in_arena else array
        before = array.copy()
        try:
            if odd and what == "kind":
                col.broadcast(array, 0, "dp")
            elif what == "root":
                col.broadcast(array, 1 if odd else 0, "dp")
            else:
                op = col.ReduceOp.MAX if odd and what == "op" else col.ReduceOp.SUM
                col.allreduce(array, "dp", op)
        except tutti.MismatchError as error:
            results.append((error, (array == before).all()))
    assert len(results) == 2, "both fail"
    return results[0][0], results[0][1] and results[1][1]


def fail_while_waiting(rank: int, world_size: int, in_arena: bool) -> tuple[Any, float, bool]:
    """Returns the error, when it came, and if memory is untouched."""
    del rank, world_size
    array = np.ones(1 << 20, np.float32)
    array = tutti.from_numpy(array) if in_arena else array
    try:
        col.allreduce(array, "dp")
    except tutti.CollectiveError as error:
        return error, time.monotonic(), bool((array == 1).all())
    raise AssertionError("it has not failed")


def destroy(rank: int, world_size: int, name: str = "dp") -> None:
    del rank, world_size
    col.destroy_collective_group(name)


def use_two_groups(rank: int, world_size: int) -> None:
    """A thread per group; the second has the ranks the other way round."""
    errors: list[BaseException] = []

    def use(name: str, mine: int) -> None:
        try:
            col.init_collective_group(world_size, mine, group_name=name)
            for n in range(100):
                array = np.full(1000 + n, mine, np.int64)
                col.allreduce(array, name)
                assert (array == sum(range(world_size))).all()
            col.barrier(name)
        except BaseException as error:
            errors.append(error)

    threads = [
        threading.Thread(target=use, args=("up", rank)),
        threading.Thread(target=use, args=("down", world_size - 1 - rank)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    if errors:
        raise errors[0]


def reduce_and_fork(rank: int, world_size: int) -> int:
    """Children come and go while works are in flight. Each fork makes the lane attach again."""
    warnings.simplefilter("ignore", DeprecationWarning)
    statuses = []
    for n in range(30):
        arrays = [np.full(10_000, float(rank)) for _ in range(10)]
        works = [col.allreduce(array, "dp", async_op=True) for array in arrays]
        child = os.fork()
        if child == 0:
            try:
                col.barrier("dp")
            except tutti.ForkedError:
                os._exit(0)
            os._exit(1)
        for work in works:
            work.wait(30)
        for array in arrays:
            assert (array == sum(range(world_size))).all(), n
        statuses.append(os.waitpid(child, 0)[1])
    return sum(statuses)


# --- Tests ---


def test_allreduce_of_numpy_arrays(four: Actors) -> None:
    assert four.all(reduce_everything) == [len(DTYPES) * len(SIZES) * 5 * 4] * 4


def test_allreduce_of_torch_tensors(crew: Actors) -> None:
    if importlib.util.find_spec("torch") is None:
        pytest.skip("PyTorch is not installed")
    # One after the other: four at once take forty seconds to import it on two cores.
    for rank in range(4):
        crew[rank].start(import_torch)
        crew[rank].result()
    crew.all(init, "dp")
    crew.all(reduce_torch)
    crew.all(destroy)


def test_broadcast(four: Actors) -> None:
    four.all(broadcast_everything)


def test_few_elements(four: Actors) -> None:
    four.all(reduce_without_elements)


def test_large_tensors(four: Actors) -> None:
    four.all(reduce_ones, 16 << 20)


def test_async(four: Actors) -> None:
    four.all(reduce_ahead)


def test_barrier_waits_for_all(four: Actors) -> None:
    for rank in range(3):
        four[rank].start(barrier)
    # What the last one does meanwhile is no matter; that it comes last is.
    arrived = time.monotonic()
    four[3].start(barrier)
    assert all(four[rank].result() >= arrived for rank in range(4))


def test_forks_while_works_are_in_flight(four: Actors) -> None:
    assert four.all(reduce_and_fork) == [0] * 4


def test_two_groups_from_two_threads(four: Actors) -> None:
    four.all(use_two_groups)


@pytest.mark.parametrize("what", ["count", "dtype", "kind", "root", "op"])
def test_mismatch_names_both_sides_and_writes_nothing(four: Actors, what: str) -> None:
    for error, untouched in four.all(reduce_wrongly, what):
        assert untouched
        assert error.culprits == (2,)
        assert error.group == "dp"
        assert error.cause is tutti.Cause.MISMATCH
        assert "rank 2" in str(error)
    four.all(reduce_ones)


def test_what_has_no_meaning_is_refused_saying_what_to_do(four: Actors) -> None:
    for error in four.all(error_of, average_of_bools):
        assert isinstance(error, tutti.InvalidError)
        assert "average of bool has no meaning; convert" in str(error)
    four.all(reduce_ones)


def test_a_killed_rank_is_named_within_100_ms(mortals: Actors) -> None:
    mortals.all(reduce_ones)
    for rank in range(3):
        mortals[rank].start(fail_while_waiting, rank == 0)
    killed = time.monotonic()
    mortals[3].kill()
    for rank in range(3):
        error, when, untouched = mortals[rank].result()
        assert isinstance(error, tutti.RankLostError)
        assert error.culprits == (3,)
        assert "rank 3" in str(error)
        assert untouched
        assert when - killed < 0.1
    # The group has failed: the same error from now on, and the name can be taken again.
    for error in mortals.some(range(3), error_of, reduce_ones):
        assert isinstance(error, tutti.RankLostError)
    mortals.some(range(3), destroy)
    mortals.some(range(3), init_fewer, "dp")


def test_the_same_name_again(four: Actors) -> None:
    for _ in range(3):
        four.all(reduce_ones)
        four.all(destroy)
        four.all(init, "dp")
    four.all(reduce_ones)


def test_leaving_fails_the_others_and_names_the_leaver(four: Actors) -> None:
    four[1].start(destroy)
    four[1].result()
    for error in four.some((0, 2, 3), error_of, reduce_ones):
        assert isinstance(error, tutti.GroupClosedError)
        assert error.culprits == (1,)
    four[1].start(init_alone, "other")
    four[1].result()


def test_a_deadline_names_who_is_missing(crew: Actors) -> None:
    crew.all(init, "dp", 1.0)
    for error in crew.some((0, 1, 3), error_of, reduce_ones):
        assert isinstance(error, tutti.DeadlineError)
        assert error.missing == (2,)
        assert "rank 2" in str(error)
    crew.all(destroy)


def test_a_join_names_who_is_missing(daemon: DaemonProcess) -> None:
    del daemon
    with tutti.Client() as client, fails_as(tutti.DeadlineError) as caught:
        client.join("g", 1, 3, timeout=0.1)
    assert caught.value.missing == (0, 2)


def test_a_seat_of_a_living_process_is_taken(daemon: DaemonProcess) -> None:
    del daemon
    with tutti.Client() as one, tutti.Client() as other:
        one.join("g", 0, 1)
        with fails_as(tutti.CollectiveError) as caught:
            other.join("g", 0, 1, timeout=5)
        assert caught.value.cause is tutti.Cause.SEAT_TAKEN


def test_works_submitted_before_leaving_complete(daemon: DaemonProcess) -> None:
    del daemon
    with tutti.Client() as one, tutti.Client() as other:
        groups: list[Any] = [None, None]
        thread = threading.Thread(target=lambda: groups.__setitem__(0, one.join("g", 0, 2)))
        thread.start()
        groups[1] = other.join("g", 1, 2)
        thread.join(10)
        mine = [groups[0].barrier(async_op=True) for _ in range(100)]
        groups[0].leave()
        theirs = [groups[1].barrier(async_op=True) for _ in range(101)]
        for work in [*mine, *theirs[:100]]:
            work.wait(10)
        with fails_as(tutti.GroupClosedError):
            theirs[100].wait(10)


class TestDaemonDies:
    """And comes back."""

    def test_killed_while_ranks_wait(self, daemon: DaemonProcess) -> None:
        client = tutti.Client()
        group = client.join("g", 0, 1)
        group.barrier()
        array = np.ones(10)
        daemon.kill()
        started = time.monotonic()
        with fails_as(tutti.NodeLostError):
            group.allreduce(array)
        with fails_as(tutti.NodeLostError):
            client.join("h", 0, 1)
        assert time.monotonic() - started < 2
        assert (array == 1).all()
        group.leave()
        client.close()

    def test_killed_while_works_are_pending(self, daemon: DaemonProcess) -> None:
        client = tutti.Client()
        works: list[tutti.Work] = []

        def wait() -> None:
            with fails_as(tutti.NodeLostError):
                client.join("g", 0, 2)

        thread = threading.Thread(target=wait)
        thread.start()
        # A group of one whose daemon is stopped: its works stay pending.
        group = client.join("single", 0, 1)
        daemon.send_signal(signal.SIGSTOP)
        works.extend(group.barrier(async_op=True) for _ in range(10))
        killed = time.monotonic()
        daemon.kill()
        for work in works:
            with fails_as(tutti.NodeLostError):
                work.wait(10)
        assert time.monotonic() - killed < 1
        thread.join(10)
        assert not thread.is_alive()

    @pytest.mark.parametrize("daemon", [("--drain_timeout_ms=300ms",)], indirect=True)
    def test_drained_while_a_rank_waits(self, daemon: DaemonProcess) -> None:
        client = tutti.Client()
        groups: list[Any] = [None, None]
        threads = [
            threading.Thread(target=lambda: groups.__setitem__(0, client.join("g", 0, 2))),
            threading.Thread(target=lambda: groups.__setitem__(1, client.join("g", 1, 2))),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        work = groups[0].barrier(async_op=True)
        assert daemon.terminate() == 0
        with fails_as(tutti.NodeLostError) as caught:
            work.wait(10)
        assert caught.value.cause is tutti.Cause.DRAINING
        with fails_as(tutti.NodeLostError):
            groups[1].barrier()

    def test_default_client_after_a_restart(self, daemon: DaemonProcess) -> None:
        col.init_collective_group(1, 0, group_name="g")
        array = tutti.zeros(10)
        daemon.kill()
        with fails_as(tutti.NodeLostError):
            col.allreduce(array, "g")
        with DaemonProcess(socket_dir=daemon.socket_dir):
            col.init_collective_group(1, 0, group_name="g")
            col.allreduce(array, "g")
            col.destroy_collective_group("g")


class TestLimits:
    """What the daemon's settings bound."""

    @pytest.mark.parametrize("daemon", [("--works_in_flight_max=4",)], indirect=True)
    def test_many_works_wait_their_turn(self, daemon: DaemonProcess) -> None:
        del daemon
        with tutti.Client() as client:
            group = client.join("g", 0, 1)
            for work in [group.barrier(async_op=True) for _ in range(500)]:
                work.wait(10)

    @pytest.mark.parametrize("daemon", [("--arena_bytes_max=16MiB",)], indirect=True)
    def test_arenas(self, daemon: DaemonProcess) -> None:
        del daemon
        with tutti.Client() as client:
            group = client.join("g", 0, 1)
            with fails_as(tutti.LimitError) as caught:
                group.allreduce(np.zeros(20 << 20, np.float32))
            assert "arena_bytes" in str(caught.value)
            group.allreduce(np.zeros(1 << 20, np.float32))
            client.zeros(12 << 20, np.uint8)
            # What is not in use makes room.
            group.allreduce(client.zeros(14 << 20, np.uint8).view(np.float32))


def test_nothing_is_left_in_the_daemon(daemon: DaemonProcess) -> None:
    def descriptors() -> int:
        return len(os.listdir(f"/proc/{daemon.pid}/fd"))

    def cycle() -> None:
        with tutti.Client() as client:
            client.join("g", 0, 1).allreduce(client.zeros(1000))

    for _ in range(5):
        cycle()
    before = descriptors()
    for _ in range(20):
        cycle()
    deadline = time.monotonic() + 10
    while descriptors() > before and time.monotonic() < deadline:
        cycle()
    assert descriptors() <= before
