"""The messages of tutti.v1 as tests see them: made from the .proto files, in a pool of their own.

So a test can send what the client library would never send, and does not meet the library's copies
of the same messages in one process.
"""

from __future__ import annotations

import functools
import pathlib
import subprocess
import tempfile
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

ROOT = pathlib.Path(__file__).resolve().parents[2]
_PROTO = ROOT / "proto"
_FILES = (
    "tutti/v1/types.proto",
    "tutti/v1/session.proto",
    "tutti/v1/client.proto",
    "tutti/v1/cluster.proto",
    "tutti/v1/admin.proto",
    "grpc/health/v1/health.proto",
)
_PROTOC_TIMEOUT_S = 60


@functools.cache
def _pool() -> descriptor_pool.DescriptorPool:
    with tempfile.NamedTemporaryFile(suffix=".pb") as out:
        command = ["protoc", f"-I{_PROTO}", f"--descriptor_set_out={out.name}", *_FILES]
        subprocess.run(command, cwd=_PROTO, check=True, timeout=_PROTOC_TIMEOUT_S)
        files = descriptor_pb2.FileDescriptorSet.FromString(out.read())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


@functools.cache
def message(name: str) -> Any:
    """The class of a message: message("GetStatusRequest"), message("grpc.health.v1....")."""
    full = name if "." in name else f"tutti.v1.{name}"
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(full))


@functools.cache
def number(enum: str, name: str) -> int:
    """The number of an enumerator without its prefix: number("DataType", "FLOAT32")."""
    return _values(enum)[name]


@functools.cache
def name_of(enum: str, value: int) -> str:
    """The enumerator without its prefix: name_of("RankActivity", 2) is "IDLE"."""
    return next(name for name, number_ in _values(enum).items() if number_ == value)


def method(service: str, name: str) -> Any:
    """The descriptor of a method: method("AdminService", "GetStatus")."""
    full = service if "." in service else f"tutti.v1.{service}"
    return _pool().FindServiceByName(full).methods_by_name[name]


@functools.cache
def _values(enum: str) -> dict[str, int]:
    descriptor = _pool().FindEnumTypeByName(f"tutti.v1.{enum}")
    # RankActivity: RANK_ACTIVITY_.
    prefix = "".join(f"_{c}" if c.isupper() else c for c in enum).lstrip("_").upper() + "_"
    return {value.name.removeprefix(prefix): value.number for value in descriptor.values}
