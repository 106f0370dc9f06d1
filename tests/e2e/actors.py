"""Ranks as processes of their own, which a test tells what to do.

    with Actors(4) as actors:
        actors.all(function_of_this_module, "its third argument")

An actor keeps its process, its default client and its groups from call to call, as Ray's do.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

# Spawned, for a fork of a process that uses gRPC can't use it.
_CONTEXT = multiprocessing.get_context("spawn")
DEADLINE_S = 60.0


def _serve(rank: int, world_size: int, pipe: Connection) -> None:
    while True:
        try:
            function, arguments = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send((True, function(rank, world_size, *arguments)))
        except BaseException as error:
            error.__notes__ = [traceback.format_exc()]  # type: ignore[attr-defined]
            pipe.send((False, error))


class Actor:
    """One rank's process."""

    def __init__(self, rank: int, world_size: int) -> None:
        self.rank = rank
        self._pipe, theirs = _CONTEXT.Pipe()
        self.process = _CONTEXT.Process(target=_serve, args=(rank, world_size, theirs))
        self.process.start()
        theirs.close()

    def start(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Lets it run function(rank, world_size, *arguments), which must be importable."""
        self._pipe.send((function, arguments))

    def result(self) -> Any:
        """What the function returned; raises what it raised."""
        assert self._pipe.poll(DEADLINE_S), f"rank {self.rank} hangs"
        good, value = self._pipe.recv()
        if not good:
            raise value
        return value

    def kill(self) -> None:
        """Kills it, and returns when it is gone."""
        assert self.process.pid is not None
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.join(DEADLINE_S)

    def close(self) -> None:
        """Lets it end."""
        self._pipe.close()

    def join(self) -> None:
        """Waits for its end, and kills it if that takes too long."""
        self.process.join(DEADLINE_S)
        if self.process.is_alive():
            self.kill()
            raise AssertionError(f"rank {self.rank} does not end")


class Actors:
    """All ranks of a test."""

    def __init__(self, count: int) -> None:
        self._actors = [Actor(rank, count) for rank in range(count)]

    def __getitem__(self, rank: int) -> Actor:
        return self._actors[rank]

    def all(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """Runs it on all ranks at once; returns the results in the order of ranks."""
        return self.some(range(len(self._actors)), function, *arguments)

    def some(self, ranks: Any, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """The same on some ranks."""
        for rank in ranks:
            self._actors[rank].start(function, *arguments)
        return [self._actors[rank].result() for rank in ranks]

    def __enter__(self) -> Actors:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for actor in self._actors:
            actor.close()
        for actor in self._actors:
            actor.join()
