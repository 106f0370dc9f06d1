"""tutti.collective: Ray's names and semantics."""

from __future__ import annotations

import inspect
import logging
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from fake_daemon import FakeDaemon, wait_until
from ranks import in_threads

import tutti
from tutti import _default
from tutti import collective as col


@pytest.fixture(autouse=True)
def clean(daemon: FakeDaemon) -> Iterator[None]:
    del daemon
    yield
    col._groups.clear()
    if _default._client is not None:
        _default._client.close()
    _default._client = None


def test_signatures_begin_as_rays_do() -> None:
    ray = pytest.importorskip("ray.util.collective", reason="Ray is not installed")
    for name in (
        "allreduce",
        "reduce",
        "broadcast",
        "allgather",
        "reducescatter",
        "send",
        "recv",
        "barrier",
        "destroy_collective_group",
        "is_group_initialized",
        "get_rank",
        "get_collective_group_size",
    ):
        theirs = inspect.signature(getattr(ray, name)).parameters
        ours = inspect.signature(getattr(col, name)).parameters
        assert list(ours)[: len(theirs)] == list(theirs), name
        for parameter in set(theirs) - {"op"}:
            default = theirs[parameter].default
            assert default in (ours[parameter].default, inspect.Parameter.empty), name
    ours = list(inspect.signature(col.init_collective_group).parameters)
    assert ours == ["world_size", "rank", "backend", "group_name", "timeout"]


@pytest.mark.parametrize(
    "signature",
    [
        "allreduce(tensor, group_name, op)",
        "allreduce_coalesced(tensors, group_name, op)",
        "reduce(tensor, dst_rank, group_name, op)",
        "broadcast(tensor, src_rank, group_name)",
        "allgather(tensor_list, tensor, group_name)",
        "reducescatter(tensor, tensor_list, group_name, op)",
        "gather(tensor, gather_list, dst_rank, group_name)",
        "scatter(tensor, scatter_list, src_rank, group_name)",
        "alltoall(output_list, input_list, group_name)",
        "alltoall_single(output, input, output_split_sizes, input_split_sizes, group_name)",
        "send(tensor, dst_rank, group_name)",
        "recv(tensor, src_rank, group_name)",
        "barrier(group_name)",
    ],
)
def test_signatures(signature: str) -> None:
    """Those of the design; and the group's methods have the same, but for the name."""
    name, _, arguments = signature.rstrip(")").partition("(")
    wanted = arguments.split(", ")
    ours = inspect.signature(getattr(col, name)).parameters
    assert list(ours) == [*wanted, "async_op", "timeout"]
    assert (ours["group_name"].default, ours["async_op"].default) == ("default", False)
    methods = inspect.signature(getattr(tutti.Group, name)).parameters
    assert list(methods)[1:] == [each for each in ours if each != "group_name"]
    for parameter in list(methods)[1:]:
        assert methods[parameter].default == ours[parameter].default
    assert set(col.__all__) >= {name, "agree"}


def test_every_operation() -> None:
    def body(rank: int) -> None:
        with tutti.Client() as client:
            col._groups[f"rank {rank}"] = client.start_join("g", rank, 2)
            name = f"rank {rank}"
            array, rows = np.full(3, rank + 1.0), np.zeros((2, 3))
            col.allreduce(array, name, col.ReduceOp.MAX)
            col.allreduce_coalesced([array, rows[0]], name, col.ReduceOp.PRODUCT)
            assert (array == 4).all()
            col.reduce(array, 1, name, col.ReduceOp.SUM)
            assert (array == (8 if rank else 4)).all()
            col.broadcast(array, 1, name)
            col.allgather(rows, array, name)
            assert (rows == 8).all()
            col.reducescatter(array, list(rows), name, col.ReduceOp.AVG)
            assert (array == 8).all()
            col.gather(array, rows if rank else None, 1, name)
            col.scatter(array, None if rank else [array * 0, array * 2], 0, name)
            assert (array == 16 * rank).all()
            col.alltoall(list(rows), [array, array + 1], name)
            assert (rows == [[rank], [16 + rank]]).all()
            col.alltoall_single(rows, rows.copy(), [1, 1], None, name)
            assert (rows == [[16 * rank], [16 * rank + 1]]).all()
            work = col.send(array, 1 - rank, name, async_op=True)
            col.recv(rows[0], 1 - rank, name, timeout=5)
            work.wait(10)
            assert (rows[0] == 16 - 16 * rank).all()
            col.barrier(name)
            assert col.agree(rank == 0, name) is False
            assert col.agree(True, name, timeout=5) is True

    in_threads(2, body)


def test_life_of_a_group() -> None:
    assert not col.is_group_initialized("dp")
    assert col.get_rank("dp") == -1
    assert col.get_collective_group_size("dp") == -1
    col.init_collective_group(1, 0, group_name="dp")
    assert col.is_group_initialized("dp")
    assert (col.get_rank("dp"), col.get_collective_group_size("dp")) == (0, 1)
    assert col.get_rank() == -1
    array = np.full(3, 2.0)
    assert col.allreduce(array, "dp", col.ReduceOp.SUM).done()
    col.broadcast(array, 0, "dp")
    col.barrier("dp")
    work = col.allreduce(array, "dp", async_op=True)
    work.wait(10)
    col.destroy_collective_group("dp")
    assert not col.is_group_initialized("dp")
    with pytest.raises(RuntimeError, match="init_collective_group"):
        col.allreduce(array, "dp")
    col.init_collective_group(1, 0, group_name="dp")
    col.allreduce(array, "dp")


def test_twice_is_an_error() -> None:
    col.init_collective_group(1, 0)
    with pytest.raises(RuntimeError, match="already initialized"):
        col.init_collective_group(1, 0)


def test_destroying_nothing_only_warns(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "tutti"):
        col.destroy_collective_group("none")
    assert "none" in caplog.text


def test_arguments() -> None:
    for world_size, rank in ((1, 1), (0, 0), (2, -1)):
        with pytest.raises(ValueError, match="at least"):
            col.init_collective_group(world_size, rank)
    with pytest.raises(ValueError, match="256 bytes"):
        col.init_collective_group(1, 0, group_name="")
    assert not col._groups


def test_a_failed_init_can_be_tried_again() -> None:
    with pytest.raises(tutti.DeadlineError):
        col.init_collective_group(2, 0, timeout=0.05)
    assert not col.is_group_initialized()
    col.init_collective_group(1, 0)


def test_other_groups_go_on_while_one_is_forming(daemon: FakeDaemon) -> None:
    waiting = threading.Thread(target=col.init_collective_group, args=(2, 0, "auto", "slow"))
    waiting.start()
    daemon.wait_for(lambda: ("default", "slow") in daemon.groups)
    with pytest.raises(RuntimeError, match="already"):
        col.init_collective_group(2, 1, group_name="slow")
    assert not col.is_group_initialized("slow")
    col.init_collective_group(1, 0, group_name="quick")
    col.barrier("quick")
    with tutti.Client() as other:
        group = other.join("slow", 1, 2)
        waiting.join(10)
        assert col.is_group_initialized("slow")
        group.leave()


def test_two_threads_make_one_client(daemon: FakeDaemon) -> None:
    in_threads(4, lambda n: col.init_collective_group(1, 0, group_name=f"g{n}"))
    assert len(daemon.sessions) == 1


def test_after_the_daemon_restarted(daemon: FakeDaemon) -> None:
    col.init_collective_group(1, 0)
    kept = tutti.zeros(5)
    client = _default._client
    assert client is not None
    daemon.stop()
    wait_until(lambda: client.lost is not None)
    assert not col.is_group_initialized()
    assert col.get_rank() == -1
    with pytest.raises(tutti.NodeLostError):
        col.barrier()
    with pytest.raises(tutti.NodeLostError, match="no Tutti daemon"):
        col.init_collective_group(1, 0)
    again = FakeDaemon(daemon.socket_dir)
    col.init_collective_group(1, 0)
    kept += 1
    col.allreduce(kept)
    assert (kept == 1).all()
    again.stop()


def test_arrays_of_the_default_client() -> None:
    col.init_collective_group(1, 0)
    for array in (tutti.zeros((2, 2)), tutti.empty(4, np.int32), tutti.from_numpy(np.ones(3))):
        col.allreduce(array)
