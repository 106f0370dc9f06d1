"""Tensors that stay in their actor: what is sent about in their place.

A decorated method returns `Kept`: the tensor is in a table of its process, and what Ray pickles is
a `Buffer`, which says where it is. Wherever a Buffer is unpickled it is one, but at
home, where it is the tensor again. So a ref to it can be handed to methods of the same actor.

With the Buffer goes a lease, an empty object that the actor owns. Ray counts who refers to it, and
tells the actor when nobody does any more: then the tensor is let go.
"""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import ray

from tutti.tensors import describe

F = TypeVar("F", bound=Callable[..., Any])

# By number, and what they are called in other processes: a number of this actor's.
_kept: dict[int, Any] = {}
_numbers = itertools.count(1)
# Where Ray does not tell who refers to them.
_KEPT_MAX = 256


class Kept:
    """At home: a tensor, or a list of some, that is to stay here."""

    def __init__(self, value: Any) -> None:
        """Raises TypeError if it is neither, or this is no actor."""
        check(value)
        self._actor = ray.get_runtime_context().get_actor_id()
        if self._actor is None:
            raise TypeError("tutti.ray.method is for methods of actors: a task keeps nothing")
        self._description = _describe(value)
        self._number = next(_numbers)
        self._lease = ray.put(None)
        _kept[self._number] = value
        _let_go_after(self._lease, self._number)

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrive, (self._actor, self._number, self._description, self._lease)


class Buffer:
    """A tensor, or a list of some, in another process: the actor `actor_id`."""

    def __init__(self, actor_id: str, number: int, description: str, lease: Any) -> None:
        self.actor_id = actor_id
        self._number = number
        self._description = description
        self._lease = lease

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrive, (self.actor_id, self._number, self._description, self._lease)

    def __repr__(self) -> str:
        return f"<Buffer in actor {self.actor_id}: {self._description}>"


def method(function: F) -> F:
    """Decorates a method of an actor that returns a tensor, or a list of tensors: it stays there.

    What `actor.method.remote()` refers to is a `Buffer`, of some bytes; `allreduce_refs` and its
    like work on the tensor itself, in place, and other methods of the actor get it as their
    argument. `tutti.ray.get` copies it out. It is kept until nobody refers to the Buffer any more
    (with Ray 2.56, until the actor has made 256 others).
    """
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def keep(*args: Any, **kwargs: Any) -> Kept:
            return Kept(await function(*args, **kwargs))

    else:

        @functools.wraps(function)
        def keep(*args: Any, **kwargs: Any) -> Kept:
            return Kept(function(*args, **kwargs))

    return keep  # type: ignore[return-value]


def check(value: Any) -> None:
    """Raises TypeError if it is neither a tensor nor a list of some."""
    for tensor in tensors_of(value):
        describe(tensor)


def is_kept(value: Any) -> bool:
    """Whether that very value is in the table: Ray has not made it up from a pickle."""
    return any(value is kept for kept in list(_kept.values()))


def is_list(value: Any) -> bool:
    """Several tensors, and not one."""
    return isinstance(value, (list, tuple))


def tensors_of(value: Any) -> Sequence[Any]:
    """One, or several."""
    return value if is_list(value) else [value]


def _describe(value: Any) -> str:
    return ", ".join(
        f"{type(tensor).__module__}.{type(tensor).__name__} of {tensor.dtype}, "
        f"shape {tuple(tensor.shape)}"
        for tensor in tensors_of(value)
    )


def _let_go_after(lease: Any, number: int) -> None:
    """Once nobody refers to the lease. Ray 2.56 does not tell; there the oldest have to go."""
    worker = ray._private.worker.global_worker.core_worker
    if hasattr(worker, "add_object_out_of_scope_callback"):
        worker.add_object_out_of_scope_callback(lease, lambda _: _kept.pop(number, None))
    else:
        _kept.pop(number - _KEPT_MAX, None)


def _arrive(actor_id: str, number: int, description: str, lease: Any) -> Any:
    if ray.get_runtime_context().get_actor_id() == actor_id and number in _kept:
        return _kept[number]
    return Buffer(actor_id, number, description, lease)
