"""What ranks allreduce, and how they see that it is right. Tens of MiB at a time: no copies."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

_PERIOD = 997
_BLOCK = np.tile(np.arange(_PERIOD, dtype=np.float32), 1024)


def fill(array: Array, rank: int) -> None:
    """Element i becomes 1 + rank + i % 997."""
    for part, pattern in _parts(array):
        np.add(pattern, np.float32(1 + rank), out=part)


def is_sum(array: Array, world_size: int) -> bool:
    """Whether it is the sum of what all ranks were filled with: all of these are exact."""
    offset = np.float32(world_size * (world_size + 1) // 2)
    scale = np.float32(world_size)
    return all(np.array_equal(part, pattern * scale + offset) for part, pattern in _parts(array))


def _parts(array: Array) -> Iterator[tuple[Array, Array]]:
    for start in range(0, array.size, _BLOCK.size):
        part = array[start : start + _BLOCK.size]
        yield part, _BLOCK[: part.size]
