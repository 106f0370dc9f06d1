"""Errors as Ray delivers them, and as we have raised them."""

from __future__ import annotations

import ray


def original(error: BaseException) -> BaseException:
    """What the task has raised."""
    while isinstance(error, ray.exceptions.RayTaskError) and isinstance(error.cause, BaseException):
        error = error.cause
    return error
