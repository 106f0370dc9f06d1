"""What is measured: operations, sizes, numbers of ranks, and what each costs at the least."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

KIB = 1 << 10
MIB = 1 << 20

# Of the bars, and of the large rows.
LARGE = 64 * MIB

ALLREDUCE_SIZES = (4, 4 * KIB, 64 * KIB, MIB, 16 * MIB, LARGE)
ALLREDUCE_WORLDS = (2, 4, 8)

# Reads and writes of memory that an operation can't do without, in units of `bytes` (what the
# largest buffer of a rank has), for n ranks: each input once, each output once.
_READS_WRITES: dict[str, Callable[[int], tuple[int, int]]] = {
    "allreduce": lambda n: (n, n),
    "reduce": lambda n: (n, 1),
    "broadcast": lambda n: (1, n - 1),
    "allgather": lambda n: (1, n),
    "gather": lambda n: (1, 1),
    "scatter": lambda n: (1, 1),
    "reduce_scatter": lambda n: (n, 1),
    "all_to_all": lambda n: (n, n),
    "sendrecv": lambda n: (n // 2, n // 2),
}
OTHERS = tuple(name for name in _READS_WRITES if name != "allreduce")
OTHERS_WORLDS = (2, 4)

# Below, one operation takes less time than the ranks take to start together, and what is measured
# back to back is not cold.
COLD_FROM = MIB


@dataclasses.dataclass(frozen=True)
class Case:
    """One operation on one size in groups of one size. float32, sum, rank 0 is the root."""

    operation: str
    bytes: int
    world_size: int

    def bytes_moved(self) -> int:
        reads, writes = _READS_WRITES[self.operation](self.world_size)
        return (reads + writes) * self.bytes

    def temperatures(self) -> tuple[str, ...]:
        return ("warm", "cold") if self.bytes >= COLD_FROM else ("warm",)

    def __str__(self) -> str:
        return f"{self.operation} {size_name(self.bytes)}, {self.world_size} ranks"


def size_name(size_bytes: int) -> str:
    for unit, name in ((MIB, "MiB"), (KIB, "KiB")):
        if size_bytes >= unit and size_bytes % unit == 0:
            return f"{size_bytes // unit} {name}"
    return f"{size_bytes} B"


def cases(only: set[str], largest: int) -> list[Case]:
    """Grouped by the number of ranks; the largest first, which gets memory that is new."""
    found = []
    for world_size in ALLREDUCE_WORLDS:
        if "allreduce" in only:
            sizes = sorted({min(size, largest) for size in ALLREDUCE_SIZES}, reverse=True)
            found += [Case("allreduce", size, world_size) for size in sizes]
        if "operations" in only and world_size in OTHERS_WORLDS:
            size = min(LARGE, largest)
            found += [Case(name, size, world_size) for name in OTHERS]
    return found
