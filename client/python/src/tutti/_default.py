"""The default client of this process: what `tutti.collective` and `tutti.empty` use."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tutti import _fork, _surroundings
from tutti.client import Client

_lock = threading.Lock()
_client: Client | None = None


def default_client() -> Client:
    """Makes it on first use, and again if its daemon has died, or if this process is of another job
    of Ray since. Raises as Client does.
    """
    global _client
    _fork.check()  # before the lock, which a thread of the parent may have held
    with _lock:
        if _client is None or _client.lost is not None or _surroundings.have_changed(_client):
            _client = Client()
        return _client


def empty(shape: int | Sequence[int], dtype: npt.DTypeLike = np.float64) -> npt.NDArray[Any]:
    """A NumPy array of arbitrary content in an arena of the default client; see Client.empty."""
    return default_client().empty(shape, dtype)


def zeros(shape: int | Sequence[int], dtype: npt.DTypeLike = np.float64) -> npt.NDArray[Any]:
    """As `empty`, filled with zeros."""
    return default_client().zeros(shape, dtype)


def from_numpy(array: npt.ArrayLike) -> npt.NDArray[Any]:
    """A copy of `array` in an arena of the default client; operations don't copy it again."""
    return default_client().from_numpy(array)
