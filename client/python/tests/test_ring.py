"""The client's ends of a ring, over mere memory, against the fake daemon's of it."""

from __future__ import annotations

import itertools
import random

import pytest
from fake_ring import (
    CLIENT_SLEEPS,
    COMPLETION_HEAD,
    COMPLETION_TAIL,
    DAEMON_SLEEPS,
    SLOT_BYTES,
    SLOTS,
    SUBMISSION_HEAD,
    SUBMISSION_TAIL,
    RingMemory,
)

import tutti
from tutti._ring import Completions, Submissions, entries_for, format_region, region_bytes

FIELDS = (2, 3, 4, 5, 6, 7, 1, 1, 10, 11, 12, 13, 14, 15)


class Ring:
    """Both sides of one."""

    def __init__(self, entries: int) -> None:
        memory = memoryview(bytearray(region_bytes(entries)))
        format_region(memory, entries)
        self.daemon = RingMemory(memory)
        self.submissions = Submissions(memory, entries)
        self.completions = Completions(memory, entries)

    def complete(self, serial: int, *fields: int) -> None:
        """The daemon does; `fields` are number, failure, failure_bytes."""
        tail = self.daemon.word(COMPLETION_TAIL)
        self.daemon.put_completion(tail, serial, *fields)
        self.daemon.set_word(COMPLETION_TAIL, tail + 1)


@pytest.fixture
def ring() -> Ring:
    return Ring(4)


@pytest.mark.parametrize(
    ("in_flight", "entries"),
    [(0, 2), (1, 2), (2, 2), (3, 4), (4, 4), (1024, 1024), (1025, 2048), (5000, 4096)],
)
def test_sizes(in_flight: int, entries: int) -> None:
    assert entries_for(in_flight) == entries
    assert region_bytes(entries) == 4096 + entries * 160 + 16 * 4096


def test_an_entry_is_as_the_layout_says(ring: Ring) -> None:
    assert ring.submissions.number_of_next(4) == 1
    ring.submissions.put(1, *FIELDS)
    entry = ring.daemon.submission(0)
    words = [int.from_bytes(entry[at : at + 8], "little") for at in range(0, 128, 8)]
    small = 4 | 5 << 32 | 6 << 40 | 7 << 48
    assert words == [1, 2, 3, small, 1 | 1 << 32, 10, 11, 12, 13, 14, 15, 0, 0, 0, 0, 0]
    assert ring.daemon.word(SUBMISSION_TAIL) == ring.submissions.last_number == 1


@pytest.mark.parametrize("entries", [2, 4, 64])
def test_round_and_round(entries: int) -> None:
    """Bursts of any length, often enough to pass the end of the ring many times."""
    ring, generator, taken, completed = Ring(entries), random.Random(entries), 0, 0
    daemon = ring.daemon
    while completed < 20 * entries:
        for _ in range(generator.randrange(entries + 1)):
            number = ring.submissions.number_of_next(entries)
            if not number:
                assert ring.submissions.in_flight == entries
                break
            ring.submissions.put(number, number * 7, *FIELDS[1:])
        while taken < daemon.word(SUBMISSION_TAIL):
            entry = daemon.submission(taken)
            taken += 1
            assert int.from_bytes(entry[:8], "little") == taken
            assert int.from_bytes(entry[8:16], "little") == taken * 7
            daemon.set_word(SUBMISSION_HEAD, taken)
            ring.complete(taken, taken, 0, 0)
        for _ in range(generator.randrange(daemon.word(COMPLETION_TAIL) - completed + 1)):
            completed += 1
            assert not ring.completions.is_empty()
            assert ring.completions.peek() == (completed, completed, None)
            ring.completions.take(completed)
            assert daemon.word(COMPLETION_HEAD) == ring.completions.taken == completed


def test_as_many_as_may_be_in_flight(ring: Ring) -> None:
    for number in (1, 2, 3):
        assert ring.submissions.number_of_next(3) == number
        ring.submissions.put(number, *FIELDS)
    assert ring.submissions.number_of_next(3) == 0
    ring.daemon.set_word(SUBMISSION_HEAD, 3)
    assert ring.submissions.number_of_next(3) == 0, "taken is not completed"
    ring.complete(1, 2, 0, 0)
    assert ring.submissions.number_of_next(3) == 0, "completed is not seen"
    ring.completions.take(1)
    assert ring.submissions.number_of_next(3) == 4


def test_what_was_not_taken_is_seen_again(ring: Ring) -> None:
    """Ctrl-C between the two is nothing but that."""
    ring.complete(1, 9, 0, 0)
    ring.complete(2, 8, 0, 0)
    assert ring.completions.peek() == ring.completions.peek() == (1, 9, None)
    ring.completions.take(1)
    ring.completions.take(1)
    assert ring.completions.peek() == (2, 8, None), "to take it twice takes no other"
    ring.completions.take(2)
    assert ring.completions.peek() is None


class TestFailures:
    """They lie in slots, and are copied out."""

    def test_slots_are_used_again(self, ring: Ring) -> None:
        for serial, slot in zip(itertools.count(1), (0, 15, 0, 0, 7), strict=False):
            text = f"failure {serial}".encode()
            at = ring.daemon.slot_at(slot)
            ring.daemon.memory[at : at + len(text)] = text
            ring.complete(serial, 5, slot + 1, len(text))
            seen = ring.completions.peek()
            ring.completions.take(serial)
            ring.daemon.memory[at : at + 20] = b"x" * 20
            assert seen == (serial, 5, text)

    def test_a_whole_slot_and_nothing(self, ring: Ring) -> None:
        at = ring.daemon.slot_at(SLOTS - 1)
        assert at + SLOT_BYTES == len(ring.daemon.memory)
        ring.daemon.memory[at : at + SLOT_BYTES] = b"y" * SLOT_BYTES
        ring.complete(1, 5, SLOTS, SLOT_BYTES)
        assert ring.completions.peek() == (1, 5, b"y" * SLOT_BYTES)
        ring.completions.take(1)
        ring.complete(2, 6, 1, 0)
        assert ring.completions.peek() == (2, 6, b"")

    @pytest.mark.parametrize(
        ("slot", "size"), [(SLOTS + 1, 1), (1, SLOT_BYTES + 1), (2**32 - 1, 0)]
    )
    def test_no_such_slot(self, ring: Ring, slot: int, size: int) -> None:
        ring.complete(1, 5, slot, size)
        with pytest.raises(tutti.CollectiveError, match=f"of {size} bytes in slot {slot}"):
            ring.completions.peek()


class TestBroken:
    """Indexes that can't be."""

    @pytest.mark.parametrize("tail", [5, 2**64 - 1, 1 << 32])
    def test_completions(self, ring: Ring, tail: int) -> None:
        ring.daemon.set_word(COMPLETION_TAIL, tail)
        assert not ring.completions.is_empty()
        with pytest.raises(tutti.CollectiveError, match="of which 0 were taken") as caught:
            ring.completions.peek()
        assert caught.value.cause is tutti.Cause.PROTOCOL

    def test_completions_that_go_back(self, ring: Ring) -> None:
        for serial in (1, 2):
            ring.complete(serial, serial, 0, 0)
            ring.completions.take(serial)
        ring.daemon.set_word(COMPLETION_TAIL, 1)
        with pytest.raises(tutti.CollectiveError, match="1 completions, of which 2"):
            ring.completions.peek()

    @pytest.mark.parametrize("serial", [0, 2, 3, 2**64 - 1])
    def test_serials(self, ring: Ring, serial: int) -> None:
        ring.complete(serial, 1, 0, 0)
        with pytest.raises(tutti.CollectiveError, match=f"completion {serial} follows 0"):
            ring.completions.peek()

    @pytest.mark.parametrize("head", [2, 2**64 - 1, 1 << 32])
    def test_submissions(self, ring: Ring, head: int) -> None:
        ring.submissions.put(ring.submissions.number_of_next(4), *FIELDS)
        ring.daemon.set_word(SUBMISSION_HEAD, head)
        with pytest.raises(tutti.CollectiveError, match=f"{head} works were taken, of 1"):
            ring.submissions.number_of_next(4)

    def test_completed_but_not_taken(self, ring: Ring) -> None:
        """Then there may be no place for the next one."""
        for number in (1, 2, 3, 4):
            ring.submissions.put(number, *FIELDS)
        ring.complete(1, 1, 0, 0)
        ring.completions.take(1)
        with pytest.raises(tutti.CollectiveError, match="0 works were taken, of 4"):
            ring.submissions.number_of_next(4)


def test_flags(ring: Ring) -> None:
    for value in (1, 0):
        ring.completions.sleep(bool(value))
        assert ring.daemon.flag(CLIENT_SLEEPS) == value
        ring.daemon.set_flag(DAEMON_SLEEPS, value)
        assert ring.submissions.must_ring() == bool(value)
    neighbours = [at for at in range(0x40, 4096, 8) if ring.daemon.word(at)]
    assert not neighbours, "nothing else was written"
