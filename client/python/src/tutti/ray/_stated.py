"""Operations that a driver states completely: which ranks, and which tensor of each.

They return refs at once; errors are raised by who gets those. Each becomes a task of every actor of
the group, see `_declared`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ray

from tutti.errors import InvalidError
from tutti.ops import ReduceOp, to_int, to_reduce_op
from tutti.ray import _member
from tutti.ray._buffers import Buffer, is_list
from tutti.ray._declared import DeclaredGroup, actor_of, groups, results_of



def allreduce_refs(
    refs: Sequence[Any], op: ReduceOp = ReduceOp.SUM, group: DeclaredGroup | None = None
) -> list[Any]:
    """Reduces over all ranks; each ref's tensor is the result, in place where it stays in its actor
    (`method`). Lists of tensors are reduced as one operation.
    """
    return _find(group, refs)._state_all("allreduce", refs, {"op": to_reduce_op(op)})


def reduce_refs(
    refs: Sequence[Any],
    dst_rank: int = 0,
    op: ReduceOp = ReduceOp.SUM,
    group: DeclaredGroup | None = None,
) -> Any:
    """As `allreduce_refs`, on one rank: returns the ref of that."""
    found = _find(group, refs)
    root = to_int(dst_rank, "dst_rank", 0, found.world_size)
    parameters = {"dst_rank": root, "op": to_reduce_op(op)}
    return found._state_all("reduce", refs, parameters)[root]


def broadcast_refs(
    refs: Sequence[Any] | Any, src_rank: int = 0, group: DeclaredGroup | None = None
) -> list[Any]:
    """Writes the tensor of `src_rank` into those of all others. With one ref only, which is the
    one of `src_rank`, the others get new tensors.
    """
    found = _find(group, refs if is_list(refs) else [refs])
    root = to_int(src_rank, "src_rank", 0, found.world_size)
    return found._state_all("broadcast", found._at(root, refs), {"src_rank": root})


def allgather_refs(refs: Sequence[Any], group: DeclaredGroup | None = None) -> list[Any]:
    """Each rank gets a new tensor, with one more dimension in front: those of all ranks."""
    return _find(group, refs)._state_all("allgather", refs)


def gather_refs(
    refs: Sequence[Any], dst_rank: int = 0, group: DeclaredGroup | None = None
) -> Any:
    """As `allgather_refs`, on one rank: returns the ref of that."""
    found = _find(group, refs)
    root = to_int(dst_rank, "dst_rank", 0, found.world_size)
    return found._state_all("gather", refs, {"dst_rank": root})[root]


def scatter_refs(ref: Any, src_rank: int = 0, group: DeclaredGroup | None = None) -> list[Any]:
    """Each rank gets a new tensor: its part of what `ref`, of `src_rank`, has. That is a list of
    tensors, one per rank, or a tensor whose first dimension is the world size.
    """
    found = _find(group, [ref])
    root = to_int(src_rank, "src_rank", 0, found.world_size)
    return found._state_all("scatter", found._at(root, ref), {"src_rank": root})


def reducescatter_refs(
    refs: Sequence[Any], op: ReduceOp = ReduceOp.SUM, group: DeclaredGroup | None = None
) -> list[Any]:
    """Each rank gets a new tensor: the reduction of its parts of what all ranks have, lists as in
    `scatter_refs`.
    """
    return _find(group, refs)._state_all("reducescatter", refs, {"op": to_reduce_op(op)})


def alltoall_refs(refs: Sequence[Any], group: DeclaredGroup | None = None) -> list[Any]:
    """Rank a's part b becomes rank b's part a, of lists as in `scatter_refs`, in new tensors."""
    return _find(group, refs)._state_all("alltoall", refs)


def send_ref(
    ref: Any, dst_rank: int, src_rank: int | None = None, group: DeclaredGroup | None = None
) -> Any:
    """Copies a tensor to another actor: returns the ref of that. `src_rank` is that of the actor
    from which `ref` comes, unless given. Other actors have no part in it.
    """
    found = _find(group, [ref])
    src = found._ranks.get(actor_of(ref)) if src_rank is None else src_rank
    if src is None:
        raise ValueError(f"the ref comes from no actor of {found!r}; say src_rank")
    src = to_int(src, "src_rank", 0, found.world_size)
    dst = to_int(dst_rank, "dst_rank", 0, found.world_size)
    if src == dst:
        raise ValueError(f"rank {src} cannot send to itself")
    found._state(src, "send", ref, {"dst_rank": dst})
    return found._state(dst, "recv", None, {"src_rank": src})


def barrier(group: DeclaredGroup) -> None:
    """Returns when all actors have done what was submitted before. Raises CollectiveError."""
    refs = group._state_all("barrier", [None] * group.world_size)
    results_of(dict(enumerate(refs)), group.name)


def get(refs: Any) -> Any:
    """As `ray.get`, but for tensors that stay in their actors: those themselves."""
    if isinstance(refs, list):
        return [get(ref) for ref in refs]
    value = ray.get(refs)
    if not isinstance(value, Buffer):
        return value
    value = ray.get(value.actor.__ray_call__.remote(_member.fetch, [refs]))
    if isinstance(value, Buffer):
        raise InvalidError(f"{value!r} is gone: Ray has restarted the actor")
    return value


def _find(group: DeclaredGroup | None, refs: Sequence[Any]) -> DeclaredGroup:
    actors = {actor_of(ref) for ref in refs}
    if group is not None:
        return group
    fitting = [found for found in groups.values() if actors <= found._ranks.keys()]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        raise ValueError(
            "the refs do not come from the actors of one group; make one with "
            "tutti.ray.create_group, or say which one with group="
        )
    names = ", ".join(repr(found.name) for found in fitting)
    raise ValueError(f"these actors are in several groups ({names}); say which one with group=")
