"""Errors as Ray delivers them, and as we have raised them."""

from __future__ import annotations

import ray

from tutti.errors import Cause, InvalidError


def original(error: BaseException) -> BaseException:
    """What the task has raised."""
    while isinstance(error, ray.exceptions.RayTaskError) and isinstance(error.cause, BaseException):
        error = error.cause
    return error


def several_nodes(what: str, group: str) -> InvalidError:
    """`what` says who is where."""
    return InvalidError(
        f"{what}; this version has groups within one node only. Place them together, as with "
        "NodeAffinitySchedulingStrategy or a placement group that is STRICT_PACK",
        cause=Cause.UNSUPPORTED,
        group=group,
    )
