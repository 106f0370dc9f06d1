"""A trainer gives its weights to three rollout actors after each step, through the node's daemon.

The daemon comes up by itself, if tuttid is installed: on $PATH, or where $TUTTID says.
"""

from typing import Any

import numpy as np
import ray

from tutti import collective as col
from tutti import strategies

GROUP, SIZES = "weights", {"embedding": 4_000_000, "layer 1": 1_000_000, "bias": 10}


@ray.remote(num_cpus=0)
class Trainer:
    def __init__(self, world_size: int) -> None:
        self.weights = {name: np.zeros(size, np.float32) for name, size in SIZES.items()}
        col.init_collective_group(world_size, 0, group_name=GROUP)

    def step(self) -> None:
        for tensor in self.weights.values():
            tensor += 1

    def send(self) -> None:
        strategies.send_weights(self.weights.items(), GROUP)


@ray.remote(num_cpus=0)
class Rollout:
    def __init__(self, rank: int, world_size: int) -> None:
        self.weights: dict[str, Any] = {}
        col.init_collective_group(world_size, rank, group_name=GROUP)

    def receive(self) -> None:
        for name, tensor in strategies.receive_weights(0, GROUP):
            self.weights[name] = tensor.copy()

    def sum(self) -> float:
        return float(sum(tensor.sum() for tensor in self.weights.values()))


trainer, rollouts = Trainer.remote(4), [Rollout.remote(rank, 4) for rank in (1, 2, 3)]
for _ in range(3):
    trainer.step.remote()
    ray.get([trainer.send.remote(), *(rollout.receive.remote() for rollout in rollouts)])
print(ray.get([rollout.sum.remote() for rollout in rollouts]))  # 15000030.0, three times
