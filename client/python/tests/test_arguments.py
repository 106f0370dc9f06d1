"""What operations refuse: on the spot, without a message to the daemon, saying what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fake_daemon import FakeDaemon
from ranks import in_threads

import tutti
from tutti.errors import ArgumentError

# They are checked before there is a lane.
pytestmark = [
    pytest.mark.usefixtures("lane"),
    pytest.mark.parametrize("lane", ["ring"], indirect=True),
]

ROW = np.zeros((2, 3))
ROWS = [np.zeros((2, 3)) for _ in range(3)]
INTS = [np.zeros((2, 3), int) for _ in range(3)]
WRONG: Any = object()


def flat(*lengths: int) -> list[Any]:
    return [np.zeros(length) for length in lengths]


@pytest.fixture
def group(client: tutti.Client) -> tutti.Group:
    """Rank 1 of three."""
    return in_threads(3, lambda rank: client.join("three", rank, 3))[1]


Case = tuple[type[Exception], str, Callable[[tutti.Group], Any]]
CASES: list[Case] = [
    # Lists.
    (ArgumentError, "has 2 tensors, and the group 3 ranks", lambda g: g.allgather(ROWS[:2], ROW)),
    (ArgumentError, "one for each rank", lambda g: g.reducescatter(ROW, [*ROWS, ROW])),
    (ArgumentError, "gather_list has 0 tensors", lambda g: g.gather(ROW, [], 1)),
    (ArgumentError, "scatter_list has 1 tensors", lambda g: g.scatter(ROW, [ROW], 1)),
    (ArgumentError, "output_list has 1", lambda g: g.alltoall([ROW], ROWS)),
    (ArgumentError, "input_list has 4", lambda g: g.alltoall(ROWS, [*ROWS, ROW])),
    (TypeError, "tensor_list is a NoneType; pass a list", lambda g: g.allgather(None, ROW)),
    (TypeError, "tensor_list is a str", lambda g: g.allgather("abc", ROW)),
    (TypeError, "tensor_list is a generator", lambda g: g.allgather((r for r in ROWS), ROW)),
    (TypeError, r"tensor_list\[1\] is a list", lambda g: g.allgather([ROW, [1], ROW], ROW)),
    (TypeError, r"tensor_list\[0\] is a float", lambda g: g.allgather([1.0] * 3, ROW)),
    (TypeError, "tensors must be a list", lambda g: g.allreduce_coalesced(ROW)),
    (TypeError, "tensors must be a list", lambda g: g.allreduce_coalesced(None)),
    (ValueError, "has 0", lambda g: g.allreduce_coalesced([])),
    (ValueError, "1025; split the list", lambda g: g.allreduce_coalesced(flat(*[1] * 1025))),
    # Lists that are for the root only.
    (ArgumentError, "gather_list is None, and this rank, 1, is", lambda g: g.gather(ROW, None, 1)),
    (ArgumentError, "scatter_list is None", lambda g: g.scatter(ROW, None, 1)),
    (ArgumentError, "None at this rank, 1: only dst_rank, 0, has", lambda g: g.gather(ROW, ROWS)),
    (ArgumentError, "must be None .* only src_rank, 2", lambda g: g.scatter(ROW, ROWS, 2)),
    (ArgumentError, "must be None", lambda g: g.scatter(ROW, np.zeros((3, 2, 3)), 2)),
    # Shapes.
    (ArgumentError, r"tensor_list\[2\] has shape \(5,\) and tensor \(2, 3\)", lambda g: g.allgather(
        [*ROWS[:2], np.zeros(5)], ROW)),
    (ArgumentError, "they must be the same", lambda g: g.allgather(flat(6, 6, 6), ROW)),
    (ArgumentError, r"must have \(3, 2, 3\)", lambda g: g.allgather(np.zeros((2, 2, 3)), ROW)),
    (ArgumentError, r"must have \(3, 2, 3\)", lambda g: g.reducescatter(ROW, np.zeros(18))),
    (ArgumentError, r"must have \(3,\)", lambda g: g.allgather(np.zeros((3, 1)), np.array(1.0))),
    (ArgumentError, r"scatter_list\[0\] has shape \(1,\)", lambda g: g.scatter(
        np.array(1.0), flat(1, 1, 1), 1)),
    (ArgumentError, "first dimension must be the world size, 3", lambda g: g.alltoall(
        np.zeros((2, 3)), ROWS)),
    (ArgumentError, "first dimension must be", lambda g: g.alltoall(ROWS, np.array(1.0))),
    (ArgumentError, r"gives itself 2 elements \(input_list\[1\]\), and takes 5",
     lambda g: g.alltoall(flat(1, 5, 1), flat(1, 2, 1))),
    # Dtypes.
    (ArgumentError, r"tensor_list\[0\] is of int64 and tensor of float64", lambda g: g.allgather(
        INTS, ROW)),
    (ArgumentError, r"tensor_list\[2\] is of int64", lambda g: g.reducescatter(
        ROW, [*ROWS[:2], INTS[0]])),
    (ArgumentError, "one dtype", lambda g: g.alltoall(ROWS, INTS)),
    (ArgumentError, "one dtype", lambda g: g.alltoall([*INTS[:2], ROW], INTS)),
    (ArgumentError, "one dtype", lambda g: g.alltoall_single(np.zeros(3), np.zeros(3, int))),
    (ArgumentError, "float64 and int64; .* once for each", lambda g: g.allreduce_coalesced(
        [ROW, INTS[0], ROW])),
    # Splits.
    (ArgumentError, "output has 4 rows, which can't be shared equally .* pass output_split_sizes",
     lambda g: g.alltoall_single(*flat(4, 3))),
    (ArgumentError, "pass input_split_sizes", lambda g: g.alltoall_single(*flat(3, 4))),
    (ArgumentError, "input_split_sizes adds up to 3, and input has 4", lambda g: g.alltoall_single(
        *flat(3, 4), None, [1, 1, 1])),
    (ArgumentError, "output_split_sizes has 2 sizes", lambda g: g.alltoall_single(
        *flat(3, 3), [1, 2])),
    (ValueError, r"output_split_sizes\[1\] must be at least 0", lambda g: g.alltoall_single(
        *flat(3, 3), [4, -1, 0])),
    (TypeError, r"input_split_sizes\[0\] must be an integer", lambda g: g.alltoall_single(
        *flat(3, 3), None, [1.0, 1, 1])),
    (TypeError, "pass a list of one int per rank", lambda g: g.alltoall_single(*flat(3, 3), WRONG)),
    (ArgumentError, "gives itself 0 rows and takes 1", lambda g: g.alltoall_single(
        *flat(3, 3), None, [3, 0, 0])),
    (ArgumentError, "may differ in the first dimension only", lambda g: g.alltoall_single(
        np.zeros((3, 2)), np.zeros((3, 3)))),
    (ArgumentError, "has no dimensions", lambda g: g.alltoall_single(np.array(1.0), ROW)),
    # Ranks.
    (ValueError, "dst_rank must be at least 0 and less than 3", lambda g: g.reduce(ROW, 3)),
    (ValueError, "src_rank", lambda g: g.broadcast(ROW, -1)),
    (TypeError, "dst_rank must be an integer", lambda g: g.gather(ROW, ROWS, "1")),
    (ValueError, "src_rank", lambda g: g.scatter(ROW, ROWS, 7)),
    (ValueError, "dst_rank", lambda g: g.send(ROW, 3)),
    (TypeError, "src_rank", lambda g: g.recv(ROW, 1.0)),
    (ArgumentError, "dst_rank is 1, this rank itself", lambda g: g.send(ROW, 1)),
    (ArgumentError, "src_rank is 1, this rank itself", lambda g: g.recv(ROW, np.int64(1))),
    # Outputs.
    (ValueError, r"tensor_list\[0\] and tensor_list\[1\] overlap", lambda g: g.allgather(
        [ROW] * 3, ROW)),
    (ValueError, r"tensors\[0\] and tensors\[1\] overlap", lambda g: g.allreduce_coalesced(
        [ROW, ROW])),
    (ValueError, "share memory", lambda g: g.recv(np.broadcast_to(np.zeros(3), (2, 3)), 0)),
    # The rest.
    (TypeError, "op must be", lambda g: g.reduce(ROW, 0, WRONG)),
    (TypeError, "op must be", lambda g: g.reducescatter(ROW, ROWS, "SUM")),
    (TypeError, "op must be", lambda g: g.allreduce_coalesced([ROW], None)),
    (TypeError, r"pass bool\(flag\)", lambda g: g.agree(1)),
    (TypeError, "flag", lambda g: g.agree(np.zeros(1, bool))),
    (ValueError, "timeout", lambda g: g.agree(True, timeout=0)),
    (ValueError, "timeout", lambda g: g.allgather(ROWS, ROW, timeout=-1)),
    (TypeError, "timeout", lambda g: g.send(ROW, 0, timeout="1")),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(CASES)))
def test_nothing_is_sent(group: tutti.Group, daemon: FakeDaemon, number: int) -> None:
    error, text, call = CASES[number]
    with pytest.raises(error, match=text):
        call(group)
    # What is sent is sent in order, so there is nothing on the way either.
    group.client.join("single", 0, 1).barrier()
    assert len(daemon.works) == 1
    assert group.client._pool.size_bytes in (0, 4 << 20)


def test_rays_runtime_errors_are_runtime_errors() -> None:
    assert issubclass(ArgumentError, RuntimeError)
    assert issubclass(ArgumentError, ValueError)
    assert not issubclass(ArgumentError, tutti.CollectiveError)


def test_arguments_are_checked_in_collective_too(daemon: FakeDaemon) -> None:
    del daemon
    for name in ("gather", "scatter"):
        with pytest.raises(tutti.GroupClosedError, match="init_collective_group"):
            getattr(tutti.collective, name)(ROW)


def test_a_group_that_was_left_takes_nothing(group: tutti.Group) -> None:
    group.leave()
    with pytest.raises(tutti.GroupClosedError, match="has left"):
        group.allgather(ROWS, ROW)
    with pytest.raises(tutti.GroupClosedError, match="has left"):
        group.agree(True)
