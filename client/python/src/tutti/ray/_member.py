"""The actor's side of groups that the driver has declared. Everything here is called by Ray."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import ray
from ray.experimental import internal_kv

from tutti import _default, _wire
from tutti.binding import check_outputs, whole
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
from tutti.ray._buffers import Buffer, Kept, check, is_kept, is_list, own, tensors_of
from tutti.ray._headers import Header
from tutti.tensors import describe

# If the driver has set no deadline of operations: the daemon's default.
_WORK_TIMEOUT_S = 300.0
# Threads take up an actor's tasks in order: so much later one that was passed over won't come.
_GAP_S = 10.0
# While a join waits, it looks whether its driver still does.
_LOOK_EVERY_S = 1.0


class Member:
    """This actor's seat in one group. Operations take place one after another, as they are stated;
    an actor with several threads may start them in another order.
    """

    def __init__(self, group: Group, formation: str, work_timeout: float | None) -> None:
        """`formation` tells groups of one name apart. `work_timeout` in seconds."""
        self.group = group
        self.formation = formation
        self._limit_s = work_timeout or _WORK_TIMEOUT_S
        # Held while an operation runs.
        self._turn = threading.Condition()
        self._next = 1
        self._given_up = False

    def run(self, number: int, verb: str, refs: list[Any], parameters: dict[str, Any]) -> Any:
        """The operation `number` of the group. Returns what this rank gets."""
        with self._turn:
            if not self._await_turn(number):
                self.group.leave()  # or the others would wait for us
                raise DeadlineError(
                    f"operation {number} of group {self.group.name!r} waits for operation "
                    f"{self._next}, which has not come: was it cancelled?",
                    group=self.group.name,
                )
            try:
                return self._run(verb, refs, parameters)
            finally:
                self._next = number + 1
                self._turn.notify_all()

    def leave(self, number: int) -> None:
        """When it is the turn of operation `number`, or that cannot be."""
        with self._turn:
            self._await_turn(number)
            self.group.leave()

    def _await_turn(self, number: int) -> bool:
        while self._next < number and not self._given_up:
            before = self._next
            self._turn.wait(_GAP_S)
            if self._next == before:
                self._given_up = True
                return False
        return True

    def _run(self, verb: str, refs: list[Any], parameters: dict[str, Any]) -> Any:
        try:
            value = _fetch(refs[0], self._limit_s) if refs else None
            _check_form(verb, value, self.group.world_size)
            if value is not None and _is_written(verb, self.group.rank, parameters):
                _check_outputs(tensors_of(value))
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


def _fetch(ref: Any, limit_s: float) -> Any:
    """What the ref is of, as memory of this process: a tensor that stays here, or a copy."""
    try:
        value = ray.get(ref, timeout=limit_s)
    except ray.exceptions.GetTimeoutError:
        raise DeadlineError(f"the tensor was not there for {limit_s:g} s: {ref!r}") from None
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


def _is_written(verb: str, rank: int, parameters: dict[str, Any]) -> bool:
    """Whether the result goes where this rank's tensor is."""
    if verb == "reduce":
        return bool(rank == parameters["dst_rank"])
    if verb == "broadcast":
        return bool(rank != parameters["src_rank"])
    return verb == "allreduce"


def _check_outputs(tensors: Sequence[Any]) -> None:
    """Raises ValueError for those that cannot hold results, or are too many."""
    check_outputs([whole(describe(each, f"tensors[{n}]")) for n, each in enumerate(tensors)])
    if len(tensors) > _wire.SPANS_PER_WORK_MAX:
        raise ArgumentError(
            f"a list has at most {_wire.SPANS_PER_WORK_MAX} tensors, and not {len(tensors)}"
        )


def _form(tensor: Any, verb: str) -> tuple[Any, ...]:
    # Those that are reduced as one operation may have any shapes.
    return str(tensor.dtype), None if verb == "allreduce" else tuple(tensor.shape)


# --- What the driver lets an actor do, by __ray_call__ ---

_members: dict[str, Member] = {}


class Place(NamedTuple):
    """Where an actor is: only those of one namespace meet. And whether it is asynchronous: Ray
    starts the tasks of such an actor in any order.
    """

    namespace: str
    asynchronous: bool


def locate(actor: Any) -> Place:
    """Starts the node's daemon if there is none."""
    del actor
    client = _default.default_client()
    worker = ray._private.worker.global_worker.core_worker
    asynchronous = worker.current_actor_is_asyncio()
    return Place(client.namespace, asynchronous)


class Seat(NamedTuple):
    """What a driver gives an actor. `options` are those of Client.start_join."""

    group: str
    formation: str
    rank: int
    world_size: int
    options: dict[str, Any]


def join(actor: Any, seat: Seat) -> None:
    """Takes the seat, also if the actor is in a group of that name already."""
    del actor
    before = _members.pop(seat.group, None)
    if before is not None:
        before.group.leave()
    client = _default.default_client()
    joining = client.start_join(seat.group, seat.rank, seat.world_size, **seat.options)
    decided = threading.Event()
    joining.when_decided(decided.set)
    while not decided.wait(_LOOK_EVERY_S):
        if is_called_off(seat.group, seat.formation):
            joining.cancel()
    group = joining.wait()
    _members[seat.group] = Member(group, seat.formation, seat.options["work_timeout"])


def call_off(group: str, formation: str) -> None:
    """By the driver: who still waits in `join` gives up, and so does who comes later."""
    internal_kv._internal_kv_put(_called_off_key(group), formation.encode())


def is_called_off(group: str, formation: str) -> bool:
    """See call_off."""
    return bool(internal_kv._internal_kv_get(_called_off_key(group)) == formation.encode())


def _called_off_key(group: str) -> bytes:
    # One for each name of a job, so that they don't pile up.
    return _node.key_of("called-off", _node.namespace(), group)


def leave(actor: Any, group: str, formation: str, stated: int) -> None:
    """When the operations that were stated have been done."""
    del actor
    member = _members.get(group)
    if member is not None and member.formation == formation:
        member.leave(stated + 1)
        # Another thread may have joined again.
        if _members.get(group) is member:
            del _members[group]


def run(
    actor: Any,
    group: tuple[str, str],
    number: int,
    verb: str,
    refs: list[Any],
    parameters: dict[str, Any],
) -> Any:
    """See Member.run. `group`: its name and formation."""
    del actor
    name, formation = group
    member = _members.get(name)
    if member is None or member.formation != formation:
        raise GroupClosedError(
            f"this actor is not in group {name!r}: it was destroyed or made again, or the actor "
            "was restarted; its driver can call reform()",
            group=name,
        )
    return member.run(number, verb, refs, parameters)


def fetch(actor: Any, refs: list[Any]) -> Any:
    """The tensors themselves, into Ray's object store."""
    del actor
    return ray.get(refs[0])
