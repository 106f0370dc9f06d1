"""A parameter server without a collective library, for comparison: as Ray's own tutorial does it.

Gradients and parameters are objects, one array each. The driver waits for nothing in between: it
hands references from the workers to the server and back, so Ray has several steps in its queues.
"""

from __future__ import annotations

import numpy as np
import ray
from tagger import Floats
from worker import Learner, Master, Plan, Training


def _join(arrays: list[Floats]) -> Floats:
    return np.concatenate([array.ravel() for array in arrays])


def _split(flat: Floats, like: list[Floats]) -> list[Floats]:
    ends = np.cumsum([array.size for array in like])
    return [
        flat[end - array.size : end].reshape(array.shape)
        for end, array in zip(ends, like, strict=True)
    ]


@ray.remote(num_cpus=0)
class Server(Master):
    """It has the parameters, and takes the steps."""

    def parameters(self) -> Floats:
        """All of them."""
        return _join(self.tagger.parameters)

    def step(self, *gradients: Floats) -> Floats:
        """Returns the parameters after a step with the mean of the workers' gradients."""
        total = gradients[0].copy()
        for gradient in gradients[1:]:
            total += gradient
        total /= len(gradients)
        self.optimizer.step(_split(total, self.tagger.parameters))
        return self.parameters()


@ray.remote(num_cpus=0)
class Worker:
    """Called once a step."""

    def __init__(self, plan: Plan, number: int) -> None:
        self._learner = Learner(plan, number)

    def learn(self, parameters: Floats) -> Floats:
        """The gradients of the next batch."""
        mine = self._learner.tagger.parameters
        for parameter, new in zip(mine, _split(parameters, mine), strict=True):
            parameter[...] = new
        return _join(self._learner.learn())

    def words(self) -> int:
        """How many it has learned from."""
        return self._learner.words


class ObjectStore(Training):
    """The counterpart of with_tutti.InStep: the same steps, with the same results."""

    name = "object store"

    def __init__(self, plan: Plan) -> None:
        workers = [Worker.remote(plan, number) for number in range(plan.workers)]
        super().__init__(Server.remote(plan), workers)
        self._parameters = self.server.parameters.remote()
        self._words = self._count_words()

    def train(self, steps: int) -> int:
        """Of each worker. Returns the words they have learned from."""
        for _ in range(steps):
            gradients = [worker.learn.remote(self._parameters) for worker in self.workers]
            self._parameters = self.server.step.remote(*gradients)
        before, self._words = self._words, self._count_words()
        ray.wait([self._parameters])
        return self._words - before

    def _count_words(self) -> int:
        return sum(ray.get([worker.words.remote() for worker in self.workers]))
