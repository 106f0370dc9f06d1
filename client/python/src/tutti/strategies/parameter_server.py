"""One rank has the parameters; the others, its workers, push gradients and get parameters back.

In step: all workers push, and the server takes one step with the mean of their gradients. Or each
when it likes (asynchronous): the server takes a step with each push, in the order of arrival; a
slow worker holds nobody up, and one that dies is missed by nobody.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from tutti import collective
from tutti.errors import CollectiveError
from tutti.strategies._flat import Flat

SERVER = 0
# With a worker that computes: as long as a daemon allows by default (timeout_max_ms).
_PATIENCE_S = 24 * 3600.0

# Takes gradients, shaped as the parameters, and changes the parameters.
Update = Callable[[list[Any]], None]


class ParameterServer:
    """Rank 0 of a group whose other ranks are `Worker`s. One thread."""

    def __init__(self, parameters: Sequence[Any], group_name: str = "default") -> None:
        """Gives all workers the parameters: tensors of one dtype. The group is initialized."""
        self._parameters = parameters
        self._group = group_name
        self._flat = Flat(parameters)
        self._send()

    def step(self, update: Update) -> None:
        """Waits for the gradients of all workers, calls `update` with their mean, and gives the
        workers the parameters. Raises CollectiveError.
        """
        workers = collective.get_collective_group_size(self._group) - 1
        self._flat.tensor[...] = 0
        collective.reduce(self._flat.tensor, SERVER, self._group)
        self._flat.tensor[...] /= max(1, workers)
        update(self._flat.parts)
        self._send()

    def _send(self) -> None:
        self._flat.load(self._parameters)
        collective.broadcast(self._flat.tensor, SERVER, self._group)


class Worker:
    """Any rank but 0 of the group of a `ParameterServer`. One thread."""

    def __init__(self, parameters: Sequence[Any], group_name: str = "default") -> None:
        """Replaces `parameters` by the server's."""
        self._parameters = parameters
        self._group = group_name
        self._flat = Flat(parameters)
        self._receive()

    def step(self, gradients: Sequence[Any]) -> None:
        """Pushes gradients, shaped as the parameters, and replaces the parameters by what the
        server has made of all workers'. Raises CollectiveError.
        """
        self._flat.load(gradients)
        collective.reduce(self._flat.tensor, SERVER, self._group)
        self._receive()

    def _receive(self) -> None:
        collective.broadcast(self._flat.tensor, SERVER, self._group)
        self._flat.store(self._parameters)


class AsyncParameterServer:
    """Serves `AsyncWorker`s, each over a group of two of its own: so none depends on another."""

    def __init__(self, parameters: Sequence[Any], workers: int, name: str) -> None:
        """`parameters` are tensors of one dtype; `workers` counts from 0; `name` is that of the
        groups, and the workers'.
        """
        self._parameters = parameters
        self._lock = threading.Lock()
        self._names = [_pair(name, worker) for worker in range(workers)]
        self.steps = [0] * workers
        """How many each worker has pushed so far."""

    def serve(self, update: Update) -> list[CollectiveError]:
        """Until all workers have left or died: returns how each has ended. `update` is called by
        several threads, one at a time.
        """
        ends: dict[int, CollectiveError] = {}
        threads = [
            threading.Thread(target=self._serve_one, args=(worker, update, ends), daemon=True)
            for worker in range(len(self._names))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return [ends[worker] for worker in range(len(self._names))]

    def _serve_one(self, worker: int, update: Update, ends: dict[int, CollectiveError]) -> None:
        group = self._names[worker]
        try:
            collective.init_collective_group(2, SERVER, group_name=group)
            flat = Flat(self._parameters)
            while True:
                with self._lock:
                    flat.load(self._parameters)
                collective.send(flat.tensor, 1, group)
                collective.recv(flat.tensor, 1, group, timeout=_PATIENCE_S)
                with self._lock:
                    update(flat.parts)
                    self.steps[worker] += 1
        except CollectiveError as error:
            ends[worker] = error
        finally:
            if collective.is_group_initialized(group):
                collective.destroy_collective_group(group)


class AsyncWorker:
    """Worker number `worker` of an `AsyncParameterServer`. One thread."""

    def __init__(self, parameters: Sequence[Any], worker: int, name: str) -> None:
        """Replaces `parameters` by the server's. Waits for the server to come."""
        self._parameters = parameters
        self._group = _pair(name, worker)
        self._flat = Flat(parameters)
        collective.init_collective_group(2, 1, group_name=self._group)
        self._receive()

    def step(self, gradients: Sequence[Any]) -> None:
        """Pushes gradients, shaped as the parameters, and replaces the parameters by the newest.

        Raises CollectiveError.
        """
        self._flat.load(gradients)
        collective.send(self._flat.tensor, SERVER, self._group)
        self._receive()

    def leave(self) -> None:
        """The server goes on with the others."""
        collective.destroy_collective_group(self._group)

    def _receive(self) -> None:
        collective.recv(self._flat.tensor, SERVER, self._group)
        self._flat.store(self._parameters)


def _pair(name: str, worker: int) -> str:
    return f"{name}/worker {worker}"
