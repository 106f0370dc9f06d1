"""What is measured: operations, sizes, numbers of ranks, and what each costs at the least."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

KIB = 1 << 10
MIB = 1 << 20

# Of the bars, and of the large rows.
LARGE = 64 * MIB

# What a run has two sections of, each with cases and contestants of its own: how long data take,
# and how long messages take.
THROUGHPUT, LATENCY = "throughput", "latency"

ALLREDUCE_SIZES = (4, 4 * KIB, 64 * KIB, MIB, 16 * MIB, LARGE)
ALLREDUCE_WORLDS = (2, 4, 8)

LATENCY_SIZES = (4, 64, KIB, 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB)
LATENCY_WORLDS = (2, 4)
# Up to here the data cost less than telling that they are there.
SMALL = 4 * KIB

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
    section: str = THROUGHPUT

    def bytes_moved(self) -> int:
        reads, writes = _READS_WRITES[self.operation](self.world_size)
        return (reads + writes) * self.bytes

    def temperatures(self) -> tuple[str, ...]:
        is_large = self.bytes >= COLD_FROM and self.section == THROUGHPUT
        return ("warm", "cold") if is_large else ("warm",)

    def __str__(self) -> str:
        name = f"{self.operation} {size_name(self.bytes)}, {self.world_size} ranks"
        return f"latency: {name}" if self.section == LATENCY else name


def size_name(size_bytes: int) -> str:
    for unit, name in ((MIB, "MiB"), (KIB, "KiB")):
        if size_bytes >= unit and size_bytes % unit == 0:
            return f"{size_bytes // unit} {name}"
    return f"{size_bytes} B"


def cases(only: set[str], largest: int) -> list[Case]:
    """Of the throughput, grouped by the number of ranks; the largest first, which gets memory that
    is new.
    """
    found = []
    for world_size in ALLREDUCE_WORLDS:
        if "allreduce" in only:
            sizes = sorted({min(size, largest) for size in ALLREDUCE_SIZES}, reverse=True)
            found += [Case("allreduce", size, world_size) for size in sizes]
        if "operations" in only and world_size in OTHERS_WORLDS:
            size = min(LARGE, largest)
            found += [Case(name, size, world_size) for name in OTHERS]
    return found


def latency_cases(world_size: int, largest: int = LARGE) -> list[Case]:
    """None if there are none for so many ranks."""
    if world_size not in LATENCY_WORLDS:
        return []
    sizes = [size for size in LATENCY_SIZES if size <= largest]
    return [Case("allreduce", size, world_size, LATENCY) for size in sizes]
