"""Arguments: what is taken, and what is refused before anything is sent."""

from __future__ import annotations

import enum
from typing import Any

import numpy as np
import pytest

from tutti import _paths
from tutti.errors import NodeLostError
from tutti.ops import DTYPES, ReduceOp, to_int, to_milliseconds, to_name, to_reduce_op
from tutti.v1 import types_pb2


def test_reduce_ops_are_those_of_the_wire() -> None:
    wire = {name.removeprefix("REDUCE_OP_"): number for name, number in types_pb2.ReduceOp.items()}
    del wire["UNSPECIFIED"]
    assert wire == {op.name: op.value for op in ReduceOp}


def test_dtypes_are_those_of_the_wire() -> None:
    wire = {name.removeprefix("DATA_TYPE_").lower(): n for name, n in types_pb2.DataType.items()}
    del wire["unspecified"]
    assert wire == DTYPES


def test_rays_reduce_op_is_taken_by_name() -> None:
    rays = enum.Enum("ReduceOp", {"SUM": 0, "PRODUCT": 1, "MIN": 2, "MAX": 3})  # type: ignore[misc]
    for member in rays:
        assert to_reduce_op(member) is ReduceOp[member.name]


class Foreign(enum.Enum):
    """Not called ReduceOp."""

    SUM = 0


@pytest.mark.parametrize("op", [1, "SUM", None, Foreign.SUM, types_pb2.REDUCE_OP_SUM])
def test_other_ops_are_refused(op: Any) -> None:
    with pytest.raises(TypeError, match=r"ReduceOp\.AVG"):
        to_reduce_op(op)


def test_integers() -> None:
    assert to_int(np.int64(3), "rank", 0, 4) == 3
    for value in (True, 1.0, "1", None):
        with pytest.raises(TypeError, match="rank"):
            to_int(value, "rank", 0, 4)
    for value in (-1, 4):
        with pytest.raises(ValueError, match="rank"):
            to_int(value, "rank", 0, 4)


def test_names() -> None:
    for name in ("dp", "123?34!", "группа", "x" * 256, "a/b\n\0"):
        assert to_name(name, "group") == name
    for name in ("", "x" * 257, "ж" * 129):
        with pytest.raises(ValueError, match="256 bytes"):
            to_name(name, "group")
    with pytest.raises(TypeError, match="group"):
        to_name(5, "group")


def test_seconds() -> None:
    assert to_milliseconds(None) == 0
    assert to_milliseconds(1.5) == 1500
    assert to_milliseconds(1.1) == 1100
    assert to_milliseconds(np.float32(2)) == 2000
    assert to_milliseconds(1e-9) == 1, "a short timeout must not become the default"
    for value in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="timeout"):
            to_milliseconds(value)
    for wrong in ("5", True):
        with pytest.raises(TypeError, match="timeout"):
            to_milliseconds(wrong)  # type: ignore[arg-type]


class TestSocketDir:
    """Where the daemon is looked for."""

    def test_order(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TUTTI_SOCKET_DIR", "/a")
        monkeypatch.setenv("XDG_RUNTIME_DIR", "/b")
        monkeypatch.setattr("os.geteuid", lambda: 0)
        assert str(_paths.resolve_socket_dir("/c")) == "/c"
        assert str(_paths.resolve_socket_dir(None)) == "/a"
        monkeypatch.delenv("TUTTI_SOCKET_DIR")
        assert str(_paths.resolve_socket_dir(None)) == "/run/tutti"
        monkeypatch.setattr("os.geteuid", lambda: 1000)
        assert str(_paths.resolve_socket_dir(None)) == "/b/tutti"
        monkeypatch.delenv("XDG_RUNTIME_DIR")
        with pytest.raises(NodeLostError, match="TUTTI_SOCKET_DIR"):
            _paths.resolve_socket_dir(None)

    def test_too_long(self) -> None:
        # 107 bytes with "/session.sock", and 108.
        assert _paths.resolve_socket_dir("/" + "x" * 93)
        with pytest.raises(ValueError, match="108"):
            _paths.resolve_socket_dir("/" + "x" * 94)
