"""serve.h and rank_contestant.h for contestants in Python: the protocol, the barrier, the pattern.
Allreduce only: that is where Python's own share shows.

    ...rank.py [FLAVOUR] LIBRARY NAME RANK WORLD_SIZE CONTROL_SOCKET BARRIER_FILE SCRATCH
"""

from __future__ import annotations

import ctypes
import dataclasses
import socket
import time
from collections.abc import Callable
from typing import Any

import pattern
from pattern import Array


@dataclasses.dataclass(frozen=True)
class Arguments:
    """How the program was called. LIBRARY is barrier.cc."""

    library: str
    name: str
    rank: int
    world_size: int
    control: str
    barrier: str
    scratch: str

    @staticmethod
    def parse(words: list[str]) -> Arguments:
        library, name, rank, world_size, control, barrier, scratch = words
        return Arguments(library, name, int(rank), int(world_size), control, barrier, scratch)


@dataclasses.dataclass(frozen=True)
class Buffer:
    """What is allreduced in place: its memory, to be filled and checked, and one operation on it,
    from the call to the result.
    """

    array: Array
    allreduce: Callable[[], Any]


class Barrier:
    """barrier.h, from here."""

    def __init__(self, library: str, path: str, parties: int) -> None:
        self._library = ctypes.CDLL(library)
        self._library.tutti_bench_barrier_open.restype = ctypes.c_void_p
        self._library.tutti_bench_barrier_wait.argtypes = [ctypes.c_void_p]
        self._library.tutti_bench_evict.argtypes = [ctypes.c_void_p, ctypes.c_uint64]
        self._barrier = self._library.tutti_bench_barrier_open(path.encode(), parties)

    def wait(self) -> None:
        self._library.tutti_bench_barrier_wait(self._barrier)

    def evict(self, array: Array) -> None:
        self._library.tutti_bench_evict(array.ctypes.data, array.nbytes)


class _Rank:
    """One rank, and what it allreduces."""

    def __init__(self, arguments: Arguments, make: Callable[[int], Buffer]) -> None:
        self._place = arguments
        self._make = make
        self._barrier = Barrier(arguments.library, arguments.barrier, arguments.world_size)
        self._buffer: Buffer | None = None

    def answer(self, line: str) -> str:
        words = line.split()
        if words[0] == "prepare":
            return self._prepare(words[1], int(words[2]))
        if words[0] == "run":
            return self._time(words[1] == "cold", int(words[2]), int(words[3]))
        if words[0] == "drop":
            self._buffer = None
            return "ok"
        raise ValueError(f"no such command: {line}")

    def _prepare(self, operation: str, size_bytes: int) -> str:
        if operation != "allreduce":
            return "unsupported"
        start = time.monotonic_ns()
        buffer = self._buffer = self._make(size_bytes // 4)
        allocate_ns = time.monotonic_ns() - start
        pattern.fill(buffer.array, self._place.rank)
        self._barrier.wait()
        start = time.monotonic_ns()
        buffer.allreduce()
        first_ns = time.monotonic_ns() - start
        if not pattern.is_sum(buffer.array, self._place.world_size):
            return f"wrong rank {self._place.rank}: element 0 is {buffer.array[0]}"
        return f"ok {allocate_ns} {first_ns} "

    def _time(self, cold: bool, samples: int, batch: int) -> str:
        assert self._buffer is not None
        allreduce = self._buffer.allreduce
        figures = []
        for _ in range(max(1, batch // 4)):
            allreduce()
        for _ in range(samples):
            if cold:
                # As serve.cc does: not before all have seen the end of the last sample.
                self._barrier.wait()
                self._barrier.evict(self._buffer.array)
            self._barrier.wait()
            start = time.perf_counter_ns()
            for _ in range(batch):
                allreduce()
            figures.append((time.perf_counter_ns() - start) / batch)
        return "ok " + " ".join(f"{figure:.1f}" for figure in figures)


def serve(arguments: Arguments, description: str, make: Callable[[int], Buffer]) -> None:
    """Takes commands until there are no more. `make` makes a buffer of so many float32."""
    rank = _Rank(arguments, make)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(arguments.control)
        stream = connection.makefile("rw")
        print(f"{arguments.name} {arguments.rank} {description}", file=stream, flush=True)
        for line in stream:
            print(rank.answer(line.strip()), file=stream, flush=True)
