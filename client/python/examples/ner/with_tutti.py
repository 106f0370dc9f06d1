"""The parameter server of `tutti.strategies`, in step and asynchronous, in Ray actors."""

from __future__ import annotations

import uuid
from typing import Any

import ray
from data import make_sentences
from tagger import Optimizer, Tagger
from worker import Learner, Plan

import tutti.collective as col
from tutti import strategies


@ray.remote(num_cpus=0)
class Server:
    """Rank 0: it has the parameters, and takes the steps."""

    def __init__(self, plan: Plan, group: str) -> None:
        self._plan = plan
        self._tagger = Tagger(plan.seed)
        self._optimizer = Optimizer(self._tagger.parameters)
        self._group = group

    def start(self) -> None:
        """Waits for the workers."""
        col.init_collective_group(self._plan.workers + 1, 0, group_name=self._group)
        self._server = strategies.ParameterServer(self._tagger.parameters, self._group)

    def train(self, steps: int) -> None:
        """That many, while the workers do the same."""
        for _ in range(steps):
            self._server.step(self._optimizer.step)

    def score(self, count: int) -> float:
        """F1 on names that no worker has seen."""
        return self._tagger.score(make_sentences(count, self._plan.seed + 1))


@ray.remote(num_cpus=0)
class Worker:
    """Any other rank."""

    def __init__(self, plan: Plan, number: int, group: str) -> None:
        self._plan, self._number, self._group = plan, number, group
        self._learner = Learner(plan, number)

    def start(self) -> None:
        """Takes over the server's parameters."""
        world_size, rank = self._plan.workers + 1, self._number + 1
        col.init_collective_group(world_size, rank, group_name=self._group)
        self._worker = strategies.Worker(self._learner.tagger.parameters, self._group)

    def train(self, steps: int) -> int:
        """Returns how many words it has learned from."""
        before = self._learner.words
        for _ in range(steps):
            self._worker.step(self._learner.learn())
        return self._learner.words - before


@ray.remote(num_cpus=0, max_concurrency=2)
class AsyncServer:
    """Takes a step with each push, whenever one comes."""

    def __init__(self, plan: Plan, group: str) -> None:
        self._plan = plan
        self._tagger = Tagger(plan.seed)
        self._optimizer = Optimizer(self._tagger.parameters)
        self._server = strategies.AsyncParameterServer(
            self._tagger.parameters, plan.workers, group
        )

    def serve(self) -> None:
        """Until the last worker has left."""
        self._server.serve(self._optimizer.step)

    def score(self, count: int) -> float:
        """F1 on names that no worker has seen; when `serve` has returned."""
        return self._tagger.score(make_sentences(count, self._plan.seed + 1))


@ray.remote(num_cpus=0)
class AsyncWorker:
    """Waits for the server, and for nobody else."""

    def __init__(self, plan: Plan, number: int, group: str) -> None:
        self._number, self._group = number, group
        self._learner = Learner(plan, number)

    def start(self) -> None:
        """Takes over the server's parameters."""
        parameters = self._learner.tagger.parameters
        self._worker = strategies.AsyncWorker(parameters, self._number, self._group)

    def train(self, steps: int) -> int:
        """Returns how many words it has learned from."""
        before = self._learner.words
        for _ in range(steps):
            self._worker.step(self._learner.learn())
        return self._learner.words - before

    def leave(self) -> None:
        """The server goes on with the others."""
        self._worker.leave()


class InStep:
    """All workers push, the server takes one step, all get the parameters."""

    name = "tutti"

    def __init__(self, plan: Plan) -> None:
        group = f"ner-{uuid.uuid4().hex[:8]}"
        self._server: Any = Server.remote(plan, group)
        self._workers: list[Any] = [
            Worker.remote(plan, number, group) for number in range(plan.workers)
        ]
        ray.get([actor.start.remote() for actor in [self._server, *self._workers]])

    def train(self, steps: int) -> int:
        """Of each worker. Returns the words they have learned from."""
        served = self._server.train.remote(steps)
        words = ray.get([worker.train.remote(steps) for worker in self._workers])
        ray.get(served)
        return sum(words)

    def score(self, count: int) -> float:
        """Ends the training. F1 on `count` sentences that nobody has seen."""
        score = ray.get(self._server.score.remote(count))
        for actor in [self._server, *self._workers]:
            ray.kill(actor)
        return float(score)


class Asynchronous:
    """The server takes a step with each push; a worker waits for its own answer only."""

    name = "tutti, asynchronous"

    def __init__(self, plan: Plan) -> None:
        group = f"ner-{uuid.uuid4().hex[:8]}"
        self._server: Any = AsyncServer.remote(plan, group)
        self._workers: list[Any] = [
            AsyncWorker.remote(plan, number, group) for number in range(plan.workers)
        ]
        self._served = self._server.serve.remote()
        ray.get([worker.start.remote() for worker in self._workers])

    def train(self, steps: int) -> int:
        """Of each worker. Returns the words they have learned from."""
        return sum(ray.get([worker.train.remote(steps) for worker in self._workers]))

    def score(self, count: int) -> float:
        """Ends the training. F1 on `count` sentences that nobody has seen."""
        ray.get([worker.leave.remote() for worker in self._workers])
        ray.get(self._served)
        score = ray.get(self._server.score.remote(count))
        for actor in [self._server, *self._workers]:
            ray.kill(actor)
        return float(score)
