"""`GradientExchange`: what training needs from a way to average gradients, and nothing else."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import ray
import ray.exceptions
from model import Samples
from worker import EpochResult, Plan

# A rank that has died is noticed at once; this is for one that is stuck.
_ANSWER_TIMEOUT_S = 120.0
# How long the others get to say what they were told about a rank that has failed.
_LAST_WORDS_S = 3.0


class TrainingError(Exception):
    """Training has ended early; the message is for people."""


class GradientExchange(ABC):
    """Runs on the driver, with one actor per rank. Made for one training; `close` ends it."""

    name: ClassVar[str]

    def __init__(self, plan: Plan, shards: Sequence[Samples]) -> None:
        """Starts the actors, and waits for them."""
        self.plan = plan
        self._workers = [
            self.make_worker(rank, shard) for rank, shard in enumerate(shards[: plan.workers])
        ]
        self._process_ids: list[int] = []
        self._process_ids = self.on_all("process_id")

    @abstractmethod
    def make_worker(self, rank: int, shard: Samples) -> Any:
        """The Ray actor of this rank."""

    @abstractmethod
    def start(self) -> None:
        """Connects the ranks, and gives all of them rank 0's parameters."""

    @abstractmethod
    def train_epoch(self, epoch: int) -> list[EpochResult]:
        """Takes plan.steps_per_epoch steps. Returns an account for each rank."""

    def accuracy(self, samples: Samples) -> float:
        """Rank 0's, for all ranks have the same parameters."""
        return float(self.collect([self._workers[0].accuracy.remote(samples)])[0])

    def digests(self) -> list[str]:
        """Of each rank's parameters."""
        return self.on_all("digest")

    def close(self) -> None:
        """Ends the actors. After a failure only shutting Ray down is sure to."""
        for worker in self._workers:
            ray.kill(worker)
        self._workers = []

    def on_all(self, method: str, *arguments: Any) -> list[Any]:
        """Calls a method on all ranks at once. Returns what they return, in their order."""
        return self.collect(
            [getattr(worker, method).remote(*arguments) for worker in self._workers]
        )

    def collect(self, calls: Sequence[Any]) -> list[Any]:
        """What these calls, one a rank from 0 on, return. Raises TrainingError."""
        try:
            return list(ray.get(list(calls), timeout=_ANSWER_TIMEOUT_S))
        except ray.exceptions.RayError:
            raise TrainingError(self._explain(calls)) from None

    def _explain(self, calls: Sequence[Any]) -> str:
        """Who failed, and what the others were told about it."""
        ranks = {call: rank for rank, call in enumerate(calls)}
        ended, pending = ray.wait(list(calls), num_returns=len(calls), timeout=_LAST_WORDS_S)
        dead: list[str] = []
        told: dict[str, list[int]] = {}
        for call in ended:
            try:
                ray.get(call)
            except ray.exceptions.RayTaskError as error:
                what = f"{type(error.cause).__name__}: {error.cause}"
                told.setdefault(what, []).append(ranks[call])
            except ray.exceptions.RayError as error:
                dead.append(self._describe_death(ranks[call], error))
        lines = dead + [f"{_name_ranks(who)} got {what}" for what, who in told.items()]
        if pending:
            who = _name_ranks([ranks[call] for call in pending])
            lines.append(f"{who} did not answer")
        return "\n".join(lines)

    def _describe_death(self, rank: int, error: Exception) -> str:
        if self._process_ids:
            return f"rank {rank} (process {self._process_ids[rank]}) died"
        # Its constructor has failed; the last line of what Ray says is why.
        return f"rank {rank} did not start: {str(error).strip().splitlines()[-1]}"


def _name_ranks(ranks: Sequence[int]) -> str:
    names = ", ".join(str(rank) for rank in sorted(ranks))
    return f"rank {names}" if len(ranks) == 1 else f"ranks {names}"


class Stopwatch:
    """Seconds since it was made, or since `lap` was called last."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    def lap(self) -> float:
        """Reads it and starts again."""
        now = time.perf_counter()
        seconds, self._start = now - self._start, now
        return seconds
