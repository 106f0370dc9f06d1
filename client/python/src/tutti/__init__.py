"""Tutti: collective communication through the daemon of the node.

    import tutti

    with tutti.Client() as client:
        group = client.join("dp", rank, world_size)
        group.allreduce(array)

`tutti.collective` has the names of `ray.util.collective`.
"""

from __future__ import annotations

from tutti import _fork  # noqa: F401  (first: gRPC reads the variable it sets when it is imported)

# isort: split
from tutti import collective
from tutti._default import empty, from_numpy, zeros
from tutti._version import __version__
from tutti.client import Client
from tutti.errors import (
    ArgumentError,
    Cause,
    CollectiveError,
    DeadlineError,
    ForkedError,
    GroupClosedError,
    InvalidError,
    LimitError,
    MismatchError,
    NodeLostError,
    RankLostError,
)
from tutti.group import Group
from tutti.ops import ReduceOp
from tutti.work import Work

__all__ = [
    "ArgumentError",
    "Cause",
    "Client",
    "CollectiveError",
    "DeadlineError",
    "ForkedError",
    "Group",
    "GroupClosedError",
    "InvalidError",
    "LimitError",
    "MismatchError",
    "NodeLostError",
    "RankLostError",
    "ReduceOp",
    "Work",
    "__version__",
    "collective",
    "empty",
    "from_numpy",
    "zeros",
]
