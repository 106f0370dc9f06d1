"""An actor of the benchmark in Ray: one rank, for all contestants."""

from __future__ import annotations

import dataclasses
import functools
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pattern
import ray
from pattern import Array
from python_serve import Barrier

# By flavour: the backend, and the name of its group. Ray's Gloo does without a group of its own
# beside torch's if it is called so, which is its fastest.
GROUPS = {"gloo": ("GLOO", "default"), "tutti": ("TUTTI", "tutti")}

# When a task began and ended, by the monotonic clock, which all processes share.
Span = tuple[int, int]


@dataclasses.dataclass
class _Buffer:
    array: Array
    allreduce: Callable[[], Any]
    # One for each rank; see give_parts.
    parts: Sequence[Array] = ()


class Rank:
    """Holds the tensors of all contestants by their names. `barrier`: library, path."""

    def __init__(self, rank: int, world_size: int, barrier: tuple[str, str] | None) -> None:
        # It takes seconds, and is no part of what is measured.
        from ray.util import collective

        self._col: Any = collective
        self._rank, self._world_size = rank, world_size
        self._barrier = Barrier(*barrier, world_size) if barrier else None
        self._buffers: dict[str, _Buffer] = {}

    def pid(self) -> int:
        return os.getpid()

    # --- Groups ---

    def join(self, flavour: str, rank: int | None = None) -> Span:
        """Makes the group, up to and with its first barrier."""
        backend, group = GROUPS[flavour]
        begin_ns = time.monotonic_ns()
        chosen = self._rank if rank is None else rank
        self._col.init_collective_group(self._world_size, chosen, backend, group)
        self._col.barrier(group)
        return begin_ns, time.monotonic_ns()

    def leave(self, flavour: str) -> None:
        self._col.destroy_collective_group(GROUPS[flavour][1])

    def allreduce_until_lost(self, flavour: str) -> tuple[int, str]:
        """When the group broke, and what it raised."""
        array = np.zeros(256, np.float32)
        while True:
            try:
                self._col.allreduce(array, GROUPS[flavour][1])
            except RuntimeError as error:
                return time.monotonic_ns(), f"{type(error).__name__}: {error}".split("\n")[0]

    def rejoin(self, flavour: str, rank: int) -> int:
        """Makes the group anew, and returns when an allreduce of it has succeeded."""
        if self._col.is_group_initialized(GROUPS[flavour][1]):
            self.leave(flavour)
        self.join(flavour, rank)
        array = np.ones(256, np.float32)
        self._col.allreduce(array, GROUPS[flavour][1])
        if not (array == self._world_size).all():
            raise ValueError(f"wrong rank {rank}: element 0 is {array[0]}")
        return time.monotonic_ns()

    # --- Tensors ---

    def prepare(self, name: str, flavour: str, size_bytes: int) -> int:
        """How long it took to make the memory."""
        begin_ns = time.monotonic_ns()
        self._buffers[name] = self._make(flavour, size_bytes // 4)
        return time.monotonic_ns() - begin_ns

    def fill(self, name: str) -> None:
        pattern.fill(self._buffers[name].array, self._rank)

    def check(self, name: str) -> str:
        """Empty if it has the sum."""
        array = self._buffers[name].array
        if pattern.is_sum(array, self._world_size):
            return ""
        return f"wrong rank {self._rank}: element 0 is {array[0]}"

    def drop(self, name: str) -> None:
        self._buffers.pop(name, None)

    def step(self, name: str) -> None:
        """One operation, as a task."""
        self._buffers[name].allreduce()

    def run(self, name: str, samples: int, batch: int, untimed: int) -> list[float]:
        """Nanoseconds of one operation, sample by sample."""
        assert self._barrier is not None
        allreduce = self._buffers[name].allreduce
        figures = []
        for _ in range(untimed):
            allreduce()
        for _ in range(samples):
            self._barrier.wait()
            start = time.perf_counter_ns()
            for _ in range(batch):
                allreduce()
            figures.append((time.perf_counter_ns() - start) / batch)
        return figures

    def _make(self, flavour: str, count: int) -> _Buffer:
        if flavour == "empty":
            return _Buffer(np.empty(0, np.float32), lambda: None)
        if flavour == "gloo":
            import torch

            tensor = torch.empty(count, dtype=torch.float32)
            return _Buffer(tensor.numpy(), lambda: self._col.allreduce(tensor, "default"))
        if flavour == "arena":
            import tutti

            array = tutti.empty(count, np.float32)
        else:
            array = np.empty(count, np.float32)
        return _Buffer(array, lambda: self._col.allreduce(array, "tutti"))

    # --- What the object store is used for ---

    def give(self, name: str) -> Array:
        """Into the object store, if it is not small."""
        return self._buffers[name].array

    def add(self, name: str, others: list[Any]) -> None:
        """Adds what others gave."""
        array = self._buffers[name].array
        for other in ray.get(others):
            np.add(array, other, out=array)

    def replace_by_sum(self, name: str, given: list[Any]) -> None:
        """A new array: what ray.get returns is read-only."""
        self._buffers[name].array = functools.reduce(np.add, ray.get(given))

    def add_and_give(self, name: str, others: list[Any]) -> Array:
        self.add(name, others)
        return self.give(name)

    def take(self, name: str, given: list[Any]) -> None:
        """Gets the one array that another has given."""
        np.copyto(self._buffers[name].array, ray.get(given[0]))

    def give_parts(self, name: str) -> list[Array]:
        """One for each rank."""
        buffer = self._buffers[name]
        buffer.parts = np.array_split(buffer.array, self._world_size)
        return list(buffer.parts)

    def add_part(self, name: str, others: list[Any]) -> Array:
        """Adds the others' parts to its own, and gives the sum."""
        part = self._buffers[name].parts[self._rank]
        for other in ray.get(others):
            np.add(part, other, out=part)
        return part

    def take_parts(self, name: str, sums: list[Any]) -> None:
        """Gets all parts but its own."""
        parts = self._buffers[name].parts
        others = [rank for rank in range(self._world_size) if rank != self._rank]
        for rank, each in zip(others, ray.get([sums[rank] for rank in others])):
            np.copyto(parts[rank], each)
