"""`Client`: one session with the node's daemon."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import numpy.typing as npt

from tutti import _exit, _fork, _lanes, _paths, _rpc, _surroundings, _wire
from tutti._joining import Joining
from tutti._lane import Lane
from tutti._memory import Memory
from tutti._session import Session
from tutti.arena import Pool
from tutti.errors import Cause, CollectiveError, GroupClosedError, NodeLostError
from tutti.group import Group
from tutti.ops import to_int, to_milliseconds, to_name

# isort: split
import grpc

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Client"]

# Leaving is local: the daemon asks nobody.
_LEAVE_TIMEOUT_S = 10.0
# Ends a join that the daemon has forgotten. The daemon's own deadline comes before it, and says
# more.
_JOIN_GRACE_S = 5.0
# For joins that leave the deadline to a daemon that has not said what it is.
_JOIN_TIMEOUT_S = 300.0
_CLOSE_TIMEOUT_S = 2.0
# How long the hang-up of a dying daemon may come after its other sockets'.
_LOST_GRACE_S = 1.0


class Client:
    """A session with the daemon of this node. Many groups may be joined through one client.

    As a context manager it closes at the end. Thread-safe. If the daemon dies, pending works and
    later calls raise NodeLostError; make a new client then. In a forked child all calls raise
    ForkedError.
    """

    def __init__(
        self,
        socket_dir: str | os.PathLike[str] | None = None,
        namespace: str | None = None,
        label: str | None = None,
    ) -> None:
        """Connects. Works go through a ring in shared memory, or over gRPC: $TUTTI_LANE (auto, ring
        or grpc; default: auto, which is the ring wherever it can be had).

        Args:
            socket_dir: where the daemon's sockets are; None: $TUTTI_SOCKET_DIR, else in Ray those
                of the node's own daemon, which is started if need be (tutti.ray), else /run/tutti
                as root, else $XDG_RUNTIME_DIR/tutti.
            namespace: scopes group names; None: $TUTTI_NAMESPACE, else in Ray that of the job, else
                "default".
            label: what status shows people; None: the actor's class under Ray, else the script's
                name.

        Raises:
            NodeLostError: there is no daemon; the message says where and what to do.
            LimitError: the daemon has as many sessions as it may.
            ValueError: $TUTTI_LANE is none of these. With `ring`, also any other CollectiveError:
                why there is none.
        """
        _fork.check()
        scope = to_name(namespace or _surroundings.namespace(), "namespace")
        name = to_name(label or _paths.own_name(), "label")
        lane = _lanes.choice_of_environment()
        self._connection = _surroundings.connect(
            socket_dir, lambda directory: _Connection(directory, scope, name, lane)
        )
        self._finalizer = weakref.finalize(self, self._connection.close)
        self._finalizer.atexit = False  # _exit does it, and waits
        self._namespace = scope
        self._join_ids = itertools.count(1)

    @property
    def namespace(self) -> str:
        """What scopes its groups."""
        return self._namespace

    @property
    def session_id(self) -> int:
        """Names the session in `tutti sessions`."""
        return int(self._connection.session.welcome.session_id)

    @property
    def daemon(self) -> str:
        """Which daemon: another one, also one that was started again, has another of these."""
        return str(self._connection.session.welcome.incarnation.hex())

    @property
    def lost(self) -> CollectiveError | None:
        """Why the session has ended: the daemon died, or `close` was called. Else None."""
        return self._connection.session.ended

    def join(
        self,
        group: str,
        rank: int,
        world_size: int,
        *,
        backend: str = "auto",
        work_timeout: float | None = None,
        timeout: float | None = None,
    ) -> Group:
        """Takes seat `rank` of `group`, and returns when all ranks have joined.

        All ranks must agree on everything but `rank` and `timeout`.

        Args:
            group: any text of 1 to 256 bytes in UTF-8.
            rank: 0 to world_size - 1.
            world_size: how many ranks the group has.
            backend: "auto", or a backend that the daemon has.
            work_timeout: deadline in seconds of works that set none; None: the daemon's default.
            timeout: how long to wait for the other ranks, in seconds; None: the daemon's default.

        Raises:
            DeadlineError: naming the ranks that have not joined.
            MismatchError: the joiners disagree, naming both sides.
            CollectiveError: the seat is taken by a living process (cause SEAT_TAKEN), and others.
        """
        joining = self.start_join(
            group, rank, world_size, backend=backend, work_timeout=work_timeout, timeout=timeout
        )
        try:
            return joining.wait()
        except BaseException:  # KeyboardInterrupt, say: the seat is not for ever
            joining.cancel()
            raise

    def start_join(
        self,
        group: str,
        rank: int,
        world_size: int,
        *,
        backend: str = "auto",
        work_timeout: float | None = None,
        timeout: float | None = None,
    ) -> Joining:
        """As `join`, but waits for nobody: `Joining.wait` does, and raises what `join` raises."""
        _fork.check()
        world_size = to_int(world_size, "world_size", 1, 1 << 32)
        request = _wire.client.JoinGroupRequest(
            group=to_name(group, "group"),
            rank=to_int(rank, "rank", 0, world_size),
            world_size=world_size,
            backend=to_name(backend, "backend"),
            work_timeout_ms=to_milliseconds(work_timeout, "work_timeout"),
            join_timeout_ms=to_milliseconds(timeout),
            join_id=next(self._join_ids),
        )
        if timeout is None:
            timeout = self._connection.session.welcome.join_timeout_ms / 1000 or _JOIN_TIMEOUT_S
        limit_s = timeout + _JOIN_GRACE_S
        joining = Joining(self, request, self._connection.start_call("JoinGroup", request, limit_s))
        _surroundings.watch(joining)
        return joining

    def empty(
        self, shape: int | Sequence[int], dtype: npt.DTypeLike = np.float64
    ) -> npt.NDArray[Any]:
        """A NumPy array of arbitrary content that lives in an arena: operations don't copy it.

        The memory is the array's own until the last view of it is gone, also after `close`.
        """
        _fork.check()
        return self._pool.array(_to_shape(shape), dtype)

    def zeros(
        self, shape: int | Sequence[int], dtype: npt.DTypeLike = np.float64
    ) -> npt.NDArray[Any]:
        """As `empty`, filled with zeros."""
        array = self.empty(shape, dtype)
        array.fill(0)
        return array

    def from_numpy(self, array: npt.ArrayLike) -> npt.NDArray[Any]:
        """A copy of `array` that lives in an arena."""
        source = np.asarray(array)
        copy = self.empty(source.shape, source.dtype)
        np.copyto(copy, source)
        return copy

    def release_unused_memory(self) -> int:
        """Gives arenas that hold nothing back to the node. Returns how many bytes that were."""
        _fork.check()
        return self._connection.memory.release_unused()

    def close(self) -> None:
        """Ends the session. Idempotent; waits for nobody.

        This process leaves its groups; works still in flight fail with GroupClosedError. Arrays
        that live in arenas stay valid.
        """
        _fork.check()
        self._finalizer()
        self._connection.join()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "" if self.lost is None else f", ended: {self.lost}"
        return f"<Client of {self._connection.socket_dir}, session {self.session_id}{state}>"

    # For Group.

    @property
    def _pool(self) -> Pool:
        return self._connection.memory.pool

    @property
    def _lane(self) -> Lane:
        lane = self._connection.lane
        assert lane is not None  # made in the constructor
        return lane

    def _leave(self, membership: int) -> None:
        # The call may overtake the stream, so it says what it comes after.
        request = _wire.client.LeaveGroupRequest(
            membership=membership, after_work=self._lane.last_number
        )
        self._send_leave(request)

    # For Joining.

    def _end_call(self, call: Any, what: str) -> Any:
        return self._connection.end_call(call, what)

    def _call_off(self, join_id: int) -> None:
        self._send_leave(_wire.client.LeaveGroupRequest(join_id=join_id))

    def _send_leave(self, request: Any) -> None:
        with contextlib.suppress(CollectiveError):  # then the session has ended, or does so soon
            call = self._connection.start_call("LeaveGroup", request, _LEAVE_TIMEOUT_S)
            self._connection.end_call(call, "leaving a group")


class _Connection:
    """What a client consists of, apart from it: threads refer to this, so a client can be dropped.

    Thread-safe. Whatever ends it, it ends on the session's thread, in `_on_lost`.
    """

    def __init__(self, socket_dir: Path, namespace: str, label: str, lane: str) -> None:
        self.socket_dir = socket_dir
        self._channel: grpc.Channel | None = None
        self.lane: Lane | None = None
        self._losing = threading.Lock()
        self.session = Session(socket_dir, namespace, label, self._on_lost, self._on_nudge)
        try:
            _exit.register(self)
            self.memory = Memory(self.session)
            self._channel = _rpc.open_channel(socket_dir)
            _fork.register(self)
            self._stub = _rpc.ClientStub(self._channel, self.session.welcome.token)
            self.lane = _lanes.make_lane(self.session, self.memory, self._stub, lane)
            if self.session.ended is not None:
                self._on_lost(self.session.ended)  # which came too early for the lane
            self.lane.wait_ready()
        except BaseException:
            self.close()
            raise

    def start_call(self, method: str, request: Any, limit_s: float) -> Any:
        """Calls ClientService, with the deadline `limit_s`. Raises CollectiveErrors."""
        try:
            return self._stub.unary(method, request, limit_s)
        except ValueError:  # the channel is closed
            self._raise_end()

    def end_call(self, call: Any, what: str) -> Any:
        """The answer of `start_call`, when it is there. Raises CollectiveErrors."""
        try:
            return call.result()
        except grpc.FutureCancelledError:
            self._raise_end()
        except grpc.RpcError as error:
            reason = _rpc.error_of_call(error, what)
            # If the daemon is dying, all its sockets tell, in any order. One error for one event.
            if isinstance(reason, NodeLostError) and reason.cause is Cause.NODE_LOST:
                self.session.join(_LOST_GRACE_S)
            _exit.raise_copy(self.session.ended or reason)

    def close(self) -> None:
        """Lets it end. Takes no lock and does not wait: the garbage collector may call it."""
        self.session.close(GroupClosedError("the client was closed"))

    def join(self) -> None:
        """Waits until it has ended."""
        self.session.join(_CLOSE_TIMEOUT_S)
        if self.lane is not None:
            self.lane.join(_CLOSE_TIMEOUT_S)

    # See _fork.Forkable.

    def before_fork(self) -> None:
        if self.lane is not None:
            self.lane.pause()

    def after_fork_in_parent(self) -> None:
        if self.lane is not None:
            self.lane.resume()

    def after_fork_in_child(self) -> list[object]:
        self.session.forked()
        if self.lane is not None:
            self.lane.forked()
        return [self._channel, self.lane]

    def _raise_end(self) -> NoReturn:
        self.session.join(_LOST_GRACE_S)
        _exit.raise_copy(self.session.ended or NodeLostError("the session has ended"))

    def _on_nudge(self) -> float | None:
        return None if self.lane is None else self.lane.attend()

    def _on_lost(self, error: CollectiveError) -> None:
        with self._losing:  # on the session's thread, and by the constructor
            if self.lane is not None:
                self.lane.close(error)
        if self._channel is not None:
            self._channel.close()


def _to_shape(shape: int | Sequence[int]) -> tuple[int, ...]:
    lengths = shape if isinstance(shape, Sequence) else (shape,)
    return tuple(to_int(length, "shape", 0, 1 << 62) for length in lengths)
