"""Groups as the driver declares them, and operations that it states completely.

    group = tutti.ray.create_group([a, b])
    tutti.ray.allreduce_refs([a.get_buffer.remote(), b.get_buffer.remote()])

Each actor executes its tasks in the order in which one driver submits them, and an operation
becomes a task of each of its actors at once. So all actors meet the operations of one driver in the
same order, and none waits for one that cannot come.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import ray

from tutti.errors import Cause, CollectiveError, DeadlineError, InvalidError, RankLostError
from tutti.ops import ReduceOp, to_int, to_name, to_reduce_op
from tutti.ray import _member
from tutti.ray._buffers import Buffer
from tutti.ray._errors import original

# Joins end by themselves, at the daemon's deadline; this is how much later a driver learns of it.
_GRACE_S = 15.0
_JOIN_TIMEOUT_S = 300.0

# Of this driver, by name.
_groups: dict[str, DeclaredGroup] = {}


class DeclaredGroup:
    """Actors as the ranks of a group, made by `create_group`. Of one thread of one driver.

    Operations of the module take it as `group`; they find it by themselves if their refs come from
    its actors, and no other group's.
    """

    def __init__(self, actors: Sequence[Any], name: str, options: dict[str, Any]) -> None:
        """Use create_group."""
        self._name = name
        self._options = options
        self._seat(actors)

    @property
    def name(self) -> str:
        """As the daemon shows it."""
        return self._name

    @property
    def actors(self) -> tuple[Any, ...]:
        """By rank."""
        return tuple(self._actors)

    @property
    def world_size(self) -> int:
        """How many ranks there are."""
        return len(self._actors)

    def reform(self, actors: Sequence[Any] | None = None) -> None:
        """Forms the group again under its name: after an actor has died and Ray has restarted it,
        or with other actors, fewer or more. Blocks as `create_group`; raises what that raises.
        """
        before = self._actors
        self._seat(self._actors if actors is None else actors)
        left = [actor for actor in before if _id_of(actor) not in self._ranks]
        for actor in left:
            actor.__ray_call__.remote(_member.leave, self._name)
        self._form()

    def destroy(self) -> None:
        """All actors leave, each when it comes to it. Waits for nobody; operations stated before
        take place. The name can be used again at once.
        """
        _groups.pop(self._name, None)
        for actor in self._actors:
            actor.__ray_call__.remote(_member.leave, self._name)

    def __repr__(self) -> str:
        return f"<DeclaredGroup {self._name!r} of {self.world_size} actors>"

    def _seat(self, actors: Sequence[Any]) -> None:
        self._actors = list(actors)
        self._ranks = {_id_of(actor): rank for rank, actor in enumerate(self._actors)}
        if not self._actors or len(self._ranks) < len(self._actors):
            raise ValueError("a group needs one actor at least, and each of them once")
        self._stated = [0] * len(self._actors)

    def _form(self) -> None:
        limit_s = (self._options["timeout"] or _JOIN_TIMEOUT_S) + _GRACE_S
        nodes = self._ask(_member.locate, [()] * self.world_size, limit_s)
        if len(set(nodes)) > 1:
            where = ", ".join(f"rank {rank} on {node[:16]}" for rank, node in enumerate(nodes))
            raise InvalidError(
                f"the actors of group {self._name!r} are on different Ray nodes ({where}); this "
                "version has groups within one node only. Place them together, as with "
                "NodeAffinitySchedulingStrategy or a placement group that is STRICT_PACK",
                cause=Cause.UNSUPPORTED,
                group=self._name,
            )
        seats = [
            (self._name, rank, self.world_size, self._options) for rank in range(self.world_size)
        ]
        self._ask(_member.join, seats, limit_s)

    def _ask(self, function: Any, arguments: Sequence[Any], limit_s: float) -> list[Any]:
        """Lets each actor call it; returns what they return, by rank. Ray calls again if an actor
        is being restarted.
        """
        refs = [
            actor.__ray_call__.options(max_task_retries=-1).remote(function, *arguments[rank])
            for rank, actor in enumerate(self._actors)
        ]
        _, late = ray.wait(refs, num_returns=len(refs), timeout=limit_s)
        if late:
            missing = [rank for rank, ref in enumerate(refs) if ref in late]
            raise DeadlineError(
                f"group {self._name!r}: the actors of ranks {missing} have not answered for "
                f"{limit_s:g} s; they are busy, or not scheduled yet",
                group=self._name,
                missing=missing,
            )
        return _results(refs, self._name)

    def _state(self, rank: int, verb: str, ref: Any | None, parameters: dict[str, Any]) -> Any:
        """One rank's part of an operation: a task of its actor."""
        self._stated[rank] += 1
        refs = [] if ref is None else [ref]
        return self._actors[rank].__ray_call__.remote(
            _member.run, self._name, self._stated[rank], verb, refs, parameters
        )

    def _state_all(
        self, verb: str, refs: Sequence[Any | None], parameters: dict[str, Any] | None = None
    ) -> list[Any]:
        by_rank = self._by_rank(refs)
        return [
            self._state(rank, verb, by_rank[rank], parameters or {})
            for rank in range(self.world_size)
        ]

    def _at(self, rank: int, refs: Any) -> Sequence[Any | None]:
        """One ref, which is that of `rank`; or all of them."""
        if isinstance(refs, (list, tuple)):
            return refs
        return [refs if other == rank else None for other in range(self.world_size)]

    def _by_rank(self, refs: Sequence[Any | None]) -> Sequence[Any | None]:
        """In the order of the ranks: by the actors that they come from, if all come from ours."""
        ranks = [None if ref is None else self._ranks.get(_actor_of(ref)) for ref in refs]
        if sorted(rank for rank in ranks if rank is not None) == list(range(self.world_size)):
            return [ref for _, ref in sorted(zip(ranks, refs), key=lambda pair: pair[0] or 0)]
        if len(refs) != self.world_size:
            raise ValueError(
                f"{self!r} needs one ref of each rank, and there are {len(refs)}; "
                "each from its actor, or in the order of the ranks"
            )
        return refs


def create_group(
    actors: Sequence[Any],
    name: str | None = None,
    *,
    work_timeout: float | None = None,
    timeout: float | None = None,
) -> DeclaredGroup:
    """Makes `actors`, which are on one Ray node, the ranks of a group, in their order.

    Returns when all have joined: each does when it comes to it, after what was submitted before.
    `timeout` in seconds bounds that, `work_timeout` is the deadline of operations; None: the
    daemon's defaults. Without a name it gets one of its own. A name that this driver has in use is
    used again: the old group ends.

    Raises DeadlineError, naming the ranks that have not come; InvalidError if they are on several
    nodes; RankLostError if an actor has died.
    """
    name = to_name(name or f"group-{uuid.uuid4().hex[:8]}", "name")
    group = DeclaredGroup(actors, name, {"work_timeout": work_timeout, "timeout": timeout})
    group._form()
    _groups[name] = group
    return group


# --- Operations. They return refs at once; errors are raised by who gets those ---


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
    found = _find(group, refs)
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
    found = _find(group, ref)
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
    found = _find(group, ref)
    src = found._ranks.get(_actor_of(ref)) if src_rank is None else src_rank
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
    _results(group._state_all("barrier", [None] * group.world_size), group.name)


def get(refs: Any) -> Any:
    """As `ray.get`, but for tensors that stay in their actors: those themselves."""
    if isinstance(refs, list):
        return [get(ref) for ref in refs]
    value = ray.get(refs)
    if not isinstance(value, Buffer):
        return value
    for group in _groups.values():
        rank = group._ranks.get(value.actor_id)
        if rank is not None:
            return ray.get(group.actors[rank].__ray_call__.remote(_member.fetch, [refs]))
    raise InvalidError(f"{value!r} is of no actor that is in a group of this driver")


def _find(group: DeclaredGroup | None, refs: Any) -> DeclaredGroup:
    if group is not None:
        return group
    actors = {_actor_of(ref) for ref in (refs if isinstance(refs, (list, tuple)) else [refs])}
    fitting = [found for found in _groups.values() if actors <= found._ranks.keys()]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        raise ValueError(
            "the refs do not come from the actors of one group; make one with "
            "tutti.ray.create_group, or say which one with group="
        )
    names = ", ".join(repr(found.name) for found in fitting)
    raise ValueError(f"these actors are in several groups ({names}); say which one with group=")


def _id_of(actor: Any) -> str:
    return str(actor._actor_id.hex())


def _actor_of(ref: Any) -> str:
    """The actor whose method returns it; nobody's number if it comes from elsewhere."""
    if not isinstance(ref, ray.ObjectRef):
        raise TypeError(f"what actor.method.remote() returns is wanted, not {type(ref).__name__}")
    return str(ref.task_id().actor_id().hex())


def _results(refs: Sequence[Any], group: str) -> list[Any]:
    """Raises the first error of ours that there is, and says which actors have died."""
    results, errors = [], {}
    for rank, ref in enumerate(refs):
        try:
            results.append(ray.get(ref))
        except Exception as raised:
            errors[rank] = raised
    for error in errors.values():
        ours = original(error)
        if isinstance(ours, CollectiveError):
            raise ours from error
    dead = [rank for rank, e in errors.items() if isinstance(e, ray.exceptions.RayActorError)]
    if dead:
        raise RankLostError(
            f"group {group!r}: the actors of ranks {dead} have died", group=group, culprits=dead
        ) from errors[dead[0]]
    for error in errors.values():
        raise error
    return results
