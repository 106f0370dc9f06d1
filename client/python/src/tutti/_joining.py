"""`Joining`: a join that may still wait for the other ranks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from tutti import _exit, _fork
from tutti.errors import CollectiveError, GroupClosedError
from tutti.group import Group

# isort: split
import grpc

if TYPE_CHECKING:
    from tutti.client import Client

__all__ = ["Joining"]


class Joining:
    """A seat that has been asked for, made by `Client.start_join`. Thread-safe."""

    def __init__(self, client: Client, request: Any, call: Any) -> None:
        """`call` is gRPC's future of the answer."""
        self._client = client
        self._request = request
        self._call = call
        self._lock = threading.RLock()  # a signal handler may cancel
        self._cancelled = False
        # The group once it is ready; read without the lock.
        self.group: Group | None = None

    @property
    def client(self) -> Client:
        """Through which it joins."""
        return self._client

    @property
    def name(self) -> str:
        """The group's."""
        return str(self._request.group)

    @property
    def rank(self) -> int:
        """The seat."""
        return int(self._request.rank)

    @property
    def world_size(self) -> int:
        """How many ranks the group has."""
        return int(self._request.world_size)

    def wait(self) -> Group:
        """The group, when all ranks have joined. Each call raises what `Client.join` raises; a
        GroupClosedError after `cancel`. To be interrupted (Ctrl-C) only stops the waiting.
        """
        if self.group is None:
            _fork.check()
            try:
                joined = self._client._end_call(self._call, f"joining group {self.name!r}")
            except CollectiveError:
                if self._cancelled:
                    self._raise_cancelled()
                raise
            with self._lock:
                if self._cancelled:
                    self._raise_cancelled()
                if self.group is None:
                    self.group = Group(self._client, self.name, self.rank, self.world_size, joined)
        return self.group

    def cancel(self) -> None:
        """Gives the seat back, whether the group is ready or not. Waits for no other rank;
        idempotent; never fails. The same name can be joined again at once.
        """
        with self._lock:
            if self.group is None:
                if self._cancelled:
                    return
                self._cancelled = True
        if self.group is not None:
            self.group.leave()
            return
        if self._call.done() and self._call.code() is not grpc.StatusCode.OK:
            return
        self._call.cancel()
        # The answer may be on its way, or here: the daemon has given us the seat then.
        self._client._call_off(self._request.join_id)

    def when_decided(self, callback: Callable[[], None]) -> None:
        """Calls it, on a thread of gRPC's, once the group is ready or cannot be."""
        self._call.add_done_callback(lambda _: callback())

    def _raise_cancelled(self) -> NoReturn:
        if self._client.lost is not None:
            _exit.raise_copy(self._client.lost)
        raise GroupClosedError(
            f"this process has left group {self.name!r} before it was ready",
            group=self.name,
            culprits=[self.rank],
        ) from None
