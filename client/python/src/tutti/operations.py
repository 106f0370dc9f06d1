"""What each operation takes: from a caller's arguments to one rank's part of an operation.

Pure functions, which only look at the arguments: nothing is copied, allocated or sent. They raise
TypeError and ValueError, saying what to pass instead; ArgumentError, which is a ValueError, where
`ray.util.collective` raises RuntimeError. Thread-safe.

A list has one tensor per rank, in rank order. In its place one tensor may be given, whose first
dimension is the world size: its rows are the list, and go as one.

The table of inputs and outputs is that of Work in tutti/v1/client.proto.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tutti import _wire
from tutti.binding import Part, whole
from tutti.errors import ArgumentError
from tutti.ops import DTYPES, to_int, to_reduce_op
from tutti.tensors import Memory, describe, is_tensor

__all__ = ["Operation", "Seat"]

_T = _wire.types


class Seat(NamedTuple):
    """Which rank calls, and of how many."""

    rank: int
    world_size: int


@dataclass(slots=True)
class Operation:
    """One rank's part of one operation. `label` is its name for people."""

    label: str
    kind: _wire.types.CollectiveKind
    inputs: Sequence[Part] = ()
    outputs: Sequence[Part] = ()
    op: Any = _T.REDUCE_OP_UNSPECIFIED
    root: int = 0

    @property
    def dtype(self) -> _wire.types.DataType:
        """The wire's number of it."""
        parts = self.inputs or self.outputs
        return DTYPES[parts[0].memory.dtype] if parts else _T.DATA_TYPE_UNSPECIFIED


def allreduce(tensor: object, op: object) -> Operation:
    """In place."""
    parts = [whole(describe(tensor))]
    return Operation("allreduce", _T.COLLECTIVE_KIND_ALLREDUCE, parts, parts, _to_op(op))


def allreduce_coalesced(tensors: object, op: object) -> Operation:
    """In place, one or more tensors of one dtype."""
    if is_tensor(tensors) or not isinstance(tensors, Sequence):
        raise TypeError("tensors must be a list of tensors; for one tensor there is allreduce")
    if not 1 <= len(tensors) <= _wire.SPANS_PER_WORK_MAX:
        raise ValueError(
            f"tensors must have 1 to {_wire.SPANS_PER_WORK_MAX} tensors, and has {len(tensors)}"
            + ("; split the list" if tensors else "")
        )
    memories = [describe(each, f"tensors[{n}]") for n, each in enumerate(tensors)]
    dtypes = dict.fromkeys(memory.dtype for memory in memories)
    if len(dtypes) > 1:
        raise ArgumentError(
            f"tensors has {' and '.join(dtypes)}; one operation has one dtype, so call "
            "allreduce_coalesced once for each"
        )
    parts = [whole(memory) for memory in memories]
    return Operation("allreduce_coalesced", _T.COLLECTIVE_KIND_ALLREDUCE, parts, parts, _to_op(op))


def reduce(seat: Seat, tensor: object, dst_rank: object, op: object) -> Operation:
    """Written at the root only."""
    root = _to_rank(dst_rank, "dst_rank", seat)
    parts = [whole(describe(tensor))]
    outputs = parts if root == seat.rank else ()
    return Operation("reduce", _T.COLLECTIVE_KIND_REDUCE, parts, outputs, _to_op(op), root)


def broadcast(seat: Seat, tensor: object, src_rank: object) -> Operation:
    """Read at the root, written elsewhere."""
    root = _to_rank(src_rank, "src_rank", seat)
    parts = [whole(describe(tensor))]
    inputs, outputs = (parts, []) if root == seat.rank else ([], parts)
    return Operation("broadcast", _T.COLLECTIVE_KIND_BROADCAST, inputs, outputs, root=root)


def allgather(seat: Seat, tensor_list: object, tensor: object) -> Operation:
    """List out, tensor in."""
    memory = describe(tensor)
    outputs = _alike(tensor_list, "tensor_list", memory, seat)
    return Operation("allgather", _T.COLLECTIVE_KIND_ALLGATHER, [whole(memory)], outputs)


def gather(seat: Seat, tensor: object, gather_list: object, dst_rank: object) -> Operation:
    """List out at the root, tensor in."""
    root = _to_rank(dst_rank, "dst_rank", seat)
    memory = describe(tensor)
    outputs = _alike_at_root(gather_list, "gather_list", memory, root, "dst_rank", seat)
    return Operation("gather", _T.COLLECTIVE_KIND_GATHER, [whole(memory)], outputs, root=root)


def scatter(seat: Seat, tensor: object, scatter_list: object, src_rank: object) -> Operation:
    """Tensor out, list in at the root."""
    root = _to_rank(src_rank, "src_rank", seat)
    memory = describe(tensor)
    inputs = _alike_at_root(scatter_list, "scatter_list", memory, root, "src_rank", seat)
    return Operation("scatter", _T.COLLECTIVE_KIND_SCATTER, inputs, [whole(memory)], root=root)


def reducescatter(seat: Seat, tensor: object, tensor_list: object, op: object) -> Operation:
    """Tensor out, list in."""
    memory = describe(tensor)
    inputs = _alike(tensor_list, "tensor_list", memory, seat)
    kind = _T.COLLECTIVE_KIND_REDUCE_SCATTER
    return Operation("reducescatter", kind, inputs, [whole(memory)], _to_op(op))


def alltoall(seat: Seat, output_list: object, input_list: object) -> Operation:
    """List out, list in; any shapes. What a rank keeps must be as long on both sides."""
    outputs = _any_list(output_list, "output_list", seat)
    inputs = _any_list(input_list, "input_list", seat)
    for part in (*outputs, *inputs):
        _check_dtype(part.memory, inputs[0].memory)
    given, taken = _piece(inputs, seat.rank), _piece(outputs, seat.rank)
    if given != taken:
        itemsize = inputs[0].memory.itemsize
        raise ArgumentError(
            f"this rank, {seat.rank}, gives itself {given // itemsize} elements "
            f"(input_list[{seat.rank}]), and takes {taken // itemsize} (output_list[{seat.rank}]); "
            "they must be as many"
        )
    return Operation("alltoall", _T.COLLECTIVE_KIND_ALL_TO_ALL, inputs, outputs)


def alltoall_single(
    seat: Seat,
    output: object,
    input: object,
    output_split_sizes: Sequence[int] | None,
    input_split_sizes: Sequence[int] | None,
) -> Operation:
    """Tensor out, tensor in, each cut along its first dimension."""
    into, source = describe(output, "output"), describe(input, "input")
    _check_dtype(into, source)
    taken = _to_splits(output_split_sizes, "output_split_sizes", into, seat)
    given = _to_splits(input_split_sizes, "input_split_sizes", source, seat)
    if into.shape[1:] != source.shape[1:]:
        raise ArgumentError(
            f"output has shape {into.shape} and input {source.shape}; they may differ in the first "
            "dimension only"
        )
    if taken[seat.rank] != given[seat.rank]:
        raise ArgumentError(
            f"this rank, {seat.rank}, gives itself {given[seat.rank]} rows and takes "
            f"{taken[seat.rank]}; input_split_sizes[{seat.rank}] and "
            f"output_split_sizes[{seat.rank}] must be the same"
        )
    row_bytes = math.prod(source.shape[1:]) * source.itemsize
    inputs = [Part(source, tuple(rows * row_bytes for rows in given))]
    outputs = [Part(into, tuple(rows * row_bytes for rows in taken))]
    return Operation("alltoall_single", _T.COLLECTIVE_KIND_ALL_TO_ALL, inputs, outputs)


def send(seat: Seat, tensor: object, dst_rank: object) -> Operation:
    """Tensor in."""
    peer = _to_peer(dst_rank, "dst_rank", seat)
    return Operation("send", _T.COLLECTIVE_KIND_SEND, [whole(describe(tensor))], root=peer)


def recv(seat: Seat, tensor: object, src_rank: object) -> Operation:
    """Tensor out."""
    peer = _to_peer(src_rank, "src_rank", seat)
    outputs = [whole(describe(tensor))]
    return Operation("recv", _T.COLLECTIVE_KIND_RECV, outputs=outputs, root=peer)


def barrier() -> Operation:
    """Nothing in, nothing out."""
    return Operation("barrier", _T.COLLECTIVE_KIND_BARRIER)


def agree(flag: object) -> Operation:
    """In place, one bool."""
    parts = [whole(describe(flag, "flag"))]
    return Operation("agree", _T.COLLECTIVE_KIND_AGREE, parts, parts)


def _to_op(op: object) -> Any:
    return to_reduce_op(op)._value_


def _to_rank(rank: object, name: str, seat: Seat) -> int:
    return to_int(rank, name, 0, seat.world_size)


def _to_peer(rank: object, name: str, seat: Seat) -> int:
    peer = _to_rank(rank, name, seat)
    if peer == seat.rank:
        raise ArgumentError(f"{name} is {peer}, this rank itself; send and recv take another")
    return peer


def _alike_at_root(
    tensors: object, name: str, like: Memory, root: int, root_name: str, seat: Seat
) -> Sequence[Part]:
    """The list at the root; elsewhere there must be none."""
    if root == seat.rank:
        if tensors is None:
            raise ArgumentError(
                f"{name} is None, and this rank, {seat.rank}, is {root_name}: "
                "pass a list of one tensor per rank"
            )
        return _alike(tensors, name, like, seat)
    if tensors is None or (isinstance(tensors, Sequence) and not tensors):
        return ()
    raise ArgumentError(
        f"{name} must be None at this rank, {seat.rank}: only {root_name}, {root}, has the list"
    )


def _alike(tensors: object, name: str, like: Memory, seat: Seat) -> Sequence[Part]:
    """A list of tensors like `like`, or one tensor that is all of them, one after the other."""
    if is_tensor(tensors):
        memory = describe(tensors, name)
        _check_dtype(memory, like)
        stacked = (seat.world_size, *like.shape)
        joined = (seat.world_size * like.shape[0], *like.shape[1:]) if like.shape else stacked
        if memory.shape not in (stacked, joined):
            raise ArgumentError(
                f"{name} has shape {memory.shape}; as one tensor it must have {stacked}: a row for "
                f"each rank, of the shape of {like.name}"
            )
        return [Part(memory, (like.size_bytes,) * seat.world_size)]

    def check(memory: Memory) -> None:
        _check_dtype(memory, like)
        if memory.shape != like.shape:
            raise ArgumentError(
                f"{memory.name} has shape {memory.shape} and {like.name} {like.shape}; "
                "they must be the same"
            )

    return _list_of(tensors, name, seat, check)


def _any_list(tensors: object, name: str, seat: Seat) -> Sequence[Part]:
    """A list of tensors of any shapes, or one tensor of which each rank has a row."""
    if not is_tensor(tensors):
        return _list_of(tensors, name, seat)
    memory = describe(tensors, name)
    if memory.shape[:1] != (seat.world_size,):
        raise ArgumentError(
            f"{name} has shape {memory.shape}; as one tensor its first dimension must be the world "
            f"size, {seat.world_size}. alltoall_single takes others"
        )
    return [Part(memory, (memory.size_bytes // seat.world_size,) * seat.world_size)]


def _list_of(
    tensors: object, name: str, seat: Seat, check: Callable[[Memory], None] | None = None
) -> Sequence[Part]:
    if not isinstance(tensors, Sequence) or isinstance(tensors, (str, bytes)):
        raise TypeError(
            f"{name} is a {type(tensors).__name__}; pass a list of one tensor per rank, or one "
            "tensor whose rows they are"
        )
    if len(tensors) != seat.world_size:
        raise ArgumentError(
            f"{name} has {len(tensors)} tensors, and the group {seat.world_size} ranks; pass one "
            "for each rank, in rank order"
        )
    parts = []
    for index, tensor in enumerate(tensors):
        memory = describe(tensor, f"{name}[{index}]")
        if check is not None:
            check(memory)
        parts.append(whole(memory))
    return parts


def _check_dtype(memory: Memory, like: Memory) -> None:
    if memory.dtype != like.dtype:
        raise ArgumentError(
            f"{memory.name} is of {memory.dtype} and {like.name} of {like.dtype}; one operation "
            "has one dtype"
        )


def _piece(parts: Sequence[Part], rank: int) -> int:
    """Bytes of a rank's element of a list."""
    return parts[rank].lengths[0] if len(parts) > 1 else parts[0].lengths[rank]


def _to_splits(sizes: object, name: str, memory: Memory, seat: Seat) -> Sequence[int]:
    """How many rows of the tensor each rank has."""
    if not memory.shape:
        raise ArgumentError(f"{memory.name} has no dimensions, so it can't be split")
    rows = memory.shape[0]
    if sizes is None:
        if rows % seat.world_size:
            raise ArgumentError(
                f"{memory.name} has {rows} rows, which can't be shared equally among "
                f"{seat.world_size} ranks; pass {name}"
            )
        return [rows // seat.world_size] * seat.world_size
    if isinstance(sizes, (str, bytes)) or not hasattr(sizes, "__iter__"):
        raise TypeError(f"{name} is a {type(sizes).__name__}; pass a list of one int per rank")
    splits = [to_int(each, f"{name}[{index}]", 0, 1 << 62) for index, each in enumerate(sizes)]
    if len(splits) != seat.world_size:
        raise ArgumentError(
            f"{name} has {len(splits)} sizes, and the group {seat.world_size} ranks; pass one for "
            "each rank, in rank order"
        )
    if sum(splits) != rows:
        raise ArgumentError(
            f"{name} adds up to {sum(splits)}, and {memory.name} has {rows} rows; they must be the "
            "same"
        )
    return splits
