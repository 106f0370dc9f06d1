"""Failures of the wire as exceptions, and exceptions across processes."""

from __future__ import annotations

import copy
import inspect
import pickle
from typing import Any

import pytest

import tutti
from tutti import errors
from tutti.v1 import types_pb2

KINDS = {
    "RANK_DIED": tutti.RankLostError,
    "SESSION_CLOSED": tutti.RankLostError,
    "RANK_LEFT": tutti.GroupClosedError,
    "MISMATCH": tutti.MismatchError,
    "DEADLINE": tutti.DeadlineError,
    "INVALID": tutti.InvalidError,
    "LIMIT": tutti.LimitError,
    "DRAINING": tutti.NodeLostError,
    "NODE_LOST": tutti.NodeLostError,
    "NOT_FOUND": tutti.GroupClosedError,
    "UNSUPPORTED": tutti.InvalidError,
}


def test_causes_are_those_of_the_wire() -> None:
    wire = {name.removeprefix("CAUSE_"): number for name, number in types_pb2.Cause.items()}
    assert wire == {cause.name: cause.value for cause in tutti.Cause}


@pytest.mark.parametrize("cause", tutti.Cause)
def test_each_cause_has_its_kind_and_keeps_its_fields(cause: tutti.Cause) -> None:
    number: Any = cause.value
    failure = types_pb2.Failure(
        code=9,
        cause=number,
        message="what happened",
        group="dp",
        epoch=3,
        culprits=[1, 5],
        missing=[2],
        sequence=7,
    )
    error = errors.error_of(failure)
    assert type(error) is KINDS.get(cause.name, tutti.CollectiveError)
    assert isinstance(error, RuntimeError)
    assert str(error) == "what happened"
    assert (error.cause, error.code, error.group, error.epoch) == (cause, 9, "dp", 3)
    assert (error.culprits, error.missing, error.sequence) == ((1, 5), (2,), 7)


def test_a_cause_of_the_future_is_an_error_too() -> None:
    unknown: Any = 99
    error = errors.error_of(types_pb2.Failure(cause=unknown))
    assert error.cause is tutti.Cause.UNSPECIFIED
    assert str(error)


@pytest.mark.parametrize("duplicate", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])
def test_errors_travel(duplicate: object) -> None:
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]
    for kind in kinds:
        if issubclass(kind, errors.CollectiveError):
            error = kind("text", group="g", epoch=2, culprits=[3], missing=[4], sequence=5)
            twin = duplicate(error)  # type: ignore[operator]
            assert type(twin) is kind
            assert str(twin) == "text"
            assert vars(twin) == vars(error)
