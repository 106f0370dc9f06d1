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
import secrets
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import ray

from tutti._form import Form
from tutti.tensors import describe

F = TypeVar("F", bound=Callable[..., Any])

# By number, and what they are called in other processes. An actor that Ray has restarted goes by
# the same name, and must not take buffers of its former life for its own: numbers begin anywhere.
_kept: dict[int, Any] = {}
_numbers = itertools.count(secrets.randbits(62))
# Where Ray does not tell who refers to them.
_KEPT_MAX = 256


class Kept:
    """At home: a tensor, or a list of some, that is to stay here."""

    def __init__(self, value: Any) -> None:
        """Raises TypeError if it is neither, or this is no actor."""
        check(value)
        context = ray.get_runtime_context()
        if context.get_actor_id() is None:
            raise TypeError("tutti.ray.method is for methods of actors: a task keeps nothing")
        number, lease = next(_numbers), ray.put(None)
        self._buffer = Buffer(context.current_actor, number, _describe(value), lease)
        _kept[number] = _writable(value)
        _let_go_after(lease, number)

    def __reduce__(self) -> tuple[Any, ...]:
        return self._buffer.__reduce__()


class Buffer:
    """A tensor, or a list of some, in another process: that of `actor`, which it keeps alive."""

    def __init__(self, actor: Any, number: int, description: str, lease: Any) -> None:
        self.actor = actor
        self._number = number
        self._description = description
        self._lease = lease

    @property
    def actor_id(self) -> str:
        """In hexadecimal."""
        return id_of(self.actor)

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrive, (self.actor, self._number, self._description, self._lease)

    def __repr__(self) -> str:
        return f"<Buffer in actor {self.actor_id}: {self._description}>"


def method(function: F) -> F:
    """Decorates a method of an actor that returns a tensor, or a list of tensors: it stays there.

    What `actor.method.remote()` refers to is a `Buffer`, of some bytes; `allreduce_refs` and its
    like work on the tensor itself, in place, and other methods of the actor get it as their
    argument. `tutti.ray.get` copies it out. It is kept until nobody refers to the Buffer any more
    (with Ray 2.56, until the actor has made 256 others).

    For calls from outside: what a method of the actor itself gets by calling it is of no use. Of an
    array that may only be read, as Ray delivers arguments, a copy is kept: others read it as well.
    """
    if getattr(function, "__ray_num_returns__", None) not in (None, 1):
        raise TypeError(f"{function.__qualname__} returns one tensor, or one list, with one ref")
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def keep(*args: Any, **kwargs: Any) -> Kept:
            return Kept(await function(*args, **kwargs))

    else:

        @functools.wraps(function)
        def keep(*args: Any, **kwargs: Any) -> Kept:
            return Kept(function(*args, **kwargs))

    # Or Ray would find the function itself, and nothing of what other decorators have added.
    keep.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    del keep.__wrapped__
    return keep  # type: ignore[return-value]


def id_of(actor: Any) -> str:
    """In hexadecimal."""
    return str(actor._actor_id.hex())


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


def own(value: Any) -> Any:
    """A copy, in an arena, of what Ray has delivered: the original is the object store's."""
    if is_list(value):
        return [own(tensor) for tensor in value]
    copy = Form.like(value).empty()
    copy[...] = value
    return copy


def _writable(value: Any) -> Any:
    """Copies in place of arrays that may only be read."""
    if is_list(value):
        return [_writable(tensor) for tensor in value]
    return own(value) if isinstance(value, np.ndarray) and not value.flags.writeable else value


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


def _arrive(actor: Any, number: int, description: str, lease: Any) -> Any:
    # The numbers are of one process only.
    if number in _kept:
        return _kept[number]
    return Buffer(actor, number, description, lease)
