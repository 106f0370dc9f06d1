"""Many tensors as one: a copy of them, side by side, in memory that is shared with the daemon."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tutti._form import Form


class Flat:
    """A flat tensor as long as all of `tensors` together, of their one dtype and kind. What is in
    it is arbitrary until `load`.

    The tensors are not kept. Not thread-safe.
    """

    def __init__(self, tensors: Sequence[Any]) -> None:
        """Raises ValueError if there are none, or of several dtypes."""
        kinds = {(isinstance(tensor, np.ndarray), str(tensor.dtype)) for tensor in tensors}
        if len(kinds) != 1:
            raise ValueError(f"tensors of one dtype are wanted, all NumPy or all PyTorch: {kinds}")
        sizes = [math.prod(tensor.shape) for tensor in tensors]
        form = dataclasses.replace(Form.like(tensors[0]), shape=(sum(sizes),))
        self.tensor: Any = form.empty()
        ends = np.cumsum(sizes)
        self._parts = [
            self.tensor[end - size : end].reshape(tuple(tensor.shape))
            for tensor, size, end in zip(tensors, sizes, ends, strict=True)
        ]

    def load(self, tensors: Sequence[Any]) -> None:
        """Copies them in."""
        for part, tensor in zip(self._parts, tensors, strict=True):
            part[...] = plain(tensor)

    def store(self, tensors: Sequence[Any]) -> None:
        """Copies them out, in place; also if PyTorch computes gradients of them."""
        for part, tensor in zip(self._parts, tensors, strict=True):
            plain(tensor)[...] = part

    @property
    def parts(self) -> list[Any]:
        """As tensors of the shapes that were given: views of the flat one."""
        return list(self._parts)


def plain(tensor: Any) -> Any:
    """The same memory, of which PyTorch records nothing."""
    return tensor if isinstance(tensor, np.ndarray) else tensor.detach()
