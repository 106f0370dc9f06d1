"""`Group`: one rank's seat in one epoch of a group, and the operations on it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tutti import _fork, _wire, operations
from tutti._lane import Request
from tutti.binding import Bound, bind
from tutti.errors import GroupClosedError
from tutti.operations import Operation, Seat
from tutti.ops import ReduceOp, to_milliseconds
from tutti.work import Work

if TYPE_CHECKING:
    from types import TracebackType

    from tutti.client import Client

__all__ = ["Group"]


class Group:
    """A seat in a group, made by `Client.join`. As a context manager it leaves at the end.

    All ranks call the same operations in the same order. Each works in place, and returns a `Work`
    that has succeeded already or, with `async_op`, is still to be waited for. `timeout` is the
    operation's deadline in seconds from its submission (None: the group's). Errors are
    `CollectiveError`s; bad arguments are TypeError and ValueError, raised before anything is sent.

    Tensors are NumPy arrays and PyTorch tensors on the CPU of any shape and strides, of one dtype
    per operation. A list has one tensor per rank, in rank order; it may mix the two, and is never
    changed itself. One tensor may be given in its place, whose first dimension is the world size:
    its rows are the list. A tensor may be an input and an output at once: inputs are read first.
    Outputs must not overlap.

    Thread-safe. Threads that use one group must agree on an order themselves, as ranks do; only
    sends and receives of different pairs of ranks need none.
    """

    def __init__(
        self,
        client: Client,
        name: str,
        rank: int,
        world_size: int,
        joined: _wire.client.JoinGroupResponse,
    ) -> None:
        """Made by Client."""
        self._client = client
        self._lane, self._pool = client._lane, client._pool
        self._name = name
        self._seat = Seat(rank, world_size)
        self._membership: int = joined.membership
        self._epoch: int = joined.epoch
        # Zero: an older daemon, which doesn't tell.
        self._work_timeout_s = joined.work_timeout_ms / 1000 or None
        self._lock = threading.Lock()
        self._left = False

    @property
    def name(self) -> str:
        """The name it was joined by."""
        return self._name

    @property
    def rank(self) -> int:
        """This process's seat, 0 to world_size - 1."""
        return self._seat.rank

    @property
    def world_size(self) -> int:
        """How many ranks there are."""
        return self._seat.world_size

    @property
    def epoch(self) -> int:
        """Counts the formations under this name, from 1."""
        return self._epoch

    @property
    def client(self) -> Client:
        """Through which it was joined."""
        return self._client

    def allreduce(
        self,
        tensor: Any,
        op: ReduceOp = ReduceOp.SUM,
        *,
        async_op: bool = False,
        timeout: float | None = None,
    ) -> Work:
        """Replaces `tensor` on every rank by the reduction over all ranks; same bits everywhere."""
        return self._run(operations.allreduce(tensor, op), async_op, timeout)

    def allreduce_coalesced(
        self,
        tensors: Sequence[Any],
        op: ReduceOp = ReduceOp.SUM,
        *,
        async_op: bool = False,
        timeout: float | None = None,
    ) -> Work:
        """`allreduce` of each of `tensors`, as one operation: all have succeeded, or none.

        1 to 1024 tensors of any shapes and of one dtype, the same ones on every rank.
        """
        return self._run(operations.allreduce_coalesced(tensors, op), async_op, timeout)

    def reduce(
        self,
        tensor: Any,
        dst_rank: int = 0,
        op: ReduceOp = ReduceOp.SUM,
        *,
        async_op: bool = False,
        timeout: float | None = None,
    ) -> Work:
        """Replaces `tensor` on `dst_rank` by the reduction over all ranks; others' is only read."""
        return self._run(operations.reduce(self._seat, tensor, dst_rank, op), async_op, timeout)

    def broadcast(
        self,
        tensor: Any,
        src_rank: int = 0,
        *,
        async_op: bool = False,
        timeout: float | None = None,
    ) -> Work:
        """Replaces `tensor` on every other rank by that of `src_rank`, whose own is only read."""
        return self._run(operations.broadcast(self._seat, tensor, src_rank), async_op, timeout)

    def allgather(
        self,
        tensor_list: Sequence[Any] | Any,
        tensor: Any,
        *,
        async_op: bool = False,
        timeout: float | None = None,
    ) -> Work:
        """Writes the `tensor` of each rank into every rank's `tensor_list`; shapes are alike."""
        return self._run(operations.allgather(self._seat, tensor_list, tensor), async_op, timeout)

    def gather(
        self,
        tensor: Any,
        gather_list: Sequence[Any] | Any | None = None,
        dst_rank: int = 0,
        *,
        async_op: bool = False,
        timeout: float | None = None,
    ) -> Work:
        """Writes the `tensor` of each rank into the `gather_list` of `dst_rank`; None elsewhere."""
        operation = operations.gather(self._seat, tensor, gather_list, dst_rank)
        return self._run(operation, async_op, timeout)

    def scatter(
        self,
        tensor: Any,
        scatter_list: Sequence[Any] | Any | None = None,
        src_rank: int = 0,
        *,
        async_op: bool = False,
        timeout: float | None = None,
    ) -> Work:
        """Writes each rank's part of the `scatter_list` of `src_rank` into its `tensor`.

        `scatter_list` is None elsewhere. Shapes are all alike.
        """
        operation = operations.scatter(self._seat, tensor, scatter_list, src_rank)
        return self._run(operation, async_op, timeout)

    def reducescatter(
        self,
        tensor: Any,
        tensor_list: Sequence[Any] | Any,
        op: ReduceOp = ReduceOp.SUM,
        *,
        async_op: bool = False,
        timeout: float | None = None,
    ) -> Work:
        """Writes into `tensor` the reduction over all ranks of their `tensor_list[rank]`.

        The lists are only read. Shapes are all alike.
        """
        operation = operations.reducescatter(self._seat, tensor, tensor_list, op)
        return self._run(operation, async_op, timeout)

    def alltoall(
        self,
        output_list: Sequence[Any] | Any,
        input_list: Sequence[Any] | Any,
        *,
        async_op: bool = False,
        timeout: float | None = None,
    ) -> Work:
        """Writes `input_list[b]` of each rank a into `output_list[a]` of rank b.

        These two must have as many elements; otherwise any shapes will do.
        """
        operation = operations.alltoall(self._seat, output_list, input_list)
        return self._run(operation, async_op, timeout)

    def alltoall_single(
        self,
        output: Any,
        input: Any,
        output_split_sizes: Sequence[int] | None = None,
        input_split_sizes: Sequence[int] | None = None,
        *,
        async_op: bool = False,
        timeout: float | None = None,
    ) -> Work:
        """`alltoall` of pieces of one tensor, cut along the first dimension.

        Rank r is given `input_split_sizes[r]` rows of `input`, in rank order, and its rows come to
        be `output_split_sizes[r]` rows of `output`. None: as many for each. In other dimensions the
        two are alike.
        """
        operation = operations.alltoall_single(
            self._seat, output, input, output_split_sizes, input_split_sizes
        )
        return self._run(operation, async_op, timeout)

    def send(
        self,
        tensor: Any,
        dst_rank: int,
        *,
        async_op: bool = False,
        timeout: float | None = None,
    ) -> Work:
        """Gives `tensor` to `dst_rank`, another rank, whose `recv`s from this one take it in order.

        The work completes once that rank has it or, up to 64 KiB, once it has been copied.
        """
        return self._run(operations.send(self._seat, tensor, dst_rank), async_op, timeout)

    def recv(
        self,
        tensor: Any,
        src_rank: int,
        *,
        async_op: bool = False,
        timeout: float | None = None,
    ) -> Work:
        """Replaces `tensor` by what `src_rank`, another rank, gives this one, in order.

        Both have as many elements, of one dtype. A deadline that passes withdraws a `recv` for
        which there is no `send`; the group goes on.
        """
        return self._run(operations.recv(self._seat, tensor, src_rank), async_op, timeout)

    def barrier(self, *, async_op: bool = False, timeout: float | None = None) -> Work:
        """Completes when every rank has called it."""
        return self._run(operations.barrier(), async_op, timeout)

    def agree(self, flag: bool, *, timeout: float | None = None) -> bool:
        """Returns on every rank, when every rank has called it, whether all gave True."""
        if not isinstance(flag, (bool, np.bool_)):
            raise TypeError(f"flag must be a bool, not {flag!r}; pass bool(flag)")
        value = np.array([flag])
        self._run(operations.agree(value), False, timeout)
        return bool(value[0])

    def leave(self) -> None:
        """Gives the seat back. Waits for no other rank; idempotent; never fails.

        Works that this rank has submitted still complete. Later works of other ranks fail, naming
        this one. The same name can be joined again at once.
        """
        _fork.check()
        with self._lock:
            if self._left:
                return
            self._left = True
        self._client._leave(self._membership)

    def __enter__(self) -> Group:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.leave()

    def __repr__(self) -> str:
        state = ", left" if self._left else ""
        return (
            f"<Group {self._name!r} epoch {self._epoch}: "
            f"rank {self.rank} of {self.world_size}{state}>"
        )

    def _check(self) -> None:
        _fork.check()
        if self._left:
            raise GroupClosedError(
                f"this process has left group {self._name!r} (epoch {self._epoch})",
                group=self._name,
                epoch=self._epoch,
                culprits=[self.rank],
            )

    def _run(self, operation: Operation, async_op: bool, timeout: float | None) -> Work:
        self._check()
        self._lane.poll()  # ends works that nobody waits for, and gives their memory back
        bound = bind(operation.inputs, operation.outputs, self._pool, self._seat.rank)
        work = self._submit(operation, bound, timeout)
        if not async_op:
            work.wait()
        return work

    def _submit(self, operation: Operation, bound: Bound, timeout: float | None) -> Work:
        lane, work = self._lane, None
        try:
            request: Request = (
                self._membership,
                operation.kind,
                operation.dtype,
                operation.op,
                operation.root,
                to_milliseconds(timeout),
                bound,
            )
            known_s = self._work_timeout_s if timeout is None else float(timeout)
            work = Work((operation.label, self._name), self, lane, bound, known_s)
            lane.submit(request, work, work.patience_s)
        except BaseException:
            # Ctrl-C may come when the work is under way: then its end gives the memory back.
            if work is None or not (lane.has_taken(work) or work._is_ending):
                bound.finish(False)
            raise
        return work
