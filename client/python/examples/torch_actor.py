"""Four Ray actors average the gradients of a PyTorch model, in place, through the node's daemon.

The daemon comes up by itself, if tuttid is installed: on $PATH, or where $TUTTID says.
"""

import ray
import torch

from tutti import collective as col


@ray.remote
class Actor:
    def __init__(self, rank: int, world_size: int) -> None:
        self.input, self.model = torch.full((8, 3), float(rank)), torch.nn.Linear(3, 1, bias=False)
        col.init_collective_group(world_size, rank, group_name="dp")

    def step(self) -> list[float]:
        self.model(self.input).mean().backward()
        col.allreduce(self.model.weight.grad, "dp", col.ReduceOp.AVG)
        return self.model.weight.grad[0].tolist()


actors = [Actor.remote(rank, 4) for rank in range(4)]
print(ray.get([actor.step.remote() for actor in actors]))  # four times [1.5, 1.5, 1.5]
