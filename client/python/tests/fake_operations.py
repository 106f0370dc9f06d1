"""What the fake daemon computes: all operations on all dtypes, in NumPy, with the daemon's checks.

`check` looks at one work and `match` at those of all ranks; both return a message if the daemon
would refuse. `execute` reads all inputs before it writes any output.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tutti.v1 import types_pb2

T = types_pb2
# bfloat16 is moved as its bits.
DTYPES: dict[int, Any] = {
    T.DATA_TYPE_BOOL: np.bool_,
    T.DATA_TYPE_UINT8: np.uint8,
    T.DATA_TYPE_INT8: np.int8,
    T.DATA_TYPE_INT32: np.int32,
    T.DATA_TYPE_UINT32: np.uint32,
    T.DATA_TYPE_INT64: np.int64,
    T.DATA_TYPE_UINT64: np.uint64,
    T.DATA_TYPE_FLOAT16: np.float16,
    T.DATA_TYPE_BFLOAT16: np.uint16,
    T.DATA_TYPE_FLOAT32: np.float32,
    T.DATA_TYPE_FLOAT64: np.float64,
}
EAGER_SEND_BYTES = 64 << 10

_MANY = (T.COLLECTIVE_KIND_ALLREDUCE, T.COLLECTIVE_KIND_REDUCE, T.COLLECTIVE_KIND_BROADCAST)
_REDUCING = (
    T.COLLECTIVE_KIND_ALLREDUCE,
    T.COLLECTIVE_KIND_REDUCE,
    T.COLLECTIVE_KIND_REDUCE_SCATTER,
)
_ROOTED = (
    T.COLLECTIVE_KIND_REDUCE,
    T.COLLECTIVE_KIND_BROADCAST,
    T.COLLECTIVE_KIND_GATHER,
    T.COLLECTIVE_KIND_SCATTER,
)
PAIRWISE = (T.COLLECTIVE_KIND_SEND, T.COLLECTIVE_KIND_RECV)

# (kind, is root): how many inputs and outputs; "K": one or more, as many on both sides; "W": a
# list. The table of Work in client.proto.
_TABLE: dict[int, tuple[tuple[Any, Any], tuple[Any, Any]]] = {
    T.COLLECTIVE_KIND_ALLREDUCE: (("K", "K"), ("K", "K")),
    T.COLLECTIVE_KIND_REDUCE: (("K", "K"), ("K", 0)),
    T.COLLECTIVE_KIND_BROADCAST: (("K", 0), (0, "K")),
    T.COLLECTIVE_KIND_ALLGATHER: ((1, "W"), (1, "W")),
    T.COLLECTIVE_KIND_GATHER: ((1, "W"), (1, 0)),
    T.COLLECTIVE_KIND_SCATTER: (("W", 1), (0, 1)),
    T.COLLECTIVE_KIND_REDUCE_SCATTER: (("W", 1), ("W", 1)),
    T.COLLECTIVE_KIND_ALL_TO_ALL: (("W", "W"), ("W", "W")),
    T.COLLECTIVE_KIND_SEND: ((1, 0), (1, 0)),
    T.COLLECTIVE_KIND_RECV: ((0, 1), (0, 1)),
    T.COLLECTIVE_KIND_BARRIER: ((0, 0), (0, 0)),
    T.COLLECTIVE_KIND_AGREE: ((1, 1), (1, 1)),
}


def check(work: Any, rank: int, world_size: int, unsupported: Any) -> str | None:
    """What is wrong with one work, whatever others do."""
    if (work.kind in _REDUCING) != (work.op != T.REDUCE_OP_UNSPECIFIED):
        return "a reduce op where none belongs, or none where one does"
    if (work.kind == T.COLLECTIVE_KIND_BARRIER) != (work.dtype == T.DATA_TYPE_UNSPECIFIED):
        return "no dtype"
    if work.dtype in unsupported:
        return f"{T.DataType.Name(work.dtype)} is not supported"
    if work.root and work.kind not in (*_ROOTED, *PAIRWISE):
        return "a root where none belongs"
    if work.root >= world_size or (work.kind in PAIRWISE and work.root == rank):
        return f"root {work.root}"
    for side, spans in zip(
        _TABLE[work.kind][work.root != rank or work.kind not in _ROOTED],
        (work.inputs, work.outputs),
        strict=True,
    ):
        wanted = {"W": world_size, "K": max(1, len(spans))}.get(side, side)
        if len(spans) != wanted:
            return f"{len(spans)} tensors, not {wanted}"
    return _check_lengths(work) or _check_overlap(work, rank)


def _check_lengths(work: Any) -> str | None:
    spans = [*work.inputs, *work.outputs]
    size = np.dtype(DTYPES.get(work.dtype, np.uint8)).itemsize
    if any(span.offset % size or span.length % size for span in spans):
        return "not whole elements"
    if work.kind in _MANY:
        pairs = zip(work.inputs, work.outputs, strict=False)
        return "pairs" if any(a.length != b.length for a, b in pairs) else None
    if work.kind != T.COLLECTIVE_KIND_ALL_TO_ALL and len({s.length for s in spans}) > 1:
        return "the tensors are of several sizes"
    return None


def _check_overlap(work: Any, rank: int) -> str | None:
    def overlap(one: Any, other: Any) -> bool:
        return bool(
            one.arena == other.arena
            and one.length
            and other.length
            and one.offset < other.offset + other.length
            and other.offset < one.offset + one.length
        )

    for number, output in enumerate(work.outputs):
        if any(overlap(output, other) for other in work.outputs[:number]):
            return "outputs overlap"
        for index, source in enumerate(work.inputs):
            if overlap(output, source):
                as_many = len(work.inputs) == len(work.outputs)
                in_place = index == number if as_many else max(index, number) == rank
                if output != source or not in_place:
                    return f"input {index} and output {number} overlap"
    return None


def match(works: list[Any]) -> str | None:
    """What ranks disagree in. Of a send and its recv, the send is first."""
    kind = works[0].kind
    if kind in PAIRWISE:
        pair = works[0].inputs[0].length, works[1].outputs[0].length
        same = works[0].dtype == works[1].dtype and pair[0] == pair[1]
        return None if same else f"a send of {pair[0]} bytes and a recv of {pair[1]}"
    signatures = {
        (w.kind, w.dtype, w.op, w.root if kind in _ROOTED else 0, *_alike(w)) for w in works
    }
    if len(signatures) > 1:
        return f"{signatures}"
    if kind == T.COLLECTIVE_KIND_ALL_TO_ALL:
        for a, giver in enumerate(works):
            for b, taker in enumerate(works):
                if giver.inputs[b].length != taker.outputs[a].length:
                    return f"rank {a} gives {giver.inputs[b].length} bytes to {b}"
    return None


def _alike(work: Any) -> tuple[int, ...]:
    """Lengths that all ranks have."""
    if work.kind == T.COLLECTIVE_KIND_ALL_TO_ALL:
        return ()
    shared_out = (T.COLLECTIVE_KIND_SCATTER, T.COLLECTIVE_KIND_REDUCE_SCATTER)
    spans = work.outputs if work.kind in shared_out or not work.inputs else work.inputs
    return tuple(span.length for span in spans)


def execute(works: list[Any], view: Callable[[int, Any], Any]) -> None:
    """Runs matched works of all ranks. `view(rank, span)` is the span's memory, as bytes."""
    work = works[0]
    root = works[work.root] if work.kind in _ROOTED else work
    ranks = range(len(works))
    ins = [[np.array(view(rank, span)) for span in works[rank].inputs] for rank in ranks]

    def combine(index: int, op: int = work.op) -> Any:
        return reduce([each[index] for each in ins], work.dtype, op)

    def result(rank: int, index: int) -> Any:
        """What the output `index` of `rank` becomes."""
        match work.kind:
            case T.COLLECTIVE_KIND_ALLREDUCE | T.COLLECTIVE_KIND_REDUCE:
                return combine(index)
            case T.COLLECTIVE_KIND_AGREE:
                return combine(index, T.REDUCE_OP_MIN)
            case T.COLLECTIVE_KIND_BROADCAST:
                return ins[work.root][index]
            case T.COLLECTIVE_KIND_ALLGATHER | T.COLLECTIVE_KIND_GATHER:
                return ins[index][0]
            case T.COLLECTIVE_KIND_SCATTER:
                return ins[work.root][rank]
            case T.COLLECTIVE_KIND_REDUCE_SCATTER:
                return combine(rank)
            case T.COLLECTIVE_KIND_ALL_TO_ALL:
                return ins[index][rank]
        raise AssertionError(work.kind)

    results = [[result(r, o) for o in range(len(works[r].outputs))] for r in ranks]
    assert root.root == work.root
    for rank in ranks:
        for span, value in zip(works[rank].outputs, results[rank], strict=True):
            view(rank, span)[:] = value


def reduce(parts: list[Any], dtype: int, op: int) -> Any:
    """Combines bytes of `dtype`, in rank order."""
    if dtype == T.DATA_TYPE_BFLOAT16:
        wide = [(part.view(np.uint16).astype(np.uint32) << 16).view(np.float32) for part in parts]
        bits = _combine(np.stack(wide), op).astype(np.float32).view(np.uint32)
        nearest = bits + 0x7FFF + ((bits >> 16) & 1)
        return (nearest >> 16).astype(np.uint16).view(np.uint8)
    values = np.stack([part.view(DTYPES[dtype]) for part in parts])
    wide = values.astype(np.float32) if dtype == T.DATA_TYPE_FLOAT16 else values
    return _combine(wide, op).astype(values.dtype).view(np.uint8)


def _combine(values: Any, op: int) -> Any:
    """Over the first axis."""
    with np.errstate(all="ignore"):
        if op == T.REDUCE_OP_MIN:
            return values.min(axis=0)
        if op == T.REDUCE_OP_MAX:
            return values.max(axis=0)
        if op == T.REDUCE_OP_PRODUCT:
            return np.multiply.reduce(values, axis=0, dtype=values.dtype)
        total = np.add.reduce(values, axis=0, dtype=values.dtype)
        if op == T.REDUCE_OP_AVG:
            total = total / len(values)
            return total if values.dtype.kind == "f" else np.trunc(total)
        return total
