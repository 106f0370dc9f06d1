"""From users' tensors to the spans of arenas that a work names, and back.

A contiguous tensor that lives in an arena is used where it is (zero copy). Any other is staged:
copied into a block if the work reads it, and copied back if the work writes it and has succeeded,
so that a failure leaves the user's memory as it was. All that one work stages lies in one block.
"""

from __future__ import annotations

import bisect
import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import TypeAlias

from tutti.arena import ALIGNMENT, Arena, Block, Pool
from tutti.tensors import BITS, Layout, Memory, check_writable

__all__ = ["Bound", "Part", "Span", "bind", "check_outputs", "whole"]

# A range of an arena: the arena's number, offset, length in bytes. What has no elements lies
# nowhere: all three are 0.
Span: TypeAlias = tuple[int, int, int]


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


class _Place:
    """Where a part is for the daemon: in `arena`, or (None) in the work's block; at `offset`."""

    __slots__ = ("arena", "offset", "part", "read", "write")

    def __init__(self, part: Part, pool: Pool, read: bool, write: bool) -> None:
        """In an arena of the pool if it lies there as a whole."""
        self.part = part
        self.read = read
        self.write = write
        memory = part.memory
        found = None
        if memory.contiguous and memory.size_bytes and memory.address % memory.itemsize == 0:
            found = pool.find(memory.address, memory.size_bytes)
        self.arena, self.offset = found or _NOWHERE


_NOWHERE: tuple[Arena | None, int] = (None, 0)


class Bound:
    """The tensors of one work. `inputs` and `outputs` are what the work names.

    Owned by the work; keeps the tensors alive until it is dropped.
    """

    __slots__ = ("_blocks", "_places", "_pool", "_staged", "inputs", "outputs", "results_bytes")

    def __init__(
        self,
        inputs: list[Span],
        outputs: list[Span],
        places: Sequence[_Place],
        pool: Pool,
        staged: Block | None,
    ) -> None:
        """Made by `bind`."""
        self.inputs = inputs
        self.outputs = outputs
        # What `finish` has to copy after a success.
        self.results_bytes = 0
        self._places = places
        self._pool = pool
        self._staged = staged
        self._blocks: list[Block] = []
        if staged is not None:
            self._blocks.append(staged)
            self.results_bytes = sum(
                place.part.memory.size_bytes
                for place in places
                if place.write and place.arena is None
            )

    def keep(self, block: Block) -> None:
        """Gives this block back as well at the end."""
        self._blocks.append(block)

    def finish(self, success: bool) -> None:
        """Copies staged results back if there are any; gives the blocks back. Later calls do
        nothing, but a call that is interrupted (Ctrl-C) may be made again, and does all of it; also
        by a signal handler, after which the interrupted one does nothing.

        Not to be called with True by two threads at once.
        """
        if not self._blocks:
            return
        try:
            if success and self._staged is not None:
                for place in self._places:
                    if place.write and place.arena is None:
                        _copy_out(place, self._staged, self._blocks)
        except Exception:
            self._give_back()
            raise
        self._give_back()

    def _give_back(self) -> None:
        # Each block once, though there may be two threads.
        with contextlib.suppress(IndexError):
            while True:
                self._pool.free(self._blocks.pop())


def bind(inputs: Sequence[Part], outputs: Sequence[Part], pool: Pool, rank: int) -> Bound:
    """Finds or stages what a work of `rank` reads and writes. Elements are of one dtype.

    A tensor that is read and written is named by one span where the work may do so in place (see
    Work in tutti/v1/client.proto). Where it may not, what is read is staged: any tensor may be
    given as an input and as an output, and the result is that of reading all inputs first.

    Raises ValueError for memory that can't be written and for outputs that overlap, and what the
    pool raises when it can't grow.
    """
    check_outputs(outputs)
    in_place = inputs is outputs
    places_out = [_Place(part, pool, in_place, True) for part in outputs]
    places = places_in = places_out
    if not in_place:
        places_in = _place_inputs(inputs, places_out, pool)
        only_read = [place for place in places_in if not place.write]
        if any(place.arena for place in only_read) and any(place.arena for place in places_out):
            _stage_what_collides(places_in, places_out, rank)
        places = [*places_out, *only_read]
    block = _allocate(places, pool)
    try:
        if block is not None:
            for place in places:
                if place.read and place.arena is None:
                    _copy_in(place, block)
        spans = _spans(places_in, block)
        spans_out = spans if in_place else _spans(places_out, block)
        return Bound(spans, spans_out, places, pool, block)
    except BaseException:
        if block is not None:
            pool.free(block)
        raise


def check_outputs(outputs: Sequence[Part]) -> None:
    """Raises ValueError for memory that can't be written, and if outputs overlap."""
    for part in outputs:
        if not part.memory.is_plain:
            check_writable([part.memory for part in outputs])
            break
    if len(outputs) > 1:
        _check_apart(outputs)


def _place_inputs(
    inputs: Sequence[Part], places_out: Sequence[_Place], pool: Pool
) -> list[_Place]:
    """What is written as well has one place."""
    places = []
    for index, part in enumerate(inputs):
        if len(inputs) == len(places_out) and _is_same(part, places_out[index].part):
            place = places_out[index]
            place.read = True
        else:
            place = _Place(part, pool, True, False)
        places.append(place)
    return places


def _is_same(one: Part, other: Part) -> bool:
    if one is other:
        return True
    return one.lengths == other.lengths and one.memory.layout == other.memory.layout


def _check_apart(outputs: Sequence[Part]) -> None:
    """Two outputs in one place can't both keep their results. Those with gaps may be interleaved,
    like the columns of a matrix, so they are refused only if they are the same.
    """
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


def _copy_in(place: _Place, block: Block) -> None:
    memory = place.part.memory
    if memory.size_bytes:
        block.view(memory.shape, BITS[memory.itemsize], place.offset)[...] = memory.bits()


def _copy_out(place: _Place, block: Block, held: list[Block]) -> None:
    """Does nothing if `held` is empty: a signal handler has done it, and given the block back."""
    memory = place.part.memory
    if memory.size_bytes:
        staged = block.view(memory.shape, BITS[memory.itemsize], place.offset)
        users = memory.bits()
        # No handler can come between the two: an assignment calls no Python.
        if held:
            users[...] = staged


def _spans(places: Iterable[_Place], block: Block | None) -> list[Span]:
    spans = []
    for place in places:
        arena, offset = place.arena, place.offset
        if arena is None and block is not None:
            arena, offset = block.arena, block.offset + offset
        for length in place.part.lengths:
            if length and arena is not None:
                spans.append((arena.number, offset, length))
                offset += length
            else:
                spans.append((0, 0, 0))
    return spans
