"""From users' tensors to the spans of arenas that a work names, and back.

A contiguous tensor that lives in an arena is used where it is (zero copy). Any other is staged:
copied into a block if the work reads it, and copied back if the work writes it and has succeeded,
so that a failure leaves the user's memory as it was. All that one work stages lies in one block.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter

import numpy as np

from tutti import _wire
from tutti.arena import ALIGNMENT, Arena, Block, Pool
from tutti.tensors import BITS, Layout, Memory, check_writable

__all__ = ["Bound", "Part", "bind", "whole"]


@dataclass(slots=True)
class Part:
    """A tensor and its spans: it whole, or its pieces in their order.

    `lengths` in bytes; they add up to the tensor.
    """

    memory: Memory
    lengths: tuple[int, ...]


def whole(memory: Memory) -> Part:
    """The tensor as one span."""
    return Part(memory, (memory.size_bytes,))


@dataclass(slots=True)
class _Place:
    """Where a part is for the daemon: in `arena`, or (None) in the work's block; at `offset`."""

    part: Part
    arena: Arena | None
    offset: int = 0
    read: bool = False
    write: bool = False


class Bound:
    """The tensors of one work. `inputs` and `outputs` are what the work names.

    Owned by the work; keeps the tensors alive until it is dropped.
    """

    __slots__ = ("_blocks", "_places", "_pool", "inputs", "outputs")

    def __init__(
        self,
        inputs: list[_wire.client.Span],
        outputs: list[_wire.client.Span],
        places: list[_Place],
        pool: Pool,
        block: Block | None,
    ) -> None:
        """Made by `bind`."""
        self.inputs = inputs
        self.outputs = outputs
        self._places = places
        self._pool = pool
        self._blocks = [] if block is None else [block]

    @property
    def results_bytes(self) -> int:
        """What `finish` has to copy after a success."""
        return sum(
            place.part.memory.size_bytes
            for place in self._places
            if place.write and place.arena is None
        )

    def finish(self, success: bool) -> None:
        """Copies staged results back if there are any; gives the block back.

        Only the first call does it. Thread-safe: after Ctrl-C two threads may think it is theirs.
        """
        try:
            block = self._blocks.pop()
        except IndexError:
            return
        try:
            if success:
                for place in self._places:
                    if place.write and place.arena is None:
                        _copy(place, block, into_block=False)
        finally:
            self._pool.free(block)


def bind(inputs: Sequence[Part], outputs: Sequence[Part], pool: Pool, rank: int) -> Bound:
    """Finds or stages what a work of `rank` reads and writes. Elements are of one dtype.

    A tensor that is read and written is named by one span where the work may do so in place (see
    Work in tutti/v1/client.proto). Where it may not, what is read is staged: any tensor may be
    given as an input and as an output, and the result is that of reading all inputs first.

    Raises ValueError for memory that can't be written and for outputs that overlap, and what the
    pool raises when it can't grow.
    """
    check_writable([part.memory for part in outputs])
    _check_apart(outputs)
    places_out = [_Place(part, *_find(part.memory, pool), write=True) for part in outputs]
    places_in = []
    for index, part in enumerate(inputs):
        if len(inputs) == len(outputs) and _is_same(part, outputs[index]):
            place = places_out[index]
            place.read = True
        else:
            place = _Place(part, *_find(part.memory, pool), read=True)
        places_in.append(place)
    only_read = [place for place in places_in if not place.write]
    if any(place.arena for place in only_read) and any(place.arena for place in places_out):
        _stage_what_collides(places_in, places_out, rank)
    places = [*places_out, *only_read]
    block = _allocate(places, pool)
    try:
        if block is not None:
            for place in places:
                if place.read and place.arena is None:
                    _copy(place, block, into_block=True)
        spans = _spans(places_in, block), _spans(places_out, block)
        return Bound(*spans, places, pool, block)
    except BaseException:
        if block is not None:
            pool.free(block)
        raise


def _find(memory: Memory, pool: Pool) -> tuple[Arena | None, int]:
    size_bytes = memory.size_bytes
    if memory.contiguous and size_bytes and memory.address % memory.itemsize == 0:
        found = pool.find(memory.address, size_bytes)
        if found is not None:
            return found
    return None, 0


def _is_same(one: Part, other: Part) -> bool:
    if one is other:
        return True
    return one.lengths == other.lengths and one.memory.layout == other.memory.layout


def _check_apart(outputs: Sequence[Part]) -> None:
    """Two outputs in one place can't both keep their results. Those with gaps may be interleaved,
    like the columns of a matrix, so they are refused only if they are the same.
    """
    if len(outputs) < 2:
        return
    memories = [part.memory for part in outputs if part.memory.size_bytes]
    memories.sort(key=lambda memory: memory.address)
    layouts: dict[Layout, Memory] = {}
    end = 0
    last: Memory | None = None
    for memory in memories:
        other: Memory | None = layouts.setdefault(memory.layout, memory)
        if memory.contiguous:
            if memory.address < end:
                other = last
            end, last = memory.address + memory.size_bytes, memory
        if other is not None and other is not memory:
            raise ValueError(
                f"{other.name} and {memory.name} overlap, so they can't both hold a result; pass "
                "tensors that are apart"
            )


def _stage_what_collides(
    places_in: Sequence[_Place], places_out: Sequence[_Place], rank: int
) -> None:
    """Takes inputs that lie where outputs do out of their arenas, unless the work is in place."""
    # By address, as the ends are too, because outputs are apart.
    writes = []
    count_in = sum(len(place.part.lengths) for place in places_in)
    count_out = 0
    for place in places_out:
        for start, end in _ranges(place):
            if start < end and place.arena is not None:
                writes.append((start, end, count_out))
            count_out += 1
    writes.sort()
    number = 0
    for place in places_in:
        for start, end in _ranges(place):
            collides = False
            if start < end and place.arena is not None and not place.write:
                index = bisect.bisect_right(writes, start, key=itemgetter(1))
                if index < len(writes) and writes[index][0] < end:
                    output = writes[index][2]
                    if count_in == count_out:
                        in_place = number == output
                    else:  # a list and one tensor, which is number 0
                        in_place = max(number, output) == rank
                    collides = not in_place or writes[index][:2] != (start, end)
            number += 1
            if collides:
                place.arena, place.offset = None, 0


def _ranges(place: _Place) -> Iterable[tuple[int, int]]:
    """The addresses of its spans, if it is contiguous."""
    start = place.part.memory.address
    for length in place.part.lengths:
        yield start, start + length
        start += length


def _allocate(places: Sequence[_Place], pool: Pool) -> Block | None:
    """One block for all that is staged, in order."""
    size_bytes = 0
    for place in places:
        if place.arena is None:
            place.offset = size_bytes
            size_bytes += -(-place.part.memory.size_bytes // ALIGNMENT) * ALIGNMENT
    return pool.allocate(size_bytes) if size_bytes else None


def _copy(place: _Place, block: Block, into_block: bool) -> None:
    memory = place.part.memory
    if memory.size_bytes:
        staged = block.view(memory.shape, BITS[memory.itemsize], place.offset)
        if into_block:
            np.copyto(staged, memory.bits())
        else:
            np.copyto(memory.bits(), staged)


def _spans(places: Iterable[_Place], block: Block | None) -> list[_wire.client.Span]:
    spans = []
    for place in places:
        arena, offset = place.arena, place.offset
        if arena is None and block is not None:
            arena, offset = block.arena, block.offset + offset
        for length in place.part.lengths:
            if length and arena is not None:
                spans.append(_wire.client.Span(arena=arena.number, offset=offset, length=length))
                offset += length
            else:  # it has no elements, and needs no memory
                spans.append(_wire.client.Span())
    return spans
