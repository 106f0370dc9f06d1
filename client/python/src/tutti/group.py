"""`Group`: one rank's seat in one epoch of a group, and the operations on it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from tutti import _fork, _wire
from tutti.errors import GroupClosedError
from tutti.ops import ReduceOp, to_int, to_milliseconds, to_reduce_op
from tutti.tensors import Bound, bind
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

    Thread-safe. Threads that use one group must agree on an order themselves, as ranks do.
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
        self._name = name
        self._rank = rank
        self._world_size = world_size
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
        return self._rank

    @property
    def world_size(self) -> int:
        """How many ranks there are."""
        return self._world_size

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
        reduce_op: Any = to_reduce_op(op).value
        bound = self._bind(tensor, read=True, write=True)
        message = _wire.client.Work(
            kind=_wire.types.COLLECTIVE_KIND_ALLREDUCE,
            dtype=bound.dtype,
            op=reduce_op,
            inputs=[bound.span],
            outputs=[bound.span],
        )
        return self._submit("allreduce", message, bound, async_op, timeout)

    def broadcast(
        self,
        tensor: Any,
        src_rank: int = 0,
        *,
        async_op: bool = False,
        timeout: float | None = None,
    ) -> Work:
        """Replaces `tensor` on every other rank by that of `src_rank`, whose own is only read."""
        root = to_int(src_rank, "src_rank", 0, self._world_size)
        is_root = root == self._rank
        bound = self._bind(tensor, read=is_root, write=not is_root)
        message = _wire.client.Work(
            kind=_wire.types.COLLECTIVE_KIND_BROADCAST,
            dtype=bound.dtype,
            root=root,
            inputs=[bound.span] if is_root else [],
            outputs=[] if is_root else [bound.span],
        )
        return self._submit("broadcast", message, bound, async_op, timeout)

    def barrier(self, *, async_op: bool = False, timeout: float | None = None) -> Work:
        """Completes when every rank has called it."""
        message = _wire.client.Work(kind=_wire.types.COLLECTIVE_KIND_BARRIER)
        return self._submit("barrier", message, None, async_op, timeout)

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
            f"rank {self._rank} of {self._world_size}{state}>"
        )

    def _bind(self, tensor: Any, *, read: bool, write: bool) -> Bound:
        self._check()
        return bind(tensor, self._client._pool, read=read, write=write)

    def _check(self) -> None:
        _fork.check()
        if self._left:
            raise GroupClosedError(
                f"this process has left group {self._name!r} (epoch {self._epoch})",
                group=self._name,
                epoch=self._epoch,
                culprits=[self._rank],
            )

    def _submit(
        self,
        kind: str,
        message: _wire.client.Work,
        bound: Bound | None,
        async_op: bool,
        timeout: float | None,
    ) -> Work:
        lane, work = self._client._lane, None
        try:
            self._check()
            message.timeout_ms = to_milliseconds(timeout)
            message.membership = self._membership
            known_s = self._work_timeout_s if timeout is None else float(timeout)
            work = Work(f"{kind} of group {self._name!r}", self, bound, known_s)
            lane.submit(message, work, work.patience_s)
        except BaseException:
            # Ctrl-C may come when the work is under way: then its end gives the memory back.
            if bound is not None and (work is None or not lane.has_taken(work)):
                bound.finish(False)
            raise
        if not async_op:
            work.wait()
        return work
