"""Arenas: memory that this process and the daemon share, and the allocator inside of it.

The daemon makes an arena's memfd; the client allocates its blocks (so that its own memory limit
pays) and maps it. That costs about half a second per GiB, so arenas are kept and reused: `Pool` is
a caching allocator. Free blocks wait in lists by size class; if none fits, all free blocks are
merged with their neighbours; only then does the pool grow.

Thread-safe. Freeing takes no lock and may happen anywhere, also inside the garbage collector. An
arena stays mapped as long as the pool or an array refers to it, whatever becomes of the session.
"""

from __future__ import annotations

import bisect
import mmap
import threading
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tutti._reentry import cannot_allocate, is_held
from tutti.errors import LimitError

__all__ = ["Arena", "Block", "Pool", "size_class"]

# A cache line, and the widest vector. All size classes are multiples of it.
ALIGNMENT = 64
_CLASS_MIN = 256
_FIRST_ARENA = 4 << 20
_ARENA_STEP = 64 << 20
# Arenas are whole pages for the daemon; whole huge pages keep their number low.
_ARENA_ROUND = 2 << 20


class Arena:
    """One mapped arena. `number` names it to the daemon; `address` is where it lies here."""

    def __init__(self, number: int, memory: mmap.mmap) -> None:
        self.number = number
        self.size = len(memory)
        # The array, and with it each view of it, keeps the mapping.
        self.bytes: npt.NDArray[np.uint8] = np.frombuffer(memory, np.uint8)
        self.address = int(self.bytes.__array_interface__["data"][0])


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of an arena, owned by whom the pool gave it to, until `Pool.free`. In bytes."""

    arena: Arena
    offset: int
    size: int

    def view(
        self, shape: tuple[int, ...], dtype: npt.DTypeLike, offset: int = 0
    ) -> npt.NDArray[Any]:
        """Elements from `offset` bytes on as an array; it does not own the block."""
        kind = np.dtype(dtype)
        array: npt.NDArray[Any] = np.ndarray(shape, kind, self.arena.bytes, self.offset + offset)
        return array


def size_class(size_bytes: int) -> int:
    """What is set aside for `size_bytes`: four classes per doubling, sixteen from 1 MiB on.

    So at most a fifth is wasted on small tensors, and 6 % on large ones.
    """
    if size_bytes <= _CLASS_MIN:
        return _CLASS_MIN
    steps = 16 if size_bytes >= 1 << 20 else 4
    step = (1 << ((size_bytes - 1).bit_length() - 1)) // steps
    return -(-size_bytes // step) * step


class Pool:
    """Allocates blocks; grows by `make_arena(size_bytes)`, which runs without the pool's lock."""

    def __init__(self, make_arena: Callable[[int], Arena]) -> None:
        self._make_arena = make_arena
        self._lock = threading.RLock()
        self._grow_lock = threading.RLock()
        # Addresses, ascending, and their arenas. Replaced, never changed: read without the lock.
        self._table: tuple[list[int], list[Arena]] = ([], [])
        self._free: dict[int, list[Block]] = {}
        self._runs: list[Block] = []  # free, but in no class
        self._returned: deque[Block] = deque()  # freed, and not yet in a list

    @property
    def size_bytes(self) -> int:
        """Bytes of all arenas."""
        return sum(arena.size for arena in self._table[1])

    def allocate(self, size_bytes: int) -> Block:
        """A block of at least `size_bytes`, aligned to 64, with arbitrary content.

        Fails as `make_arena` does, if the pool has to grow.
        """
        size = size_class(size_bytes)
        if is_held(self._lock):
            raise cannot_allocate()
        while True:
            with self._lock:
                if (block := self._take(size)) is not None:
                    return block
                table = self._table
            if is_held(self._grow_lock):
                raise cannot_allocate()
            with self._grow_lock:
                # Another thread may have grown the pool while this one waited for its turn.
                if self._table is table:
                    self._grow(size)

    def free(self, block: Block) -> None:
        """Gives a block back. Takes no lock: the garbage collector may call it anywhere."""
        self._returned.append(block)

    def array(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """An array of its own block, freed with the last view of it. Content is arbitrary."""
        kind = np.dtype(dtype)
        if kind.hasobject:
            raise TypeError(f"arenas can't hold Python objects (dtype {kind})")
        count = 1
        for length in shape:
            count *= length
        block = self.allocate(count * kind.itemsize)
        # NumPy makes each view, also of views, refer to the array that has the foreign memory.
        root = np.frombuffer(block.arena.bytes.data, np.uint8, block.size, block.offset)
        weakref.finalize(root, self.free, block).atexit = False
        return root[: count * kind.itemsize].view(kind).reshape(shape)

    def find(self, address: int, size_bytes: int) -> tuple[Arena, int] | None:
        """The arena that holds these bytes, and their offset in it; None if none does."""
        addresses, arenas = self._table
        index = bisect.bisect_right(addresses, address) - 1
        if index < 0:
            return None
        offset = address - arenas[index].address
        return (arenas[index], offset) if offset + size_bytes <= arenas[index].size else None

    def take_unused(self) -> list[Arena]:
        """Removes the arenas in which nothing is allocated. The caller gives them back."""
        if is_held(self._lock):
            raise cannot_allocate()
        with self._lock:
            self._merge()
            unused = [run.arena for run in self._runs if run.size == run.arena.size]
            self._runs = [run for run in self._runs if run.size != run.arena.size]
            self._set_arenas([arena for arena in self._table[1] if arena not in unused])
            return unused

    def _take(self, size: int) -> Block | None:
        self._collect()
        free = self._free.get(size)
        if free:
            return free.pop()
        if (block := self._carve(size)) is None:
            self._merge()
            block = self._carve(size)
        return block

    def _collect(self) -> None:
        while self._returned:
            block = self._returned.popleft()
            self._free.setdefault(block.size, []).append(block)

    def _carve(self, size: int) -> Block | None:
        """Cuts a block off the smallest run that is large enough."""
        fitting = [index for index, run in enumerate(self._runs) if run.size >= size]
        if not fitting:
            return None
        index = min(fitting, key=lambda i: self._runs[i].size)
        run = self._runs[index]
        if run.size == size:
            del self._runs[index]
        else:
            self._runs[index] = Block(run.arena, run.offset + size, run.size - size)
        return Block(run.arena, run.offset, size)

    def _merge(self) -> None:
        """Turns all that is free into runs, each as long as can be."""
        self._collect()
        pieces = [*self._runs, *(block for free in self._free.values() for block in free)]
        pieces.sort(key=lambda piece: (piece.arena.address, piece.offset))
        runs: list[Block] = []
        for piece in pieces:
            last = runs[-1] if runs else None
            if last and last.arena is piece.arena and last.offset + last.size == piece.offset:
                runs[-1] = Block(last.arena, last.offset, last.size + piece.size)
            else:
                runs.append(piece)
        self._free.clear()
        self._runs = runs

    def _grow(self, size: int) -> None:
        # Small at first, for a process that only reduces a loss; then in steps of 64 MiB; then by
        # an eighth, for sessions have at most 256 arenas.
        total = self.size_bytes
        wanted = _whole(max(_FIRST_ARENA, min(total, _ARENA_STEP), total // 8, size))
        try:
            arena = self._make_arena(wanted)
        except LimitError:
            if wanted == _whole(size):
                raise
            arena = self._make_arena(_whole(size))
        with self._lock:
            self._set_arenas([*self._table[1], arena])
            self._runs.append(Block(arena, 0, arena.size))

    def _set_arenas(self, arenas: list[Arena]) -> None:
        arenas = sorted(arenas, key=lambda arena: arena.address)
        self._table = ([arena.address for arena in arenas], arenas)


def _whole(size_bytes: int) -> int:
    return -(-size_bytes // _ARENA_ROUND) * _ARENA_ROUND
