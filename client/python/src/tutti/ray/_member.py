"""The actor's side of groups that the driver has declared. Everything here is called by Ray."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

import ray

from tutti import _default
from tutti.errors import (
    ArgumentError,
    CollectiveError,
    DeadlineError,
    GroupClosedError,
    InvalidError,
    LimitError,
)
from tutti.group import Group
from tutti.ops import ReduceOp
from tutti.ray import _headers, _node
from tutti.ray._buffers import Buffer, Kept, check, is_kept, is_list
from tutti.ray._headers import Header, own

# How long an operation waits for those that were stated before it, if they are on other threads.
_TURN_TIMEOUT_S = 300.0


class Member:
    """This actor's seat in one group. Operations take place one after another, as they are stated;
    an actor with several threads may start them in another order.
    """

    def __init__(self, group: Group) -> None:
        self.group = group
        self._turn = threading.Condition()
        self._next = 1

    def run(self, number: int, verb: str, refs: list[Any], parameters: dict[str, Any]) -> Any:
        """The operation `number` of the group. Returns what this rank gets."""
        with self._turn:
            if not self._turn.wait_for(lambda: self._next == number, _TURN_TIMEOUT_S):
                raise DeadlineError(
                    f"operation {number} of group {self.group.name!r} waits for operation "
                    f"{self._next}, which has not come",
                    group=self.group.name,
                )
            try:
                return self._run(verb, refs, parameters)
            finally:
                self._next = number + 1
                self._turn.notify_all()

    def _run(self, verb: str, refs: list[Any], parameters: dict[str, Any]) -> Any:
        try:
            value = _fetch(refs[0]) if refs else None
            _check_form(verb, value, self.group.world_size)
        except BaseException as error:
            # The others must not wait for us. They are told; who called us gets the error itself.
            with contextlib.suppress(CollectiveError):
                _VERBS[verb](self.group, None, _headers.failure(error), **parameters)
            raise
        try:
            result = _VERBS[verb](self.group, value, Header.of(value), **parameters)
        except BaseException as error:
            if not isinstance(error, CollectiveError) or isinstance(error, LimitError):
                self.group.leave()  # or the others would wait for what we have not submitted
            raise
        return None if result is None else Kept(result)


# --- The operations: of a group, what this rank has, and the header that says so ---


def _allreduce(group: Group, value: Any, mine: Header, op: ReduceOp) -> Any:
    _headers.exchange(group, mine)
    if is_list(value):
        group.allreduce_coalesced(value, op)
    else:
        group.allreduce(value, op)
    return value


def _reduce(group: Group, value: Any, mine: Header, dst_rank: int, op: ReduceOp) -> Any:
    _headers.exchange(group, mine)
    group.reduce(value, dst_rank, op)
    return value


def _broadcast(group: Group, value: Any, mine: Header, src_rank: int) -> Any:
    headers = _headers.exchange(group, mine)
    if value is None:
        value = headers[src_rank].empty()
    group.broadcast(value, src_rank)
    return value


def _allgather(group: Group, value: Any, mine: Header) -> Any:
    rows = None if mine.error else mine.empty(group.world_size)
    _headers.exchange(group, mine)
    group.allgather(rows, value)
    return rows


def _gather(group: Group, value: Any, mine: Header, dst_rank: int) -> Any:
    _headers.exchange(group, mine)
    rows = mine.empty(group.world_size) if group.rank == dst_rank else None
    group.gather(value, rows, dst_rank)
    return rows


def _scatter(group: Group, value: Any, mine: Header, src_rank: int) -> Any:
    tensor = _headers.exchange(group, _part(value, mine))[src_rank].empty()
    group.scatter(tensor, value, src_rank)
    return tensor


def _reducescatter(group: Group, value: Any, mine: Header, op: ReduceOp) -> Any:
    part = _part(value, mine)
    _headers.exchange(group, part)
    tensor = part.empty()
    group.reducescatter(tensor, value, op)
    return tensor


def _alltoall(group: Group, value: Any, mine: Header) -> Any:
    part = _part(value, mine)
    _headers.exchange(group, part)
    rows = part.empty(group.world_size)
    group.alltoall(rows, value)
    return rows


def _part(value: Any, mine: Header) -> Header:
    """Of one rank's part, of a list or of a tensor whose rows are the list."""
    return mine if is_list(value) else mine.row


def _send(group: Group, value: Any, mine: Header, dst_rank: int) -> Any:
    _headers.send(group, mine, dst_rank)
    if not mine.error:
        group.send(value, dst_rank)


def _recv(group: Group, value: Any, mine: Header, src_rank: int) -> Any:
    del value, mine
    tensor = _headers.recv(group, src_rank).empty()
    group.recv(tensor, src_rank)
    return tensor


def _barrier(group: Group, value: Any, mine: Header) -> Any:
    del value, mine
    group.barrier()


_VERBS: dict[str, Callable[..., Any]] = {
    "allreduce": _allreduce,
    "reduce": _reduce,
    "broadcast": _broadcast,
    "allgather": _allgather,
    "gather": _gather,
    "scatter": _scatter,
    "reducescatter": _reducescatter,
    "alltoall": _alltoall,
    "send": _send,
    "recv": _recv,
    "barrier": _barrier,
}


def _fetch(ref: Any) -> Any:
    """What the ref is of, as memory of this process: a tensor that stays here, or a copy."""
    value = ray.get(ref)
    if isinstance(value, Buffer):
        raise InvalidError(
            f"{value!r} is not in this actor: state the operation with one tensor of each rank, in "
            "the order of the ranks. If its actor was restarted, the tensor is gone"
        )
    check(value)
    return value if is_kept(value) else own(value)


def _check_form(verb: str, value: Any, world_size: int) -> None:
    """Raises ArgumentError for what the operation would refuse when the others have begun it."""
    if value is None:
        return
    if verb in ("scatter", "reducescatter", "alltoall"):
        parts = len(value) if is_list(value) or value.ndim else 0
        if parts != world_size:
            raise ArgumentError(
                f"{verb} takes a list of {world_size} tensors, or a tensor whose first dimension "
                f"is {world_size}; it has got {parts}"
            )
    elif is_list(value) and verb != "allreduce":
        raise ArgumentError(f"{verb} takes one tensor, and has got a list")
    if is_list(value) and len({_form(tensor, verb) for tensor in value}) != 1:
        raise ArgumentError(f"the tensors of a list differ, or there are none ({verb})")


def _form(tensor: Any, verb: str) -> tuple[Any, ...]:
    # Those that are reduced as one operation may have any shapes.
    return str(tensor.dtype), None if verb == "allreduce" else tuple(tensor.shape)


# --- What the driver lets an actor do, by __ray_call__ ---

_members: dict[str, Member] = {}


def locate(actor: Any) -> str:
    """The node that it runs on."""
    del actor
    return _node.this_node().id


def join(actor: Any, group: str, rank: int, world_size: int, options: dict[str, Any]) -> None:
    """Takes the seat, also if the actor is in a group of that name already."""
    leave(actor, group)
    client = _default.default_client()
    _members[group] = Member(client.join(group, rank, world_size, **options))


def leave(actor: Any, group: str) -> None:
    """Waits for nobody."""
    del actor
    member = _members.pop(group, None)
    if member is not None:
        member.group.leave()


def run(
    actor: Any, group: str, number: int, verb: str, refs: list[Any], parameters: dict[str, Any]
) -> Any:
    """See Member.run."""
    del actor
    member = _members.get(group)
    if member is None:
        raise GroupClosedError(
            f"this actor is not in group {group!r}: it was destroyed, or the actor was restarted; "
            "its driver can call reform()",
            group=group,
        )
    return member.run(number, verb, refs, parameters)


def fetch(actor: Any, refs: list[Any]) -> Any:
    """The tensors themselves, into Ray's object store."""
    del actor
    return ray.get(refs[0])
