"""Reduce operations and element types: what users name, and its number on the wire."""

from __future__ import annotations

import enum
import math
import operator
from typing import Any

from tutti import _wire

__all__ = ["ReduceOp"]


class ReduceOp(enum.Enum):
    """How elements of different ranks are combined, in rank order. The numbers are the wire's.

    Integers wrap in SUM and PRODUCT. MIN and MAX give NaN if any rank has NaN. AVG is the sum
    divided by the world size; integers round toward zero.
    """

    SUM = 1
    PRODUCT = 2
    MIN = 3
    MAX = 4
    AVG = 5


# By the name that NumPy and (after "torch.") PyTorch give them. bfloat16 is NumPy's with ml_dtypes.
DTYPES: dict[str, _wire.types.DataType] = {
    "bool": _wire.types.DATA_TYPE_BOOL,
    "uint8": _wire.types.DATA_TYPE_UINT8,
    "int8": _wire.types.DATA_TYPE_INT8,
    "int32": _wire.types.DATA_TYPE_INT32,
    "uint32": _wire.types.DATA_TYPE_UINT32,
    "int64": _wire.types.DATA_TYPE_INT64,
    "uint64": _wire.types.DATA_TYPE_UINT64,
    "float16": _wire.types.DATA_TYPE_FLOAT16,
    "bfloat16": _wire.types.DATA_TYPE_BFLOAT16,
    "float32": _wire.types.DATA_TYPE_FLOAT32,
    "float64": _wire.types.DATA_TYPE_FLOAT64,
}


def to_reduce_op(op: object) -> ReduceOp:
    """Takes ours, or an enum of the same name and member: Ray's own ReduceOp fits.

    Raises TypeError.
    """
    if isinstance(op, ReduceOp):
        return op
    if isinstance(op, enum.Enum) and type(op).__name__ == "ReduceOp":
        ours = ReduceOp.__members__.get(op.name)
        if ours is not None:
            return ours
    names = ", ".join(f"ReduceOp.{name}" for name in ReduceOp.__members__)
    raise TypeError(f"op must be one of {names}, not {op!r}")


def to_int(value: Any, name: str, low: int, high: int) -> int:
    """Takes an int or a NumPy integer in [low, high). Raises TypeError, ValueError."""
    if isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, not {value!r}") from None
    if not low <= number < high:
        raise ValueError(f"{name} must be at least {low} and less than {high}, and is {number}")
    return number


def to_name(value: object, name: str) -> str:
    """Takes any text of 1 to 256 bytes in UTF-8. Raises TypeError, ValueError."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {type(value).__name__}")
    size = len(value.encode())
    if not 1 <= size <= _wire.NAME_BYTES_MAX:
        raise ValueError(
            f"{name} must have 1 to {_wire.NAME_BYTES_MAX} bytes in UTF-8, and has {size}"
        )
    return value


def to_milliseconds(seconds: float | None, name: str = "timeout") -> int:
    """Takes seconds, or None for the daemon's default, which the wire calls 0.

    Rounds up, so that a short timeout doesn't become the default. Raises TypeError, ValueError.
    """
    if seconds is None:
        return 0
    if isinstance(seconds, bool) or not hasattr(seconds, "__float__"):
        raise TypeError(f"{name} must be seconds or None, not {seconds!r}")
    value = float(seconds)
    # The daemon's bound is lower (timeout_max_ms); this one keeps the number inside the wire's
    # field.
    if not 0 < value < 1e9:
        raise ValueError(f"{name} must be positive seconds, and is {seconds!r}; None: the default")
    return math.ceil(round(value * 1000, 3)) or 1
