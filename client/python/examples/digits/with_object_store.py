"""Gradients averaged through Ray's object store, for comparison: no collective library at all.

The way Ray's own examples do it: the actors return their gradients, the driver takes the mean and
hands it back. Of what was tried for 669 kB and 4 ranks on 2 cores, it was the quickest with 14 ms;
a chain of calls with a parameter-server actor, which the driver does not wait for, took 15 ms,
ranks that meet in an averaging actor 21 ms, ranks that read each other's gradients 25 ms.
"""

from __future__ import annotations

from typing import Any

import ray
from exchange import GradientExchange, Stopwatch
from model import Floats, Samples
from worker import EpochResult, Plan, Worker


class ObjectStoreWorker(Worker):
    """A rank that is called once a step. The end of a call and the next are one exchange."""

    def __init__(self, rank: int, plan: Plan, shard: Samples) -> None:
        super().__init__(rank, plan, shard)
        self._result = EpochResult()
        self._since_returned = Stopwatch()

    def parameters(self) -> Floats:
        """Where it stands."""
        return self.model.parameters

    def start(self, parameters: Floats) -> None:
        """Takes over rank 0's parameters."""
        self.model.parameters[:] = parameters

    def step(self, epoch: int, step: int, mean: Floats | None) -> Floats:
        """Ends the step before with the mean gradients, and returns those of this one."""
        if mean is not None:
            self._receive(mean)
        self._result.losses.append(self.learn(epoch, step))
        self._since_returned.lap()
        return self.model.gradients

    def end_epoch(self, mean: Floats) -> EpochResult:
        """Ends the last step."""
        self._receive(mean)
        result, self._result = self._result, EpochResult()
        return result

    def _receive(self, mean: Floats) -> None:
        self._result.exchange_s.append(self._since_returned.lap())
        self.apply(mean)


class ObjectStoreExchange(GradientExchange):
    """Each gradient travels from its actor to the store, the driver, the store, all actors."""

    name = "object store"

    def make_worker(self, rank: int, shard: Samples) -> Any:
        return ray.remote(num_cpus=0)(ObjectStoreWorker).remote(rank, self.plan, shard)

    def start(self) -> None:
        self.on_all("start", self._workers[0].parameters.remote())

    def train_epoch(self, epoch: int) -> list[EpochResult]:
        mean = None
        for step in range(self.plan.steps_per_epoch):
            gradients = self.on_all("step", epoch, step, mean)
            # Rank by rank, as the daemon does: the order decides about the last bits.
            total = gradients[0].copy()
            for gradient in gradients[1:]:
                total += gradient
            total /= len(gradients)
            mean = ray.put(total)
        return self.on_all("end_epoch", mean)
