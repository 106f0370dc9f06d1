"""The generated messages under short names, and the constants of the wire.

Nothing else in the package imports `tutti.v1`: what is missing or unreadable is reported here,
once.
"""

from __future__ import annotations

try:
    # Written so that a missing module is named.
    import tutti.v1.client_pb2 as client
    import tutti.v1.session_pb2 as session
    import tutti.v1.types_pb2 as types
except ModuleNotFoundError as error:
    if error.name is None or not error.name.startswith("tutti"):
        raise
    raise ImportError(
        f"{error.name} is missing: the messages of tutti.v1 are generated when the package is "
        "built. Install it with: pip install ./client/python (needs protoc: apt-get install "
        "protobuf-compiler)"
    ) from error

__all__ = [
    "FAILURE_KEY",
    "GRPC_SOCKET",
    "NAME_BYTES_MAX",
    "PROTOCOL_VERSION",
    "SESSION_SOCKET",
    "SPANS_PER_WORK_MAX",
    "TOKEN_KEY",
    "WORKS_IN_FLIGHT_MAX",
    "client",
    "session",
    "types",
]

PROTOCOL_VERSION = 1
SESSION_SOCKET = "session.sock"
GRPC_SOCKET = "grpc.sock"
# Metadata of each call, and trailing metadata of a failed one.
TOKEN_KEY = "tutti-token-bin"
FAILURE_KEY = "tutti-failure-bin"
# Group names, namespaces and labels, in UTF-8 (daemon/core/limits.h).
NAME_BYTES_MAX = 256
# Tensors on either side of one work (daemon/core/limits.h).
SPANS_PER_WORK_MAX = 1024
# What a session keeps to if the daemon's Welcome doesn't say.
WORKS_IN_FLIGHT_MAX = 1024
