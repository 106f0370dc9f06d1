"""What a tensor is, apart from its elements: enough for another process to make one like it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tutti import _default


@dataclass(frozen=True)
class Form:
    """Of PyTorch or NumPy, the dtype's name, the shape. Immutable."""

    torch: bool = False
    dtype: str = ""
    shape: tuple[int, ...] = ()

    @staticmethod
    def like(tensor: Any) -> Form:
        """That of a NumPy array or a PyTorch tensor. Raises TypeError for arrays of objects or of
        records: their dtype's name does not say all.
        """
        torch = not isinstance(tensor, np.ndarray)
        if not torch and (tensor.dtype.hasobject or tensor.dtype.names):
            raise TypeError(f"an array of {tensor.dtype} cannot be made elsewhere")
        return Form(torch, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))

    @property
    def size_bytes(self) -> int:
        """Of the elements."""
        return math.prod(self.shape) * int(self._dtype().itemsize)

    def empty(self, *leading: int) -> Any:
        """A tensor of arbitrary content in an arena of the default client, with more dimensions in
        front.
        """
        whole = Form(self.torch, self.dtype, (*leading, *self.shape))
        # Of bytes, because NumPy has not all dtypes of PyTorch.
        return whole.view(_default.empty(whole.size_bytes, np.uint8))

    def view(self, memory: npt.NDArray[np.uint8]) -> Any:
        """These `size_bytes` bytes, aligned for the dtype, as a tensor."""
        if not self.torch:
            return memory.view(self._dtype()).reshape(self.shape)
        import torch

        return torch.from_numpy(memory).view(self._dtype()).reshape(self.shape)

    def _dtype(self) -> Any:
        if not self.torch:
            return np.dtype(self.dtype)
        import torch

        return getattr(torch, self.dtype)
