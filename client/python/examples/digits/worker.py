"""What every rank does, however the gradients are exchanged: a model, and a share of the digits."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field

import numpy as np
from model import Floats, Model, Samples, parameter_count


@dataclass(frozen=True)
class Plan:
    """What the ranks must agree on. `batch`: samples per rank and step."""

    workers: int
    batch: int
    learning_rate: float
    seed: int
    train_count: int

    @property
    def steps_per_epoch(self) -> int:
        """The same for all ranks: what is left over of the largest shards waits an epoch."""
        return self.train_count // self.workers // self.batch


@dataclass
class EpochResult:
    """One rank's account of an epoch. `exchange_s`: of each step, what the exchange took."""

    losses: list[float] = field(default_factory=list)
    exchange_s: list[float] = field(default_factory=list)


class Worker:
    """One rank. Becomes a Ray actor in with_tutti.py and with_object_store.py."""

    def __init__(self, rank: int, plan: Plan, shard: Samples) -> None:
        self.rank = rank
        self.plan = plan
        self._shard = shard
        self.model = Model(*self.make_arrays())
        # Each rank starts elsewhere, so training works only if rank 0's parameters reach them all.
        self.model.randomize(plan.seed + rank)

    def make_arrays(self) -> tuple[Floats, Floats]:
        """The memory of parameters and gradients."""
        count = parameter_count()
        return np.zeros(count, np.float32), np.zeros(count, np.float32)

    def process_id(self) -> int:
        """Also the sign that the actor has started."""
        return os.getpid()

    def learn(self, epoch: int, step: int) -> float:
        """Computes the gradients of this rank's next batch. Returns its loss."""
        order = np.random.default_rng((self.plan.seed, self.rank, epoch)).permutation(
            len(self._shard.labels)
        )
        rows = order[step * self.plan.batch : (step + 1) * self.plan.batch]
        return self.model.learn(Samples(self._shard.images[rows], self._shard.labels[rows]))

    def apply(self, mean: Floats) -> None:
        """Ends a step with the mean of all ranks' gradients."""
        self.model.step(mean, self.plan.learning_rate)

    def accuracy(self, samples: Samples) -> float:
        """On these samples, now."""
        return self.model.accuracy(samples)

    def digest(self) -> str:
        """Two ranks have the same one only if all bits of their parameters are the same."""
        return hashlib.sha256(self.model.parameters.tobytes()).hexdigest()
