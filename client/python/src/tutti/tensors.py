"""What a user's tensor is in memory: NumPy arrays, and PyTorch tensors on the CPU.

Nothing is copied or allocated here; `binding` does that. Elements are reached through the memory
itself, as Ray delivers arrays that are marked read-only and are meant to be written in place.

Pure functions; thread-safe.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Sequence
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
_MaskedArray = np.ma.MaskedArray
_addressof = ctypes.addressof
_from_buffer: Callable[[Any], Any] = ctypes.c_char.from_buffer

# Two memories of the same layout are the same elements in the same order.
Layout: TypeAlias = tuple[int, int, tuple[int, ...], tuple[int, ...] | None]


@dataclass(slots=True)
class Memory:
    """Where a tensor's elements lie.

    `strides` and `size_bytes` in bytes; `size_bytes` is that of the elements, without gaps.
    `strides` is None if they are contiguous, in C's order. `owner` keeps the memory. `name` is what
    errors call the tensor.
    """

    name: str
    owner: Any
    dtype: str
    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None
    itemsize: int
    size_bytes: int
    readonly: bool

    @property
    def contiguous(self) -> bool:
        """Are there no gaps, and is the order that of C?"""
        return self.strides is None

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

    @property
    def is_plain(self) -> bool:
        """Nothing speaks against writing it."""
        return self.strides is None and not self.readonly


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
        for length, stride in zip(memory.shape, memory.strides or memory.shape, strict=True):
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
    if isinstance(array, _MaskedArray):
        raise TypeError(f"{name} is a masked array, whose mask would be lost; {_SUPPORTED}")
    dtype = array.dtype
    dtype_name = _names.get(dtype)
    if dtype_name is None:
        dtype_name = dtype.name
        if dtype_name not in DTYPES:
            raise TypeError(f"{name} is an array of dtype {dtype}; {_SUPPORTED}")
        if not dtype.isnative:
            raise TypeError(f"{name} is an array of foreign byte order ({dtype.str}); {_SUPPORTED}")
        _names[dtype] = dtype_name
    flags = array.flags
    return Memory(
        name,
        array,
        dtype_name,
        _address_of(array),
        array.shape,
        None if flags.c_contiguous else array.strides,
        array.itemsize,
        array.nbytes,
        not flags.writeable,
    )


def _address_of(array: npt.NDArray[Any]) -> int:
    try:
        # A third of what __array_interface__ takes, for arrays without gaps that may be written.
        return _addressof(_from_buffer(array))
    except (BufferError, TypeError, ValueError):
        return int(array.__array_interface__["data"][0])


def _describe_torch(tensor: Any, name: str, torch: Any) -> Memory:
    if tensor.device.type != "cpu":
        raise TypeError(f"{name} is a tensor on device {tensor.device}; {_SUPPORTED}")
    dtype_name = _names.get(tensor.dtype)
    if dtype_name is None:
        dtype_name = str(tensor.dtype).removeprefix("torch.")
        if dtype_name not in DTYPES:
            raise TypeError(f"{name} is a tensor of dtype {tensor.dtype}; {_SUPPORTED}")
        _names[tensor.dtype] = dtype_name
    if tensor.layout is not torch.strided or tensor.is_neg():
        raise TypeError(
            f"{name} is a tensor of layout {tensor.layout}, or negated lazily; {_SUPPORTED}"
        )
    address = tensor.data_ptr()
    count = tensor.numel()
    if address == 0 and count > 0:
        raise TypeError(
            f"{name} is a {_type_name(tensor)}, which has no memory of its own; {_SUPPORTED}"
        )
    itemsize = tensor.element_size()
    strides = None
    if not tensor.is_contiguous():
        strides = tuple(stride * itemsize for stride in tensor.stride())
    return Memory(
        name,
        tensor,
        dtype_name,
        address,
        tuple(tensor.shape),
        strides,
        itemsize,
        count * itemsize,
        False,
    )


def _extent(memory: Memory) -> tuple[int, int]:
    """The addresses [low, high) that the tensor's elements span."""
    if memory.strides is None:
        return memory.address, memory.address + memory.size_bytes
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
