"""Every rank has some layers; micro-batches pass through them forwards, then gradients backwards.

All forwards, then all backwards: the schedule of GPipe (Huang et al., 2019, arXiv:1811.06965).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tutti import collective


class Pipeline:
    """The stage of this rank: 0 is the first. One thread; every rank makes the same calls."""

    def __init__(self, micro_batches: int, group_name: str = "default") -> None:
        """Each step passes so many micro-batches through the stages. The group is initialized."""
        self._count = micro_batches
        self._group = group_name
        self._stage = collective.get_rank(group_name)
        self._last = collective.get_collective_group_size(group_name) - 1

    def step(
        self,
        forward: Callable[[int, Any], Any],
        backward: Callable[[int, Any], Any],
        inputs: Sequence[Any],
        gradients: Sequence[Any],
    ) -> None:
        """One batch.

        Args:
            forward: called with the number of a micro-batch and its input; returns the output, a
                tensor that stays as it is until the step has ended.
            backward: called with the number and the gradient of the output; returns that of the
                input. On the last stage it is called with None: it has the loss.
            inputs: one tensor per micro-batch. On the first stage they are the data, on others
                they are overwritten by what the stage before gives.
            gradients: one tensor per micro-batch, of the output; overwritten. Not used on the last
                stage.

        Raises CollectiveError.
        """
        sent = []
        for number in range(self._count):
            if self._stage > 0:
                collective.recv(inputs[number], self._stage - 1, self._group)
            output = forward(number, inputs[number])
            if self._stage < self._last:
                # The next stage may be busy: this one goes on with the next micro-batch.
                sent.append(collective.send(output, self._stage + 1, self._group, async_op=True))
        for number in range(self._count):
            gradient = None
            if self._stage < self._last:
                collective.recv(gradients[number], self._stage + 1, self._group)
                gradient = gradients[number]
            below = backward(number, gradient)
            if self._stage > 0:
                sent.append(collective.send(below, self._stage - 1, self._group, async_op=True))
        for work in sent:
            work.wait()
