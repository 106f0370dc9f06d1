"""The parameter server of `tutti.strategies`, in step and asynchronous, in Ray actors."""

from __future__ import annotations

import uuid

import ray
from worker import Learner, Master, Plan, Training

import tutti.collective as col
from tutti import strategies


@ray.remote(num_cpus=0)
class Server(Master):
    """Rank 0: it has the parameters, and takes the steps."""

    def __init__(self, plan: Plan, group: str) -> None:
        super().__init__(plan)
        self._group = group

    def start(self) -> None:
        """Waits for the workers."""
        col.init_collective_group(self.plan.workers + 1, 0, group_name=self._group)
        self._server = strategies.ParameterServer(self.tagger.parameters, self._group)

    def train(self, steps: int) -> None:
        """That many, while the workers do the same."""
        for _ in range(steps):
            self._server.step(self.optimizer.step)


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
        return self._learner.train(self._worker.step, steps)


@ray.remote(num_cpus=0, max_concurrency=2)
class AsyncServer(Master):
    """Takes a step with each push, whenever one comes."""

    def __init__(self, plan: Plan, group: str) -> None:
        super().__init__(plan)
        parameters = self.tagger.parameters
        self._server = strategies.AsyncParameterServer(parameters, plan.workers, group)

    def serve(self) -> None:
        """Until the last worker has left."""
        self._server.serve(self.optimizer.step)


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
        return self._learner.train(self._worker.step, steps)

    def leave(self) -> None:
        """The server goes on with the others."""
        self._worker.leave()


def _new_group() -> str:
    return f"ner-{uuid.uuid4().hex[:8]}"


class InStep(Training):
    """All workers push, the server takes one step, all get the parameters."""

    name = "tutti"

    def __init__(self, plan: Plan) -> None:
        group = _new_group()
        workers = [Worker.remote(plan, number, group) for number in range(plan.workers)]
        super().__init__(Server.remote(plan, group), workers)
        ray.get([actor.start.remote() for actor in [self.server, *self.workers]])

    def train(self, steps: int) -> int:
        """Of each worker. Returns the words they have learned from."""
        served = self.server.train.remote(steps)
        words = ray.get([worker.train.remote(steps) for worker in self.workers])
        ray.get(served)
        return sum(words)


class Asynchronous(Training):
    """The server takes a step with each push; a worker waits for its own answer only."""

    name = "tutti, asynchronous"

    def __init__(self, plan: Plan) -> None:
        group = _new_group()
        workers = [AsyncWorker.remote(plan, number, group) for number in range(plan.workers)]
        super().__init__(AsyncServer.remote(plan, group), workers)
        self._served = self.server.serve.remote()
        ray.get([worker.start.remote() for worker in self.workers])

    def train(self, steps: int) -> int:
        """Of each worker. Returns the words they have learned from."""
        return sum(ray.get([worker.train.remote(steps) for worker in self.workers]))

    def score(self, count: int) -> float:
        """As Training.score; the workers leave before."""
        ray.get([worker.leave.remote() for worker in self.workers])
        ray.get(self._served)
        return super().score(count)
