"""The names, argument order and in-place semantics of `ray.util.collective`, through the daemon.

    from tutti import collective as col

    col.init_collective_group(world_size=4, rank=rank, group_name="dp")
    col.allreduce(gradients, "dp")

One client per process, made at the first `init_collective_group`. Beyond Ray's arguments, each
operation takes `async_op` and `timeout`, and returns a `tutti.Work`; see `tutti.Group` for what
they do and raise. Thread-safe.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

from tutti import _fork
from tutti._default import default_client
from tutti.errors import GroupClosedError
from tutti.group import Group
from tutti.ops import ReduceOp, to_name
from tutti.work import Work

__all__ = [
    "ReduceOp",
    "allreduce",
    "barrier",
    "broadcast",
    "destroy_collective_group",
    "get_collective_group_size",
    "get_rank",
    "init_collective_group",
    "is_group_initialized",
]

_logger = logging.getLogger("tutti")
_lock = threading.Lock()
# By name; None while a thread is joining.
_groups: dict[str, Group | None] = {}


def init_collective_group(
    world_size: int,
    rank: int,
    backend: str = "auto",
    group_name: str = "default",
    timeout: float | None = None,
) -> None:
    """Joins a group, and returns when all `world_size` ranks have.

    `timeout` in seconds bounds that, and is the deadline of the group's operations that set none;
    None: the daemon's defaults. All ranks must give the same. Other groups of this process go on
    meanwhile.

    Raises RuntimeError if this process is in a group of that name (destroy it first; a group whose
    daemon has died is replaced), and what `tutti.Client.join` raises.
    """
    _fork.check()
    to_name(group_name, "group_name")
    with _lock:
        group = _groups.get(group_name)
        if group_name in _groups and (group is None or group.client.lost is None):
            raise RuntimeError(
                f"group {group_name!r} is already initialized in this process; "
                "call destroy_collective_group first"
            )
        _groups[group_name] = None
    try:
        group = default_client().join(
            group_name, rank, world_size, backend=backend, work_timeout=timeout, timeout=timeout
        )
    except BaseException:
        with _lock:
            _groups.pop(group_name, None)
        raise
    with _lock:
        _groups[group_name] = group


def destroy_collective_group(group_name: str = "default") -> None:
    """Leaves the group. Local: waits for nobody. The name can be initialized again at once."""
    _fork.check()
    with _lock:
        group = _groups.get(group_name)
        if group is not None:
            del _groups[group_name]
    if group is None:
        _logger.warning("group %r is not initialized in this process", group_name)
    else:
        group.leave()


def is_group_initialized(group_name: str = "default") -> bool:
    """True from `init_collective_group` until the group is destroyed, or the daemon has died."""
    return _find(group_name) is not None


def get_rank(group_name: str = "default") -> int:
    """This process's rank in the group; -1 if it is not a member."""
    group = _find(group_name)
    return -1 if group is None else group.rank


def get_collective_group_size(group_name: str = "default") -> int:
    """How many ranks the group has; -1 if this process is not a member."""
    group = _find(group_name)
    return -1 if group is None else group.world_size


def allreduce(
    tensor: Any,
    group_name: str = "default",
    op: ReduceOp = ReduceOp.SUM,
    async_op: bool = False,
    timeout: float | None = None,
) -> Work:
    """Replaces `tensor` on every rank by the reduction over all ranks."""
    return _get(group_name).allreduce(tensor, op, async_op=async_op, timeout=timeout)


def broadcast(
    tensor: Any,
    src_rank: int = 0,
    group_name: str = "default",
    async_op: bool = False,
    timeout: float | None = None,
) -> Work:
    """Replaces `tensor` on every other rank by that of `src_rank`."""
    return _get(group_name).broadcast(tensor, src_rank, async_op=async_op, timeout=timeout)


def barrier(
    group_name: str = "default", async_op: bool = False, timeout: float | None = None
) -> Work:
    """Completes when every rank has called it."""
    return _get(group_name).barrier(async_op=async_op, timeout=timeout)


def _find(group_name: str) -> Group | None:
    """The group if it is of use."""
    _fork.check()
    group = _groups.get(group_name)
    return group if group is not None and group.client.lost is None else None


def _get(group_name: str) -> Group:
    """The group, whatever has become of it: its operations raise why they can't run."""
    _fork.check()
    group = _groups.get(group_name)
    if group is None:
        raise GroupClosedError(
            f"group {group_name!r} is not initialized in this process; "
            "call init_collective_group first",
            group=group_name if isinstance(group_name, str) else "",
        )
    return group
