"""The daemon's admin socket, for tests: status, and failpoints."""

from __future__ import annotations

import os
import pathlib
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import grpc
from messages import message, method, name_of, number
from waiting import DEADLINE_S, wait_until

# A call that takes longer than that has failed the test, whatever it was for.
CALL_TIMEOUT_S = 10.0
# To a daemon that is probably dead.
_GONE_TIMEOUT_S = 2.0


class Admin:
    """AdminService of one daemon. Not thread-safe. Close it: its connection is the daemon's too."""

    def __init__(self, socket_dir: str | os.PathLike[str]) -> None:
        path = urllib.parse.quote(os.fspath(pathlib.Path(socket_dir) / "admin.sock"))
        self._channel = grpc.insecure_channel(
            f"unix:{path}",
            options=[
                ("grpc.use_local_subchannel_pool", 1),
                ("grpc.enable_retries", 0),
                ("grpc.initial_reconnect_backoff_ms", 20),
                ("grpc.max_reconnect_backoff_ms", 100),
                # How long gRPC waits for a connection to be set up.
                ("grpc.min_reconnect_backoff_ms", 5000),
                ("grpc.max_receive_message_length", 64 << 20),
            ],
        )

    def close(self) -> None:
        self._channel.close()

    def call(self, rpc: str, /, timeout_s: float = CALL_TIMEOUT_S, **fields: Any) -> Any:
        """Calls a method of AdminService. Raises grpc.RpcError."""
        descriptor = method("AdminService", rpc)
        call = self._channel.unary_unary(
            f"/tutti.v1.AdminService/{rpc}",
            request_serializer=message(descriptor.input_type.full_name).SerializeToString,
            response_deserializer=message(descriptor.output_type.full_name).FromString,
        )
        request = message(descriptor.input_type.full_name)(**fields)
        return call(request, timeout=timeout_s, wait_for_ready=True)

    def status(self) -> Any:
        return self.call("GetStatus")

    def fresh_status(self) -> Any:
        """Status that was taken after this call began: a snapshot may be a quarter second old."""
        # Two later, because the next may already be in the making.
        wanted = self.status().snapshot.number + 2
        reply: list[Any] = []

        def is_fresh() -> bool:
            reply[:] = [self.status()]
            return bool(reply[0].snapshot.number >= wanted)

        wait_until(is_fresh, "a fresh snapshot")
        return reply[0]

    def group(self, name: str, namespace: str = "") -> Any:
        return self.call("GetGroup", name=name, namespace=namespace)

    def find_group(self, name: str) -> Any:
        """The same, or None: a group that has just been formed is not in the snapshot yet."""
        try:
            return self.group(name)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return None
            raise

    def sessions(self) -> list[Any]:
        return list(self.call("ListSessions").sessions)

    def wait_sessions(self, count: int) -> None:
        """Returns when a snapshot shows so many."""
        wait_until(lambda: self.status().sessions == count, f"{count} sessions")

    # --- Failpoints (base/failpoint.h) ---

    def failpoint(self, name: str, action: str = "UNSPECIFIED", from_hit: int = 1) -> Any:
        """Sets it, or without an action reads it: .hits and .held."""
        action_number = number("FailpointAction", action)
        return self.call("SetFailpoint", name=name, action=action_number, from_hit=from_hit)

    def wait_held(self, name: str, held: int = 1, timeout_s: float = DEADLINE_S) -> None:
        """Returns when `held` threads are held at the failpoint."""
        wait_until(
            lambda: self.failpoint(name).held >= held, f"{held} threads held at {name}", timeout_s
        )

    def wait_hit(self, name: str) -> None:
        """Returns when it has been hit since it was first named."""
        wait_until(lambda: self.failpoint(name).hits > 0, f"{name} is hit")

    @contextmanager
    def paused(self, name: str, from_hit: int = 1) -> Iterator[None]:
        """Whoever comes to the failpoint is held there until the end of the block."""
        self.failpoint(name, "PAUSE", from_hit)
        try:
            yield
        finally:
            self.failpoint(name, "OFF")

    @contextmanager
    def mutated(self, name: str, from_hit: int = 1) -> Iterator[None]:
        """The planted defect is there until the end of the block, if the daemon is."""
        self.failpoint(name, "MUTATE", from_hit)
        try:
            yield
        finally:
            with suppress(grpc.RpcError):  # a defect may have ended it
                off = number("FailpointAction", "OFF")
                self.call("SetFailpoint", timeout_s=_GONE_TIMEOUT_S, name=name, action=off)


def activity(rank: Any) -> str:
    """What a RankStatus says that it does: "IDLE"."""
    return name_of("RankActivity", rank.activity)
