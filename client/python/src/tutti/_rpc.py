"""gRPC: the channel, the calls of ClientService, and errors of calls as exceptions of ours.

The calls are made from the service's descriptor, so no plugin of protoc is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2

from tutti import _fork, _paths, _wire
from tutti.errors import CollectiveError, DeadlineError, NodeLostError, error_of

# isort: split
import grpc  # after _fork, which sets the variable that it reads

# Each session has a connection of its own (the local pool), and comes back to a restarted daemon
# quickly: gRPC's own backoff starts at a second and grows to two minutes.
_OPTIONS = [
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
    # In spite of its name: how long gRPC waits for a connection to be set up. What is too short for
    # a busy machine fails there for ever; if nobody listens, connecting fails at once anyway.
    ("grpc.min_reconnect_backoff_ms", 5000),
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
]


def open_channel(socket_dir: Path) -> grpc.Channel:
    """A channel to the daemon; it connects when it is first used. The caller closes it."""
    _fork.check()
    return grpc.insecure_channel(_paths.grpc_target(socket_dir), options=_OPTIONS)


class ClientStub:
    """ClientService. Calls wait for the connection, and carry the session's token.

    Thread-safe. Owned by the client, and of no use after the channel is closed.
    """

    def __init__(self, channel: grpc.Channel, token: bytes) -> None:
        self._metadata = ((_wire.TOKEN_KEY, token),)
        service = _wire.client.DESCRIPTOR.services_by_name["ClientService"]
        self._calls = {
            method.name: _make_call(channel, service.full_name, method)
            for method in _methods_of(service)
        }

    def unary(self, method: str, request: Any, timeout_s: float) -> Any:
        """Starts a unary call; returns gRPC's future of the response."""
        return self._calls[method].future(
            request, timeout=timeout_s, metadata=self._metadata, wait_for_ready=True
        )

    def attach(self, requests: Iterator[Any]) -> Any:
        """Starts the lane's stream; returns gRPC's call, an iterator of AttachResponses.

        It has no deadline: it is as long as the session, whose socket tells when it ends.
        """
        return self._calls["Attach"](requests, metadata=self._metadata, wait_for_ready=True)


def _methods_of(service: Any) -> list[descriptor_pb2.MethodDescriptorProto]:
    # Older runtimes tell only the descriptor's own message which side streams.
    proto = descriptor_pb2.ServiceDescriptorProto()
    service.CopyToProto(proto)
    return list(proto.method)


def _make_call(channel: grpc.Channel, service: str, method: Any) -> Any:
    kind = {
        (False, False): channel.unary_unary,
        (False, True): channel.unary_stream,
        (True, False): channel.stream_unary,
        (True, True): channel.stream_stream,
    }[method.client_streaming, method.server_streaming]
    request, response = (
        getattr(_wire.client, name.rpartition(".")[2])
        for name in (method.input_type, method.output_type)
    )
    return kind(
        f"/{service}/{method.name}",
        request_serializer=request.SerializeToString,
        response_deserializer=response.FromString,
    )


def error_of_call(error: grpc.RpcError, what: str) -> CollectiveError:
    """The exception for a failed call. `what` it did is named unless the daemon has said why."""
    for key, value in error.trailing_metadata() or ():
        if key == _wire.FAILURE_KEY:
            return error_of(_wire.types.Failure.FromString(value))
    code = error.code()
    text = f"{what} failed: {error.details()} ({code.name})"
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED):
        return NodeLostError(text)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineError(f"{text}: the daemon did not answer in time")
    return CollectiveError(text, code=int(code.value[0]))


def is_broken_connection(error: grpc.RpcError) -> bool:
    """True if the call ended for the connection's sake, so that calling again may help."""
    return error.code() in (
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.INTERNAL,
    ) and not any(key == _wire.FAILURE_KEY for key, _ in error.trailing_metadata() or ())
