"""Every rank has the whole model, and a part of the data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tutti import collective
from tutti.ops import ReduceOp
from tutti.strategies._flat import Flat


class DataParallel:
    """Keeps the replicas of a model the same. One thread; every rank makes the same calls.

        parallel = DataParallel(parameters, "dp")      # all ranks have rank 0's now
        ...
        parallel.average(gradients)                    # then each rank takes the same step
    """

    def __init__(self, parameters: Sequence[Any], group_name: str = "default") -> None:
        """Writes the parameters of rank 0 into those of all others. The group is initialized.

        `parameters` are tensors of any shapes and of one dtype, the same ones on every rank.
        """
        self._group = group_name
        flat = Flat(parameters)
        flat.load(parameters)
        collective.broadcast(flat.tensor, 0, group_name)
        flat.store(parameters)
        self._gradients = flat

    def average(self, gradients: Sequence[Any]) -> None:
        """Replaces gradients, shaped as the parameters, by their mean over all ranks.

        Raises CollectiveError; then nobody's have changed.
        """
        self._gradients.load(gradients)
        collective.allreduce(self._gradients.tensor, self._group, ReduceOp.AVG)
        self._gradients.store(gradients)
