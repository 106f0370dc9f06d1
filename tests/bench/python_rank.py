"""Contestant: Tutti's Python client, with arrays in an arena or ordinary NumPy arrays.

    python_rank.py arena|numpy LIBRARY NAME RANK WORLD_SIZE CONTROL_SOCKET BARRIER_FILE SCRATCH

Speaks the protocol of serve.h, and waits at the same barrier (LIBRARY is barrier.cc). Allreduce
only: that is where Python's own share shows, and staging.
"""

from __future__ import annotations

import ctypes
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import tutti

Array = npt.NDArray[np.float32]


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


class Rank:
    """One rank of one group, and the array that it allreduces."""

    def __init__(self, group: tutti.Group, make: Callable[..., Any], barrier: Barrier) -> None:
        self._group = group
        self._make = make
        self._barrier = barrier
        self._array: Array = np.empty(0, np.float32)

    def answer(self, line: str) -> str:
        words = line.split()
        if words[0] == "prepare":
            return self._prepare(words[1], int(words[2]))
        if words[0] == "run":
            return self._time(words[1] == "cold", int(words[2]), int(words[3]))
        if words[0] == "drop":
            self._array = np.empty(0, np.float32)
            return "ok"
        raise ValueError(f"no such command: {line}")

    def _prepare(self, operation: str, size_bytes: int) -> str:
        if operation != "allreduce":
            return "unsupported"
        start = time.monotonic_ns()
        self._array = self._make(size_bytes // 4, np.float32)
        allocate_ns = time.monotonic_ns() - start
        pattern = np.arange(self._array.size, dtype=np.float32) % 997
        self._array[:] = pattern + (1 + self._group.rank)
        self._barrier.wait()
        start = time.monotonic_ns()
        self._group.allreduce(self._array)
        first_ns = time.monotonic_ns() - start
        # Element i is the sum over the ranks r of 1 + r + i % 997; all of these are exact.
        world_size = self._group.world_size
        wanted = pattern * world_size + world_size * (world_size + 1) // 2
        if not np.array_equal(self._array, wanted):
            return f"wrong rank {self._group.rank}: element 0 is {self._array[0]}"
        return f"ok {allocate_ns} {first_ns} "

    def _time(self, cold: bool, samples: int, batch: int) -> str:
        group, array = self._group, self._array
        figures = []
        group.allreduce(array)
        for _ in range(samples):
            if cold:
                self._barrier.evict(array)
            self._barrier.wait()
            start = time.perf_counter_ns()
            for _ in range(batch):
                group.allreduce(array)
            figures.append((time.perf_counter_ns() - start) / batch)
        return "ok " + " ".join(f"{figure:.1f}" for figure in figures)


def main() -> None:
    flavour, library, name, rank, world_size, control, barrier_path, _ = sys.argv[1:]
    client = tutti.Client()
    group = client.join(name, int(rank), int(world_size))
    barrier = Barrier(library, barrier_path, int(world_size))
    runner = Rank(group, client.empty if flavour == "arena" else np.empty, barrier)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(control)
        stream = connection.makefile("rw")
        print(f"{name} {rank} Tutti, Python client, {flavour}", file=stream, flush=True)
        for line in stream:
            print(runner.answer(line.strip()), file=stream, flush=True)
    client.close()


if __name__ == "__main__":
    main()
