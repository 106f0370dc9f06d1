"""What a user's tensor is in memory: NumPy arrays, and PyTorch tensors on the CPU.

Nothing is copied or allocated here; `binding` does that. Elements are reached through the memory
itself, as Ray delivers arrays that are marked read-only and are meant to be written in place.

Pure functions; thread-safe.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tutti.ops import DTYPES

__all__ = ["Layout", "Memory", "check_writable", "describe", "is_tensor"]

_SUPPORTED = "tensors are numpy.ndarray, or torch.Tensor on the CPU, of dtype " + ", ".join(DTYPES)
# All copies are of bits: of unsigned integers as wide as the element.
BITS = {1: "|u1", 2: "<u2", 4: "<u4", 8: "<u8"}

# Names of dtypes that have been seen and found good. NumPy makes up a name anew each time, which
# takes longer than all the rest of a description.
_names: dict[Any, str] = {}

# Two memories of the same layout are the same elements in the same order.
Layout: TypeAlias = tuple[int, int, tuple[int, ...], tuple[int, ...]]


@dataclass(slots=True)
class Memory:
    """Where a tensor's elements lie.

    `strides` and `size_bytes` in bytes; `size_bytes` is that of the elements, without gaps. `owner`
    keeps the memory. `name` is what errors call the tensor.
    """

    name: str
    owner: Any
    dtype: str
    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    itemsize: int
    size_bytes: int
    contiguous: bool
    readonly: bool

    @property
    def layout(self) -> Layout:
        """Names the elements."""
        return self.address, self.itemsize, self.shape, self.strides

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return {
            "version": 3,
            "typestr": BITS[self.itemsize],
            "shape": self.shape,
            "strides": self.strides,
            "data": (self.address, False),
        }

    def bits(self) -> npt.NDArray[Any]:
        """The elements as a writable array of unsigned integers."""
        return np.asarray(self)


def is_tensor(value: object) -> bool:
    """Is it one tensor, and not a list of some? `describe` may still refuse it."""
    if isinstance(value, np.ndarray):
        return True
    # Whoever has a torch tensor has imported torch.
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def describe(tensor: object, name: str = "tensor") -> Memory:
    """Finds a tensor's elements. Any shape, also () and with zero elements; any strides.

    Raises TypeError for what can't take part in an operation, calling it `name`.
    """
    if isinstance(tensor, np.ndarray):
        return _describe_numpy(tensor, name)
    if is_tensor(tensor):
        return _describe_torch(tensor, name, sys.modules["torch"])
    raise TypeError(f"{name} is a {_type_name(tensor)}; {_SUPPORTED}")


def check_writable(memories: Sequence[Memory]) -> None:
    """Raises ValueError if one of them can't hold a result."""
    readonly = []
    for memory in memories:
        if memory.size_bytes == 0:
            continue
        for length, stride in zip(memory.shape, memory.strides, strict=True):
            if stride == 0 and length > 1:
                raise ValueError(
                    f"the elements of {memory.name} share memory (it was broadcast or expanded), "
                    "so it can't hold a result; pass a copy of it"
                )
        if memory.readonly:
            readonly.append(memory)
    if not readonly:
        return
    protected = _protected_ranges()
    for memory in readonly:
        low, high = _extent(memory)
        if any(start < high and end > low for start, end in protected):
            raise ValueError(
                f"{memory.name} lies in memory that this process may only read (such as a file "
                "mapped read-only), so it can't hold a result; pass a copy of it"
            )


def _describe_numpy(array: npt.NDArray[Any], name: str) -> Memory:
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array, whose mask would be lost; {_SUPPORTED}")
    dtype = array.dtype
    if dtype not in _names:
        if dtype.name not in DTYPES:
            raise TypeError(f"{name} is an array of dtype {dtype}; {_SUPPORTED}")
        if not dtype.isnative:
            raise TypeError(f"{name} is an array of foreign byte order ({dtype.str}); {_SUPPORTED}")
        _names[dtype] = dtype.name
    return Memory(
        name=name,
        owner=array,
        dtype=_names[dtype],
        address=array.__array_interface__["data"][0],
        shape=array.shape,
        strides=array.strides,
        itemsize=array.itemsize,
        size_bytes=array.nbytes,
        contiguous=array.flags.c_contiguous,
        readonly=not array.flags.writeable,
    )


def _describe_torch(tensor: Any, name: str, torch: Any) -> Memory:
    dtype = str(tensor.dtype).removeprefix("torch.")
    if tensor.device.type != "cpu":
        raise TypeError(f"{name} is a tensor on device {tensor.device}; {_SUPPORTED}")
    if dtype not in DTYPES:
        raise TypeError(f"{name} is a tensor of dtype {tensor.dtype}; {_SUPPORTED}")
    if tensor.layout is not torch.strided or tensor.is_neg():
        raise TypeError(
            f"{name} is a tensor of layout {tensor.layout}, or negated lazily; {_SUPPORTED}"
        )
    address = tensor.data_ptr()
    shape = tuple(tensor.shape)
    count = math.prod(shape)
    if address == 0 and count > 0:
        raise TypeError(
            f"{name} is a {_type_name(tensor)}, which has no memory of its own; {_SUPPORTED}"
        )
    itemsize = tensor.element_size()
    return Memory(
        name=name,
        owner=tensor,
        dtype=dtype,
        address=address,
        shape=shape,
        strides=tuple(stride * itemsize for stride in tensor.stride()),
        itemsize=itemsize,
        size_bytes=count * itemsize,
        contiguous=tensor.is_contiguous(),
        readonly=False,
    )


def _extent(memory: Memory) -> tuple[int, int]:
    """The addresses [low, high) that the tensor's elements span."""
    reach = [
        (length - 1) * stride for length, stride in zip(memory.shape, memory.strides, strict=True)
    ]
    low = memory.address + sum(min(0, each) for each in reach)
    high = memory.address + sum(max(0, each) for each in reach) + memory.itemsize
    return low, high


def _protected_ranges() -> list[tuple[int, int]]:
    """Addresses that must not be written, from the kernel: doing so would end the process."""
    ranges = []
    with open("/proc/self/maps") as maps:
        for line in maps:
            addresses, permissions, _ = line.split(" ", 2)
            if permissions[1] != "w":
                start, _, end = addresses.partition("-")
                ranges.append((int(start, 16), int(end, 16)))
    return ranges


def _type_name(value: object) -> str:
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
