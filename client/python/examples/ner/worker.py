"""What the workers, servers and trainings of all exchanges have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray
from data import Sentence, make_sentences
from tagger import Floats, Optimizer, Tagger, words_of


@dataclass(frozen=True)
class Plan:
    """One training. `batch` counts sentences, of each worker in each step."""

    workers: int
    batch: int
    sentences: int
    seed: int


class Learner:
    """A tagger, and one worker's share of the sentences. Not thread-safe."""

    def __init__(self, plan: Plan, number: int) -> None:
        self.tagger = Tagger(plan.seed)
        self._batch = plan.batch
        self._share = make_sentences(plan.sentences, plan.seed)[number :: plan.workers]
        self._next = 0
        self.words = 0
        """How many it has learned from."""

    def learn(self) -> list[Floats]:
        """The gradients of the next batch."""
        batch = self._next_batch()
        self.words += words_of(batch)
        return self.tagger.learn(batch)

    def train(self, push: Callable[[list[Floats]], None], steps: int) -> int:
        """Pushes the gradients of so many batches. Returns the words it has learned from."""
        before = self.words
        for _ in range(steps):
            push(self.learn())
        return self.words - before

    def _next_batch(self) -> list[Sentence]:
        rows = range(self._next, self._next + self._batch)
        self._next += self._batch
        return [self._share[row % len(self._share)] for row in rows]


class Master:
    """The tagger that is trained, and the steps that train it. Not thread-safe."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.tagger = Tagger(plan.seed)
        self.optimizer = Optimizer(self.tagger.parameters)

    def score(self, count: int) -> float:
        """F1 on names that no worker has seen."""
        return self.tagger.score(make_sentences(count, self.plan.seed + 1))


class Training:
    """The actors of one training: `server` is a Master."""

    def __init__(self, server: Any, workers: list[Any]) -> None:
        self.server = server
        self.workers = workers

    def score(self, count: int) -> float:
        """Ends the training. F1 on `count` sentences that nobody has seen."""
        score = ray.get(self.server.score.remote(count))
        for actor in [self.server, *self.workers]:
            ray.kill(actor)
        return float(score)
