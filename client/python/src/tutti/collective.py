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
from collections.abc import Callable, Sequence
from typing import Any

from tutti import _fork, _surroundings
from tutti._default import default_client
from tutti._joining import Joining
from tutti.errors import GroupClosedError
from tutti.group import Group
from tutti.ops import ReduceOp, to_name
from tutti.work import Work

__all__ = [
    "ReduceOp",
    "agree",
    "allgather",
    "allreduce",
    "allreduce_coalesced",
    "alltoall",
    "alltoall_single",
    "barrier",
    "broadcast",
    "destroy_collective_group",
    "gather",
    "get_collective_group_size",
    "get_rank",
    "init_collective_group",
    "is_group_initialized",
    "recv",
    "reduce",
    "reducescatter",
    "scatter",
    "send",
]

_logger = logging.getLogger("tutti")
_lock = threading.Lock()
# By name; None while a thread asks for the seat.
_groups: dict[str, Joining | None] = {}
# The task of Ray that has initialized a group, None in an actor: what it has forgotten to destroy,
# another task that the same process runs cannot know of.
_tasks: dict[str, str | None] = {}


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
    meanwhile. `backend` is "auto" or "tutti", which are the same, or a backend of the daemon.

    Raises RuntimeError if this process is in a group of that name (destroy it first; a group whose
    daemon has died is replaced, and one that another task of Ray has left behind), and what
    `tutti.Client.join` raises.
    """
    _init(world_size, rank, backend, group_name, timeout, Joining.wait)


def destroy_collective_group(group_name: str = "default") -> None:
    """Leaves the group. Local: waits for nobody. The name can be initialized again at once."""
    _fork.check()
    joining = _groups.get(group_name)
    if joining is None:
        _logger.warning("group %r is not initialized in this process", group_name)
    else:
        leave(group_name, joining)


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


def allreduce_coalesced(
    tensors: Sequence[Any],
    group_name: str = "default",
    op: ReduceOp = ReduceOp.SUM,
    async_op: bool = False,
    timeout: float | None = None,
) -> Work:
    """`allreduce` of each of `tensors`, of one dtype, as one operation."""
    return _get(group_name).allreduce_coalesced(tensors, op, async_op=async_op, timeout=timeout)


def reduce(
    tensor: Any,
    dst_rank: int = 0,
    group_name: str = "default",
    op: ReduceOp = ReduceOp.SUM,
    async_op: bool = False,
    timeout: float | None = None,
) -> Work:
    """Replaces `tensor` on `dst_rank` by the reduction over all ranks; others' stay."""
    return _get(group_name).reduce(tensor, dst_rank, op, async_op=async_op, timeout=timeout)


def broadcast(
    tensor: Any,
    src_rank: int = 0,
    group_name: str = "default",
    async_op: bool = False,
    timeout: float | None = None,
) -> Work:
    """Replaces `tensor` on every other rank by that of `src_rank`."""
    return _get(group_name).broadcast(tensor, src_rank, async_op=async_op, timeout=timeout)


def allgather(
    tensor_list: Sequence[Any] | Any,
    tensor: Any,
    group_name: str = "default",
    async_op: bool = False,
    timeout: float | None = None,
) -> Work:
    """Writes the `tensor` of each rank into every rank's `tensor_list`."""
    return _get(group_name).allgather(tensor_list, tensor, async_op=async_op, timeout=timeout)


def gather(
    tensor: Any,
    gather_list: Sequence[Any] | Any | None = None,
    dst_rank: int = 0,
    group_name: str = "default",
    async_op: bool = False,
    timeout: float | None = None,
) -> Work:
    """Writes the `tensor` of each rank into the `gather_list` of `dst_rank`; None elsewhere."""
    return _get(group_name).gather(
        tensor, gather_list, dst_rank, async_op=async_op, timeout=timeout
    )


def scatter(
    tensor: Any,
    scatter_list: Sequence[Any] | Any | None = None,
    src_rank: int = 0,
    group_name: str = "default",
    async_op: bool = False,
    timeout: float | None = None,
) -> Work:
    """Writes into `tensor` each rank's part of the `scatter_list` of `src_rank`; None elsewhere."""
    return _get(group_name).scatter(
        tensor, scatter_list, src_rank, async_op=async_op, timeout=timeout
    )


def reducescatter(
    tensor: Any,
    tensor_list: Sequence[Any] | Any,
    group_name: str = "default",
    op: ReduceOp = ReduceOp.SUM,
    async_op: bool = False,
    timeout: float | None = None,
) -> Work:
    """Writes into `tensor` the reduction over all ranks of their `tensor_list[rank]`."""
    return _get(group_name).reducescatter(
        tensor, tensor_list, op, async_op=async_op, timeout=timeout
    )


def alltoall(
    output_list: Sequence[Any] | Any,
    input_list: Sequence[Any] | Any,
    group_name: str = "default",
    async_op: bool = False,
    timeout: float | None = None,
) -> Work:
    """Writes `input_list[b]` of each rank a into `output_list[a]` of rank b."""
    return _get(group_name).alltoall(output_list, input_list, async_op=async_op, timeout=timeout)


def alltoall_single(
    output: Any,
    input: Any,
    output_split_sizes: Sequence[int] | None = None,
    input_split_sizes: Sequence[int] | None = None,
    group_name: str = "default",
    async_op: bool = False,
    timeout: float | None = None,
) -> Work:
    """`alltoall` of pieces of one tensor, cut along the first dimension."""
    return _get(group_name).alltoall_single(
        output, input, output_split_sizes, input_split_sizes, async_op=async_op, timeout=timeout
    )


def send(
    tensor: Any,
    dst_rank: int,
    group_name: str = "default",
    async_op: bool = False,
    timeout: float | None = None,
) -> Work:
    """Gives `tensor` to `dst_rank`, whose `recv`s from this rank take it in order."""
    return _get(group_name).send(tensor, dst_rank, async_op=async_op, timeout=timeout)


def recv(
    tensor: Any,
    src_rank: int,
    group_name: str = "default",
    async_op: bool = False,
    timeout: float | None = None,
) -> Work:
    """Replaces `tensor` by what `src_rank` gives this rank, in order."""
    return _get(group_name).recv(tensor, src_rank, async_op=async_op, timeout=timeout)


def barrier(
    group_name: str = "default", async_op: bool = False, timeout: float | None = None
) -> Work:
    """Completes when every rank has called it."""
    return _get(group_name).barrier(async_op=async_op, timeout=timeout)


def agree(flag: bool, group_name: str = "default", timeout: float | None = None) -> bool:
    """Returns on every rank, when every rank has called it, whether all gave True."""
    return _get(group_name).agree(flag, timeout=timeout)


def start(world_size: int, rank: int, group_name: str) -> Joining:
    """As `init_collective_group`, but returns at once: operations wait for the other ranks. For
    Ray's own module, which holds a lock meanwhile.
    """
    return _init(world_size, rank, "auto", group_name, None, lambda joining: None)


def leave(group_name: str, joining: Joining) -> None:
    """As `destroy_collective_group`, but not if another group has got that name meanwhile."""
    _forget(group_name, joining)
    joining.cancel()


def _init(
    world_size: int,
    rank: int,
    backend: str,
    group_name: str,
    timeout: float | None,
    wait: Callable[[Joining], object],
) -> Joining:
    _fork.check()
    to_name(group_name, "group_name")
    if to_name(backend, "backend").lower() == "tutti":
        backend = "auto"
    task = _surroundings.task()
    with _lock:
        before = _groups.get(group_name)
        left_behind = before is not None and task != _tasks.get(group_name)
        if group_name in _groups and not left_behind and (before is None or not before.client.lost):
            raise RuntimeError(
                f"group {group_name!r} is already initialized in this process; "
                "call destroy_collective_group first"
            )
        _groups[group_name] = joining = None
        _tasks[group_name] = task
    try:
        if before is not None:
            before.cancel()
        joining = default_client().start_join(
            group_name, rank, world_size, backend=backend, work_timeout=timeout, timeout=timeout
        )
        wait(joining)
        with _lock:
            _groups[group_name] = joining
    except BaseException:
        _forget(group_name, None)
        if joining is not None:
            joining.cancel()
        raise
    return joining


def _forget(group_name: str, joining: Joining | None) -> None:
    """Unless another has taken its place."""
    with _lock:
        if group_name in _groups and _groups[group_name] is joining:
            del _groups[group_name]
            del _tasks[group_name]


def _find(group_name: str) -> Joining | None:
    """The group if it is of use."""
    _fork.check()
    joining = _groups.get(group_name)
    return joining if joining is not None and joining.client.lost is None else None


def _get(group_name: str) -> Group:
    """The group, whatever has become of it: its operations raise why they can't run."""
    _fork.check()
    joining = _groups.get(group_name)
    if joining is None and _surroundings.declares(group_name):
        joining = _groups.get(group_name)
    if joining is None:
        raise GroupClosedError(
            f"group {group_name!r} is not initialized in this process; "
            "call init_collective_group first",
            group=group_name if isinstance(group_name, str) else "",
        )
    return joining.group or joining.wait()
