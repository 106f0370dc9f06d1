"""Four Ray actors sum a NumPy array, in place, through the node's daemon.

The daemon comes up by itself, if tuttid is installed: on $PATH, or where $TUTTID says.
"""

import numpy as np
import ray

from tutti import collective as col


@ray.remote
class Actor:
    def __init__(self, rank: int, world_size: int) -> None:
        self.gradients = np.full(1000, rank + 1.0, np.float32)
        col.init_collective_group(world_size, rank, group_name="dp")

    def step(self) -> float:
        col.allreduce(self.gradients, "dp")
        return float(self.gradients[0])


actors = [Actor.remote(rank, 4) for rank in range(4)]
print(ray.get([actor.step.remote() for actor in actors]))  # [10.0, 10.0, 10.0, 10.0]
