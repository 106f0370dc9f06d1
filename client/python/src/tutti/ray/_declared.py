"""Groups as the driver declares them, with actors as ranks.

    group = tutti.ray.create_group([a, b])
    tutti.ray.allreduce_refs([a.get_buffer.remote(), b.get_buffer.remote()])

Each actor executes its tasks in the order in which one driver submits them, and an operation
becomes a task of each of its actors at once. So all actors meet the operations of one driver in the
same order, and none waits for one that cannot come.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import ray

from tutti.errors import Cause, CollectiveError, DeadlineError, InvalidError, RankLostError
from tutti.ops import to_milliseconds, to_name
from tutti.ray import _member
from tutti.ray._buffers import id_of, is_list
from tutti.ray._errors import original

# Joins end by themselves, at the daemon's deadline; this is how much later a driver learns of it.
_GRACE_S = 15.0
_JOIN_TIMEOUT_S = 300.0

# Of this driver, by name.
groups: dict[str, DeclaredGroup] = {}


class DeclaredGroup:
    """Actors as the ranks of a group, made by `create_group`. Of one thread of one driver.

    Operations of the module take it as `group`; they find it by themselves if their refs come from
    its actors, and no other group's. It keeps its actors alive until `destroy`.
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
        self._leave()
        self._seat(self._actors if actors is None else actors)
        self._form()

    def destroy(self) -> None:
        """All actors leave, each when it comes to it. Waits for nobody; operations stated before
        take place. The name can be used again at once.
        """
        if groups.get(self._name) is self:
            del groups[self._name]
        self._leave()

    def __repr__(self) -> str:
        return f"<DeclaredGroup {self._name!r} of {self.world_size} actors>"

    def __reduce__(self) -> Any:
        raise TypeError(
            f"{self!r} belongs to the driver that has made it, which alone knows in which order "
            "operations are stated; pass the actors, and make a group of another name"
        )

    def _leave(self) -> None:
        for actor, stated in zip(self._actors, self._stated):
            actor.__ray_call__.remote(_member.leave, self._name, self._formation, stated)

    def _seat(self, actors: Sequence[Any]) -> None:
        self._actors = list(actors)
        self._ranks = {id_of(actor): rank for rank, actor in enumerate(self._actors)}
        if not self._actors or len(self._ranks) < len(self._actors):
            raise ValueError("a group needs one actor at least, and each of them once")
        self._stated = [0] * len(self._actors)
        self._formation = uuid.uuid4().hex

    def _form(self) -> None:
        _check_places(self._ask(_member.locate, [()] * self.world_size), self._name)
        seats = [
            _member.Seat(self._name, self._formation, rank, self.world_size, self._options)
            for rank in range(self.world_size)
        ]
        try:
            self._ask(_member.join, [(seat,) for seat in seats])
        except BaseException:
            _member.call_off(self._name, self._formation)
            raise

    def _ask(self, function: Any, arguments: Sequence[Any]) -> list[Any]:
        """Lets each actor call it; returns what they return, by rank. Ray calls again if an actor
        is being restarted. Waits for nobody if one fails.
        """
        refs = [
            actor.__ray_call__.options(max_task_retries=-1).remote(function, *arguments[rank])
            for rank, actor in enumerate(self._actors)
        ]
        limit_s = (self._options["timeout"] or _JOIN_TIMEOUT_S) + _GRACE_S
        deadline = time.monotonic() + limit_s
        answered: list[Any] = []
        late = refs
        while late and not any(_has_failed(ref) for ref in answered):
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                missing = [rank for rank, ref in enumerate(refs) if ref in late]
                raise DeadlineError(
                    f"group {self._name!r}: the actors of ranks {missing} have not answered for "
                    f"{limit_s:g} s; they are busy, or not scheduled yet",
                    group=self._name,
                    missing=missing,
                )
            answered, late = ray.wait(late, timeout=left_s)
        done = {rank: ref for rank, ref in enumerate(refs) if ref not in late}
        return results_of(done, self._name)

    def _state(self, rank: int, verb: str, ref: Any | None, parameters: dict[str, Any]) -> Any:
        """One rank's part of an operation: a task of its actor."""
        self._stated[rank] += 1
        refs = [] if ref is None else [ref]
        return self._actors[rank].__ray_call__.remote(
            _member.run,
            (self._name, self._formation),
            self._stated[rank],
            verb,
            refs,
            parameters,
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
        one = [refs if other == rank else None for other in range(self.world_size)]
        by_rank: Sequence[Any | None] = refs if is_list(refs) else one
        return by_rank

    def _by_rank(self, refs: Sequence[Any | None]) -> Sequence[Any | None]:
        """In the order of the ranks: by the actors that they come from, if all come from ours."""
        ranks = [None if ref is None else self._ranks.get(actor_of(ref)) for ref in refs]
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
    nodes, of several jobs, or asynchronous; RankLostError if an actor has died.
    """
    for actor in actors:
        if not isinstance(actor, ray.actor.ActorHandle):
            raise TypeError(f"actors' handles are wanted, not {type(actor).__name__}")
    to_milliseconds(timeout)
    to_milliseconds(work_timeout, "work_timeout")
    name = to_name(name or f"group-{uuid.uuid4().hex[:8]}", "name")
    group = DeclaredGroup(actors, name, {"work_timeout": work_timeout, "timeout": timeout})
    group._form()
    groups[name] = group
    return group


def get_group(name: str) -> DeclaredGroup:
    """That this driver has made, and not destroyed. Raises ValueError if there is none."""
    if name not in groups:
        raise ValueError(f"this driver has no group {name!r}; it has {sorted(groups)}")
    return groups[name]


def actor_of(ref: Any) -> str:
    """The actor whose method returns it; nobody's number if it comes from elsewhere."""
    if not isinstance(ref, ray.ObjectRef):
        raise TypeError(f"what actor.method.remote() returns is wanted, not {type(ref).__name__}")
    return str(ref.task_id().actor_id().hex())


def _check_places(places: Sequence[_member.Place], group: str) -> None:
    """Raises InvalidError if actors would wait for each other in vain."""
    asynchronous = [rank for rank, place in enumerate(places) if place.asynchronous]
    if asynchronous:
        raise InvalidError(
            f"the actors of ranks {asynchronous} of group {group!r} are asynchronous (they have "
            "coroutines as methods): Ray starts their tasks in any order, so a driver cannot state "
            "operations. Call tutti.collective in a method, on a thread (asyncio.to_thread)",
            cause=Cause.UNSUPPORTED,
            group=group,
        )
    if len({place.namespace for place in places}) > 1:
        where = ", ".join(f"rank {n} in {place.namespace}" for n, place in enumerate(places))
        raise InvalidError(
            f"the actors of group {group!r} belong to different jobs ({where}), which do not meet; "
            "set TUTTI_NAMESPACE for all of them, in the runtime_env of their jobs",
            cause=Cause.UNSUPPORTED,
            group=group,
        )


def _has_failed(ref: Any) -> bool:
    try:
        ray.get(ref)
    except Exception:
        return True
    return False


def results_of(refs: Mapping[int, Any], group: str) -> list[Any]:
    """By rank. Raises the first error of ours that there is, and says which actors have died."""
    results, errors = [], {}
    for rank, ref in refs.items():
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
