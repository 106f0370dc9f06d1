"""What the workers and servers of all exchanges have in common."""

from __future__ import annotations

from dataclasses import dataclass

from data import Sentence, make_sentences
from tagger import Floats, Tagger, words_of


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

    def _next_batch(self) -> list[Sentence]:
        rows = range(self._next, self._next + self._batch)
        self._next += self._batch
        return [self._share[row % len(self._share)] for row in rows]
