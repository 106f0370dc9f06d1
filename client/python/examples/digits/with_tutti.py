"""Gradients averaged by the node's Tutti daemon: each rank calls one allreduce per step."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import ray
from exchange import GradientExchange, TrainingError
from model import Floats, Samples, parameter_count
from worker import EpochResult, Worker

import tutti
import tutti.collective as col

GROUP = "digits"
# For joining, and for each operation.
_TIMEOUT_S = 60.0


class TuttiWorker(Worker):
    """A rank whose arrays live in memory that it shares with the daemon: nothing is copied."""

    def make_arrays(self) -> tuple[Floats, Floats]:
        count = parameter_count()
        return tutti.zeros(count, np.float32), tutti.zeros(count, np.float32)

    def start(self) -> None:
        """Joins the group, and takes over rank 0's parameters."""
        col.init_collective_group(
            self.plan.workers, self.rank, group_name=GROUP, timeout=_TIMEOUT_S
        )
        col.broadcast(self.model.parameters, src_rank=0, group_name=GROUP)

    def train_epoch(self, epoch: int) -> EpochResult:
        """Every rank runs this at the same time; they meet in the allreduce."""
        result = EpochResult()
        for step in range(self.plan.steps_per_epoch):
            result.losses.append(self.learn(epoch, step))
            start = time.perf_counter()
            col.allreduce(self.model.gradients, GROUP, col.ReduceOp.AVG)
            result.exchange_s.append(time.perf_counter() - start)
            self.apply(self.model.gradients)
        return result

    def leave(self) -> None:
        """Gives the seat back."""
        col.destroy_collective_group(GROUP)


class TuttiExchange(GradientExchange):
    """The driver starts an epoch and waits for its end; it sees no gradient."""

    name = "tutti"

    def make_worker(self, rank: int, shard: Samples) -> Any:
        # Actors wait for each other in collectives, so all of them must run at once, whatever the
        # number of cores.
        return ray.remote(num_cpus=0)(TuttiWorker).remote(rank, self.plan, shard)

    def start(self) -> None:
        self.on_all("start")

    def train_epoch(self, epoch: int) -> list[EpochResult]:
        return self.on_all("train_epoch", epoch)

    def close(self) -> None:
        self.on_all("leave")
        super().close()


def check_daemon() -> None:
    """Raises TrainingError, saying what to do, if no daemon answers."""
    try:
        with tutti.Client(label="digits: is there a daemon?"):
            pass
    except tutti.CollectiveError as error:
        raise TrainingError(str(error)) from None
