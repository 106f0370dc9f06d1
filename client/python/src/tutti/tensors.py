"""From a user's tensor to a span of an arena, and back.

A contiguous tensor that lives in an arena is used where it is (zero copy). Any other is staged:
copied into a block, and copied back if the operation has succeeded, so that a failure leaves the
user's memory as it was. Copies go through the memory itself, as Ray delivers arrays that are marked
read-only and are meant to be written in place.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tutti import _wire
from tutti.arena import Block, Pool
from tutti.ops import DTYPES

__all__ = ["Bound", "bind"]

_SUPPORTED = "tensors are numpy.ndarray, or torch.Tensor on the CPU, of dtype " + ", ".join(DTYPES)
# All copies are of bits: of unsigned integers as wide as the element.
_BITS = {1: "|u1", 2: "<u2", 4: "<u4", 8: "<u8"}


@dataclass(slots=True)
class _Memory:
    """Where a tensor's elements lie. `strides` in bytes; `owner` keeps the memory."""

    owner: Any
    dtype: str
    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    itemsize: int
    contiguous: bool
    readonly: bool

    @property
    def size_bytes(self) -> int:
        size = self.itemsize
        for length in self.shape:
            size *= length
        return size

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return {
            "version": 3,
            "typestr": _BITS[self.itemsize],
            "shape": self.shape,
            "strides": self.strides,
            "data": (self.address, False),
        }

    def bits(self) -> npt.NDArray[Any]:
        """The elements as a writable array of unsigned integers."""
        return np.asarray(self)


class Bound:
    """A tensor's part in one work: the span that the work names.

    Owned by the work, and keeps the tensor alive until `finish`. Not thread-safe: one thread makes
    it, then the lane's thread finishes it.
    """

    __slots__ = ("_block", "_memory", "_pool", "_write", "dtype", "span")

    def __init__(
        self,
        memory: _Memory,
        span: _wire.client.Span,
        pool: Pool,
        staged: Block | None,
        write: bool,
    ) -> None:
        self.dtype = DTYPES[memory.dtype]
        self.span = span
        self._memory = memory
        self._pool = pool
        self._block = staged
        self._write = write

    def finish(self, success: bool) -> None:
        """Copies the result back if it was staged and there is one; gives the block back."""
        block, self._block = self._block, None
        if block is None:
            return
        try:
            if success and self._write:
                memory = self._memory
                np.copyto(memory.bits(), block.view(memory.shape, _BITS[memory.itemsize]))
        finally:
            self._pool.free(block)


def bind(tensor: object, pool: Pool, *, read: bool, write: bool) -> Bound:
    """Finds or stages `tensor`: `read` if the operation takes it, `write` if it changes it.

    Any shape, also () and with zero elements; any strides. Raises TypeError for what can't take
    part, ValueError for memory that can't be written, and what the pool raises when it can't grow.
    """
    memory = _describe(tensor)
    if write:
        _check_writable(memory)
    size_bytes = memory.size_bytes
    if memory.contiguous and size_bytes and memory.address % memory.itemsize == 0:
        found = pool.find(memory.address, size_bytes)
        if found is not None:
            arena, offset = found
            span = _wire.client.Span(arena=arena.number, offset=offset, length=size_bytes)
            return Bound(memory, span, pool, None, write)
    block = pool.allocate(size_bytes)
    try:
        if read:
            np.copyto(block.view(memory.shape, _BITS[memory.itemsize]), memory.bits())
    except BaseException:
        pool.free(block)
        raise
    span = _wire.client.Span(arena=block.arena.number, offset=block.offset, length=size_bytes)
    return Bound(memory, span, pool, block, write)


def _describe(tensor: object) -> _Memory:
    if isinstance(tensor, np.ndarray):
        return _describe_numpy(tensor)
    # Whoever has a torch tensor has imported torch.
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(tensor, torch.Tensor):
        return _describe_torch(tensor, torch)
    raise TypeError(f"got a {_type_name(tensor)}; {_SUPPORTED}")


def _describe_numpy(array: npt.NDArray[Any]) -> _Memory:
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"got a masked array, whose mask would be lost; {_SUPPORTED}")
    if array.dtype.name not in DTYPES:
        raise TypeError(f"got an array of dtype {array.dtype}; {_SUPPORTED}")
    if not array.dtype.isnative:
        raise TypeError(f"got an array of foreign byte order ({array.dtype.str}); {_SUPPORTED}")
    return _Memory(
        owner=array,
        dtype=array.dtype.name,
        address=array.__array_interface__["data"][0],
        shape=array.shape,
        strides=array.strides,
        itemsize=array.itemsize,
        contiguous=array.flags.c_contiguous,
        readonly=not array.flags.writeable,
    )


def _describe_torch(tensor: Any, torch: Any) -> _Memory:
    dtype = str(tensor.dtype).removeprefix("torch.")
    if tensor.device.type != "cpu":
        raise TypeError(f"got a tensor on device {tensor.device}; {_SUPPORTED}")
    if dtype not in DTYPES:
        raise TypeError(f"got a tensor of dtype {tensor.dtype}; {_SUPPORTED}")
    if tensor.layout is not torch.strided or tensor.is_neg():
        raise TypeError(f"got a tensor of layout {tensor.layout}, or negated lazily; {_SUPPORTED}")
    address = tensor.data_ptr()
    if address == 0 and tensor.numel() > 0:
        raise TypeError(f"got a {_type_name(tensor)}, which has no memory of its own; {_SUPPORTED}")
    itemsize = tensor.element_size()
    return _Memory(
        owner=tensor,
        dtype=dtype,
        address=address,
        shape=tuple(tensor.shape),
        strides=tuple(stride * itemsize for stride in tensor.stride()),
        itemsize=itemsize,
        contiguous=tensor.is_contiguous(),
        readonly=False,
    )


def _check_writable(memory: _Memory) -> None:
    if memory.size_bytes == 0:
        return
    for length, stride in zip(memory.shape, memory.strides, strict=True):
        if stride == 0 and length > 1:
            raise ValueError(
                "the tensor's elements share memory (it was broadcast or expanded), so it can't "
                "hold a result; pass a copy of it"
            )
    if memory.readonly:
        low, high = _extent(memory)
        if not _pages_are_writable(low, high):
            raise ValueError(
                "the array lies in memory that this process may only read (such as a file mapped "
                "read-only), so it can't hold a result; pass a copy of it"
            )


def _extent(memory: _Memory) -> tuple[int, int]:
    """The addresses [low, high) that the tensor's elements span."""
    reach = [
        (length - 1) * stride for length, stride in zip(memory.shape, memory.strides, strict=True)
    ]
    low = memory.address + sum(min(0, each) for each in reach)
    high = memory.address + sum(max(0, each) for each in reach) + memory.itemsize
    return low, high


def _pages_are_writable(low: int, high: int) -> bool:
    """Asks the kernel. Writing to a page without the permission would end the process."""
    with open("/proc/self/maps") as maps:
        for line in maps:
            addresses, permissions, _ = line.split(" ", 2)
            start, _, end = addresses.partition("-")
            if int(start, 16) < high and int(end, 16) > low and permissions[1] != "w":
                return False
    return True


def _type_name(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"
