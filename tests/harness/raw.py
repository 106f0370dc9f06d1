"""A client without a client library: says what a test wants said, right or wrong.

    with RawClient(socket_dir) as client:
        client.hello()
        seat = client.join("group", rank=0, world_size=1).result().membership
        client.attach()
        client.submit(number=1, membership=seat, kind=...)
        completion = client.completion()

It speaks the protocol and checks nothing of it.
"""

from __future__ import annotations

import mmap
import os
import pathlib
import queue
import select
import socket
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import grpc
from messages import message, method
from waiting import DEADLINE_S, OutOfTime

_PACKET_BYTES_MAX = 4096


@dataclass
class RawArena:
    """Memory shared with the daemon, mapped here."""

    id: int
    bytes: mmap.mmap


def connect(socket_dir: pathlib.Path, name: str = "session.sock") -> socket.socket:
    """A bare connection to one of the daemon's sockets."""
    kind = socket.SOCK_SEQPACKET if name == "session.sock" else socket.SOCK_STREAM
    connection = socket.socket(socket.AF_UNIX, kind)
    connection.settimeout(DEADLINE_S)
    try:
        connection.connect(str(socket_dir / name))
    except OSError:
        connection.close()
        raise
    return connection


class RawClient:
    """One session. Not thread-safe."""

    def __init__(self, socket_dir: pathlib.Path) -> None:
        self._socket_dir = socket_dir
        self.socket = connect(socket_dir)
        self.token = b""
        self._channel: grpc.Channel | None = None
        self._outbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._lane: Any = None
        self._completions: list[Any] = []
        self._last_request = 0

    # --- The session socket ---

    def send_packet(self, packet: bytes, fds: Sequence[int] = ()) -> None:
        socket.send_fds(self.socket, [packet], list(fds))

    def receive_packet(self, timeout_s: float = DEADLINE_S) -> tuple[Any, list[int]]:
        """A SessionReply and descriptors; (None, []) at the hang-up."""
        if not select.select([self.socket], [], [], timeout_s)[0]:
            raise OutOfTime(f"no packet from the daemon in {timeout_s:g} s")
        try:
            packet, fds, _, _ = socket.recv_fds(self.socket, _PACKET_BYTES_MAX, 4)
        except ConnectionResetError:
            return None, []
        if not packet:
            return None, []
        return message("SessionReply").FromString(packet), list(fds)

    def wait_hang_up(self, timeout_s: float = DEADLINE_S) -> None:
        while self.receive_packet(timeout_s)[0] is not None:
            pass

    def hang_up(self) -> None:
        """Ends the session without a Goodbye, and returns when the daemon has seen it."""
        self.socket.shutdown(socket.SHUT_WR)
        self.wait_hang_up()

    def request(self, **kind: Any) -> tuple[Any, list[int]]:
        self._last_request += 1
        request = message("SessionRequest")(request_id=self._last_request, **kind)
        self.send_packet(request.SerializeToString())
        return self.receive_packet()

    def hello(self, label: str = "raw", namespace: str = "default") -> Any:
        hello = message("Hello")(
            protocol_version=1, client_version="raw", namespace=namespace, label=label
        )
        reply, _ = self.request(hello=hello)
        if reply is not None and reply.HasField("welcome"):
            self.token = reply.welcome.token
        return reply

    def offer_arena(self, size_bytes: int) -> tuple[int, int]:
        """Asks for an arena. Returns its number and its memfd, which is the caller's."""
        reply, fds = self.request(create_arena=message("CreateArena")(size_bytes=size_bytes))
        assert reply.HasField("arena_created"), reply
        (fd,) = fds
        return reply.arena_created.arena, fd

    def new_arena(self, size_bytes: int) -> RawArena:
        arena, fd = self.offer_arena(size_bytes)
        try:
            os.posix_fallocate(fd, 0, size_bytes)
            mapped = mmap.mmap(fd, size_bytes)
        finally:
            os.close(fd)
        reply, _ = self.request(arena_mapped=message("ArenaMapped")(arena=arena))
        assert reply.HasField("arena_ready"), reply
        return RawArena(arena, mapped)

    # --- gRPC ---

    def unary(self, name: str, request: Any, timeout_s: float = DEADLINE_S) -> Any:
        descriptor = method("ClientService", name)
        return (
            self._open_channel()
            .unary_unary(
                f"/tutti.v1.ClientService/{name}",
                request_serializer=lambda each: each.SerializeToString(),
                response_deserializer=message(descriptor.output_type.full_name).FromString,
            )
            .future(
                request,
                timeout=timeout_s,
                metadata=(("tutti-token-bin", self.token),),
                wait_for_ready=True,
            )
        )

    def join(self, group: str, rank: int, world_size: int, timeout_ms: int = 20000) -> Any:
        """Starts to join; the result is a future of JoinGroupResponse."""
        request = message("JoinGroupRequest")(
            group=group, rank=rank, world_size=world_size, join_timeout_ms=timeout_ms
        )
        return self.unary("JoinGroup", request)

    def attach(self, acknowledged: int = 0) -> Any:
        """Opens the lane, in place of the one before. Returns what the daemon answers: Opened."""
        self._outbox = queue.SimpleQueue()
        self._completions.clear()
        self._lane = self._open_channel().stream_stream(
            "/tutti.v1.ClientService/Attach",
            request_serializer=lambda each: each.SerializeToString(),
            response_deserializer=message("AttachResponse").FromString,
        )(
            iter(self._outbox.get, None),
            timeout=10 * DEADLINE_S,
            metadata=(("tutti-token-bin", self.token),),
            wait_for_ready=True,
        )
        opening = message("Open")(acknowledged=acknowledged)
        self._outbox.put(message("AttachRequest")(open=opening))
        answer = next(self._lane)
        assert answer.HasField("opened"), answer
        return answer.opened

    def detach(self) -> None:
        """Cuts the lane; the session goes on."""
        self._lane.cancel()
        self._outbox.put(None)

    def submit(self, **work: Any) -> None:
        """Sends a Work with these fields; attach first."""
        self._outbox.put(message("AttachRequest")(work=message("Work")(**work)))

    def completion(self) -> Any:
        """The next completion; waits for it no longer than the stream's deadline."""
        while not self._completions:
            self._completions += next(self._lane).completions.completions
        return self._completions.pop(0)

    def _open_channel(self) -> grpc.Channel:
        if self._channel is None:
            path = urllib.parse.quote(str(self._socket_dir / "grpc.sock"))
            options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
            self._channel = grpc.insecure_channel(f"unix:{path}", options=options)
        return self._channel

    # --- The end ---

    def close(self) -> None:
        """Hangs up, without a Goodbye. Idempotent."""
        self._outbox.put(None)
        if self._lane is not None:
            self._lane.cancel()
        if self._channel is not None:
            self._channel.close()
        self.socket.close()

    def __enter__(self) -> RawClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
