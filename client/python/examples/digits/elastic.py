"""Training that goes on when a worker dies: four Ray actors learn to read handwritten digits, one
of them is killed half-way, and another takes its place.

Each step is an allreduce of the gradients. When an actor dies, the others' allreduce raises
RankLostError at once; nobody's parameters have changed in that step. The driver starts another
actor, all form the group again, and go on from the parameters and the step of a survivor.

    python elastic.py          the daemon comes up by itself, if tuttid is installed
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
import ray
from model import Model, Samples, load_digits, parameter_count

import tutti
import tutti.collective as col

WORKERS, BATCH, EPOCHS = 4, 16, 30
GROUP, TIMEOUT_S = "elastic", 60.0


@ray.remote(num_cpus=0)
class Worker:
    """One rank. Its arrays live in memory that it shares with the daemon."""

    def __init__(self, rank: int, shard: Samples) -> None:
        self.rank, self.shard, self.step = rank, shard, 0
        count = parameter_count()
        self.model = Model(tutti.zeros(count, np.float32), tutti.zeros(count, np.float32))
        self.model.randomize(seed=7)

    def join(self) -> int:
        """Takes over what the rank that has come furthest has. Returns its step."""
        col.init_collective_group(WORKERS, self.rank, group_name=GROUP, timeout=TIMEOUT_S)
        steps = np.zeros(WORKERS, np.int64)
        col.allgather(steps, np.array([self.step]), GROUP)
        self.step, furthest = int(steps.max()), int(steps.argmax())
        col.broadcast(self.model.parameters, furthest, GROUP)
        col.broadcast(self.model.velocity, furthest, GROUP)
        return self.step

    def leave(self) -> None:
        """Waits for nobody."""
        col.destroy_collective_group(GROUP)

    def train(self, until: int) -> float:
        """Raises RankLostError if another rank dies. Returns the last loss."""
        per_epoch, loss = len(self.shard.labels) // BATCH, 0.0
        while self.step < until:
            epoch, batch = divmod(self.step, per_epoch)
            order = np.random.default_rng([epoch, self.rank]).permutation(len(self.shard.labels))
            rows = order[batch * BATCH : (batch + 1) * BATCH]
            loss = self.model.learn(Samples(self.shard.images[rows], self.shard.labels[rows]))
            col.allreduce(self.model.gradients, GROUP, col.ReduceOp.AVG)
            self.model.step(self.model.gradients, learning_rate=0.02)
            self.step += 1
        return loss

    def accuracy(self, samples: Samples) -> float:
        """The share of the samples that it reads correctly."""
        return self.model.accuracy(samples)


def start(rank: int, data: Samples) -> Any:
    """An actor with its part of the data."""
    part = slice(rank, None, WORKERS)
    return Worker.remote(rank, Samples(data.images[part], data.labels[part]))


def train(disturbed: bool) -> float:
    """Returns the accuracy on digits that nobody has seen."""
    data, unseen = load_digits(seed=7)
    steps = EPOCHS * (len(data.labels) // WORKERS // BATCH)
    workers = [start(rank, data) for rank in range(WORKERS)]
    ray.get([worker.join.remote() for worker in workers])
    if disturbed:
        # The first third alone, so that the kill comes in the middle of a step of the second.
        ray.get([worker.train.remote(steps // 3) for worker in workers])
        running = [worker.train.remote(steps) for worker in workers]
        killed = time.monotonic()
        ray.kill(workers[2])
        for rank in (0, 1, 3):
            try:
                ray.get(running[rank])
                raise SystemExit("the kill came too late to disturb anybody")
            except tutti.RankLostError as error:
                print(f"  rank {rank}: {str(error).splitlines()[-1]}")
        workers[2] = start(2, data)
        ray.get([workers[rank].leave.remote() for rank in (0, 1, 3)])
        step = ray.get([worker.join.remote() for worker in workers])[0]
        took_s = time.monotonic() - killed
        print(f"  another rank 2 goes on with them from step {step} of {steps},", end=" ")
        print(f"{took_s:.1f} s later")
    ray.get([worker.train.remote(steps) for worker in workers])
    accuracies = ray.get([worker.accuracy.remote(unseen) for worker in workers])
    assert len(set(accuracies)) == 1
    for worker in workers:
        ray.kill(worker)
    return float(accuracies[0])


ray.init(log_to_driver=False, include_dashboard=False)
print("undisturbed")
before = train(disturbed=False)
print(f"  accuracy {before:.1%}\none worker is killed")
after = train(disturbed=True)
print(f"  accuracy {after:.1%}")
sys.exit(0 if abs(before - after) <= 0.01 else "the accuracies differ by more than a point")
