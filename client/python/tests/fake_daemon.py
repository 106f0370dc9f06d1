"""A daemon in this process, for tests of the client: the sockets and the matching. It is strict
where the real one is (gaps in numbers, unknown arenas), and can misbehave. `fake_operations` does
the computing.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import queue
import socket
import threading
import time
import traceback
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fake_operations as operations
import grpc
import numpy as np
from fake_ring import FakeRing

from tutti.v1 import client_pb2, session_pb2, types_pb2

T = types_pb2
_CODES = {T.CAUSE_MISMATCH: 9, T.CAUSE_DEADLINE: 4, T.CAUSE_NODE_LOST: 14, T.CAUSE_RANK_DIED: 10}


def failure(cause: Any, message: str, **fields: Any) -> Any:
    return T.Failure(cause=cause, message=message, code=_CODES.get(cause, 9), **fields)


@dataclass
class FakeSession:
    number: int
    token: bytes
    hello: Any
    connection: socket.socket
    arenas: dict[int, Any] = field(default_factory=dict)
    offered: dict[int, Any] = field(default_factory=dict)
    received: int = 0
    serial: int = 0
    acknowledged: int = 0
    completions: list[Any] = field(default_factory=list)
    stream: queue.SimpleQueue[Any] | None = None
    opened: Any = None  # the last Open
    ring: FakeRing | None = None
    goodbye: bool = False


@dataclass
class FakeGroup:
    name: str
    world_size: int
    epoch: int
    seats: dict[int, FakeSession] = field(default_factory=dict)
    queues: dict[int, list[Any]] = field(default_factory=dict)
    # By (source, destination). What is sent eagerly is kept as (work, data).
    sends: dict[tuple[int, int], list[tuple[Any, Any]]] = field(default_factory=dict)
    recvs: dict[tuple[int, int], list[Any]] = field(default_factory=dict)
    error: Any = None
    sequence: int = 0


class FakeDaemon:
    """Runs from construction to `stop`. `hold`: works are received and not completed."""

    def __init__(self, socket_dir: Path) -> None:
        self.socket_dir = socket_dir
        self.lock = threading.Condition()
        self.sessions: dict[bytes, FakeSession] = {}
        self.groups: dict[tuple[str, str], FakeGroup] = {}
        self.memberships: dict[int, tuple[FakeGroup, int]] = {}
        self.joins: dict[int, int] = {}  # memberships by join_id
        self.requests: list[str] = []
        self.works: list[Any] = []
        self.streams = 0
        self.hold = False
        self.in_flight_max = 1024
        self.arena_limit = 1 << 40
        self.unsupported: set[int] = set()  # dtypes
        self.no_ring: Any = None  # the failure that CreateRing is refused with
        self.spin_us = 50
        self.next = 1
        self._grpc = grpc.server(futures.ThreadPoolExecutor(64))
        unary, stream = grpc.unary_unary_rpc_method_handler, grpc.stream_stream_rpc_method_handler
        handlers = {
            "JoinGroup": unary(
                self._join,
                client_pb2.JoinGroupRequest.FromString,
                client_pb2.JoinGroupResponse.SerializeToString,
            ),
            "LeaveGroup": unary(
                self._leave,
                client_pb2.LeaveGroupRequest.FromString,
                client_pb2.LeaveGroupResponse.SerializeToString,
            ),
            "Attach": stream(
                self._attach,
                client_pb2.AttachRequest.FromString,
                client_pb2.AttachResponse.SerializeToString,
            ),
        }
        service = grpc.method_handlers_generic_handler("tutti.v1.ClientService", handlers)
        self._grpc.add_generic_rpc_handlers((service,))
        self._grpc.add_insecure_port(f"unix:{socket_dir}/grpc.sock")
        self._grpc.start()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(socket_dir / "session.sock"))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    # --- What tests do to it ---

    def stop(self) -> None:
        """As if the daemon were killed."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for session in list(self.sessions.values()):
            self.hang_up(session)
        self._grpc.stop(0)
        for name in ("session.sock", "grpc.sock"):
            (self.socket_dir / name).unlink(missing_ok=True)

    def hang_up(self, session: FakeSession) -> None:
        with contextlib.suppress(OSError):
            session.connection.shutdown(socket.SHUT_RDWR)

    def end(self, session: FakeSession, reason: Any) -> None:
        """With last words. As the daemon does, it closes the lane first."""
        if session.ring is not None:
            session.ring.close()
        reply = session_pb2.SessionReply(failure=reason)
        session.connection.send(reply.SerializeToString())
        self.hang_up(session)

    def break_streams(self) -> None:
        with self.lock:
            for session in self.sessions.values():
                if session.stream is not None:
                    session.stream.put(None)

    def release(self) -> None:
        """Ends `hold`, and works off what has come meanwhile."""
        with self.lock:
            self.hold = False
            for group in self.groups.values():
                self._work_off(group)

    def wait_for(self, condition: Any, timeout: float = 10) -> None:
        with self.lock:
            assert self.lock.wait_for(condition, timeout), "the fake daemon has not seen it"

    # --- The session socket ---

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        session = None
        while packet := _receive(connection):
            request = session_pb2.SessionRequest.FromString(packet)
            with self.lock:
                self.requests.append(request.WhichOneof("request"))
                self.lock.notify_all()
            if request.HasField("hello"):
                session = FakeSession(
                    len(self.sessions) + 1, os.urandom(32), request.hello, connection
                )
                with self.lock:
                    self.sessions[session.token] = session
            if request.HasField("goodbye"):
                assert session
                session.goodbye = True
                break
            assert session
            reply, fd = self._answer(session, request)
            reply.request_id = request.request_id
            fds = [] if fd is None else [fd]
            with contextlib.suppress(OSError):
                socket.send_fds(connection, [reply.SerializeToString()], fds)
            if request.HasField("create_ring") and fd is not None:
                os.close(fd)
        if session:
            self._end(session)
        connection.close()

    def _answer(self, session: FakeSession, request: Any) -> tuple[Any, int | None]:
        kind = request.WhichOneof("request")
        reply = session_pb2.SessionReply()
        fd = None
        if kind == "hello":
            reply.welcome.session_id = session.number
            reply.welcome.token = session.token
            reply.welcome.protocol_version = 1
            reply.welcome.daemon_version = "fake"
            reply.welcome.works_in_flight_max = self.in_flight_max
        elif kind == "create_arena":
            size = request.create_arena.size_bytes
            assert size > 0 and size % 4096 == 0
            if size + sum(len(m) for m in session.arenas.values()) > self.arena_limit:
                reply.failure.CopyFrom(failure(T.CAUSE_LIMIT, "too much (arena_bytes_max)"))
                return reply, None
            fd = os.memfd_create("fake")
            os.ftruncate(fd, size)
            reply.arena_created.arena = self.next
            session.offered[self.next] = fd
            self.next += 1
        elif kind == "arena_mapped":
            number = request.arena_mapped.arena
            memfd = session.offered.pop(number)
            status = os.fstat(memfd)
            assert status.st_blocks * 512 >= status.st_size, "not allocated"
            session.arenas[number] = mmap.mmap(memfd, status.st_size)
            os.close(memfd)
            reply.arena_ready.arena = number
        elif kind == "release_arena":
            session.arenas.pop(request.release_arena.arena, None)
            if (left := session.offered.pop(request.release_arena.arena, None)) is not None:
                os.close(left)
            reply.arena_released.arena = request.release_arena.arena
        elif kind == "create_ring":
            if self.no_ring is not None:
                reply.failure.CopyFrom(self.no_ring)
                return reply, None
            fd = self._make_ring(session, request.create_ring)
            reply.ring_created.last_received = session.received
            reply.ring_created.spin_us = self.spin_us
        return reply, fd

    def _make_ring(self, session: FakeSession, request: Any) -> int:
        assert request.offset % 4096 == 0
        assert request.acknowledged == session.serial == 0
        session.ring = FakeRing(
            memoryview(session.arenas[request.arena])[request.offset :],
            session.arenas,
            self.lock,
            lambda work: self._submit_or_hang_up(session, work),
            lambda: self.hang_up(session),
        )
        return session.ring.theirs.detach()

    def _end(self, session: FakeSession) -> None:
        if session.ring is not None:
            session.ring.close()
        with self.lock:
            self.sessions.pop(session.token, None)
            session.arenas.clear()
            if session.stream is not None:
                session.stream.put(None)
            for group in self.groups.values():
                lost = [rank for rank, held in group.seats.items() if held is session]
                if lost:
                    cause = T.CAUSE_RANK_LEFT if session.goodbye else T.CAUSE_RANK_DIED
                    self._fail(group, failure(cause, f"rank {lost[0]} is gone", culprits=lost))
            self.lock.notify_all()

    # --- ClientService ---

    def _session_of(self, context: Any) -> FakeSession:
        token = dict(context.invocation_metadata())["tutti-token-bin"]
        session = self.sessions.get(token)
        if session is None:
            _abort(context, failure(T.CAUSE_NOT_FOUND, "no such session"))
            raise AssertionError
        return session

    def _join(self, request: Any, context: Any) -> Any:
        with self.lock:
            session = self._session_of(context)
            key = (session.hello.namespace, request.group)
            group = self.groups.get(key)
            if group is None or group.error is not None or group.world_size == len(group.seats):
                epoch = 1 if group is None else group.epoch + 1
                group = self.groups[key] = FakeGroup(request.group, request.world_size, epoch)
            if group.world_size != request.world_size:
                _abort(context, failure(T.CAUSE_MISMATCH, "world sizes 2 and 3"))
            group.seats[request.rank] = session
            group.queues[request.rank] = []
            self.lock.notify_all()
            limit = request.join_timeout_ms / 1000 or 10
            context.add_callback(self._wake)

            def is_over() -> bool:
                return len(group.seats) == group.world_size or not context.is_active()

            full = self.lock.wait_for(is_over, limit)
            if not context.is_active():
                del group.seats[request.rank]
                _abort(context, failure(T.CAUSE_WITHDRAWN, "called off"))
            if not full:
                missing = [rank for rank in range(group.world_size) if rank not in group.seats]
                group.error = failure(T.CAUSE_DEADLINE, f"{missing} never joined", missing=missing)
                _abort(context, group.error)
            number = self.next
            self.next += 1
            self.memberships[number] = (group, request.rank)
            self.joins[request.join_id] = number
            timeout_ms = request.work_timeout_ms or 300_000
            return client_pb2.JoinGroupResponse(
                membership=number, epoch=group.epoch, work_timeout_ms=timeout_ms
            )

    def _wake(self) -> None:
        with self.lock:
            self.lock.notify_all()

    def _leave(self, request: Any, context: Any) -> Any:
        with self.lock:
            session = self._session_of(context)
            assert self.lock.wait_for(lambda: session.received >= request.after_work, 10)
            self.requests.append(f"leave after {request.after_work}")
            number = self.joins.pop(request.join_id, request.membership)
            group, rank = self.memberships.pop(number, (None, 0))
            if group is not None:
                left = failure(T.CAUSE_RANK_LEFT, f"rank {rank} has left", culprits=[rank])
                self._fail(group, left, pending=not group.queues[rank])
        return client_pb2.LeaveGroupResponse()

    def _attach(self, requests: Any, context: Any) -> Any:
        session = self._session_of(context)
        outbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        first = next(requests)
        with self.lock:
            self.streams += 1
            if session.stream is not None:
                session.stream.put(None)
            session.stream = outbox
            session.opened = first.open
            self._acknowledge(session, first.open.acknowledged)
            opened = client_pb2.Opened(last_received=session.received)
            outbox.put(client_pb2.AttachResponse(opened=opened))
            for completion in session.completions:
                self._send(session, completion)
        threading.Thread(target=self._read, args=(session, outbox, requests), daemon=True).start()
        while (response := outbox.get()) is not None:
            yield response
        if session.token in self.sessions:
            context.abort(grpc.StatusCode.UNAVAILABLE, "the stream broke")

    def _read(self, session: FakeSession, outbox: Any, requests: Any) -> None:
        with contextlib.suppress(Exception):
            for request in requests:
                with self.lock:
                    if session.stream is not outbox:
                        return
                    if request.HasField("acknowledge"):
                        self._acknowledge(session, request.acknowledge.through)
                    else:
                        self._submit_or_hang_up(session, request.work)
                    self.lock.notify_all()
        outbox.put(None)

    def _acknowledge(self, session: FakeSession, through: int) -> None:
        session.acknowledged = through
        session.completions = [each for each in session.completions if each.serial > through]

    def _submit_or_hang_up(self, session: FakeSession, work: Any) -> None:
        try:
            self._submit(session, work)
        except Exception:
            traceback.print_exc()
            self.hang_up(session)

    def _submit(self, session: FakeSession, work: Any) -> None:
        in_flight = session.received - session.serial
        kept = len(session.completions)
        if (
            work.number != session.received + 1
            or in_flight >= self.in_flight_max
            or kept >= 4 * self.in_flight_max
        ):
            self.hang_up(session)
            return
        session.received = work.number
        self.works.append(work)
        group, rank = self.memberships.get(work.membership, (None, 0))
        if group is None:
            self._complete(session, work.number, failure(T.CAUSE_NOT_FOUND, "no such seat"))
        elif group.error is not None:
            self._complete(session, work.number, group.error)
        else:
            self._enqueue(group, rank, session, work)
            self._work_off(group)

    # --- Matching and executing ---

    def _enqueue(self, group: FakeGroup, rank: int, session: FakeSession, work: Any) -> None:
        if work.kind == T.COLLECTIVE_KIND_RECV:
            group.recvs.setdefault((work.root, rank), []).append(work)
        elif work.kind == T.COLLECTIVE_KIND_SEND:
            data = None
            eager = work.inputs[0].length <= operations.EAGER_SEND_BYTES and not self.hold
            if eager and not operations.check(work, rank, group.world_size, self.unsupported):
                data = self._view(group, rank, work.inputs[0]).copy()
                self._complete(session, work.number, None)
            group.sends.setdefault((rank, work.root), []).append((work, data))
        else:
            group.queues[rank].append(work)

    def _work_off(self, group: FakeGroup) -> None:
        while (
            not self.hold and len(group.queues) == group.world_size and all(group.queues.values())
        ):
            works = [group.queues[rank].pop(0) for rank in range(group.world_size)]
            group.sequence += 1
            error = self._execute(group, works)
            for rank, work in enumerate(works):
                self._complete(group.seats[rank], work.number, error)
        for pair, sends in group.sends.items():
            recvs = group.recvs.get(pair, [])
            while not self.hold and sends and recvs:
                self._transfer(group, pair, *sends.pop(0), recvs.pop(0))

    def _transfer(
        self, group: FakeGroup, pair: tuple[int, int], send: Any, data: Any, recv: Any
    ) -> None:
        error = self._check(group, dict(zip(pair, (send, recv), strict=True)))
        if error is None:
            source = self._view(group, pair[0], send.inputs[0]) if data is None else data
            self._view(group, pair[1], recv.outputs[0])[:] = source
        if data is None:
            self._complete(group.seats[pair[0]], send.number, error)
        self._complete(group.seats[pair[1]], recv.number, error)

    def _execute(self, group: FakeGroup, works: list[Any]) -> Any:
        error = self._check(group, dict(enumerate(works)))
        if error is None:
            operations.execute(works, lambda rank, span: self._view(group, rank, span))
        return error

    def _check(self, group: FakeGroup, works: dict[int, Any]) -> Any:
        for rank, work in works.items():
            refused = operations.check(work, rank, group.world_size, self.unsupported)
            if refused:
                return failure(T.CAUSE_INVALID, f"rank {rank}: {refused}", culprits=[rank])
        mismatch = operations.match(list(works.values()))
        if mismatch:
            return failure(T.CAUSE_MISMATCH, mismatch, group=group.name, culprits=[1])
        return None

    def _view(self, group: FakeGroup, rank: int, span: Any) -> Any:
        if not span.length:
            return np.zeros(0, np.uint8)
        memory = group.seats[rank].arenas[span.arena]
        return np.frombuffer(memory, np.uint8, span.length, span.offset)

    def _complete(self, session: FakeSession, number: int, error: Any) -> None:
        session.serial += 1
        completion = client_pb2.Completion(serial=session.serial, number=number, failure=error)
        if session.ring is not None:
            session.ring.put(completion)
            return
        session.completions.append(completion)
        self._send(session, completion)

    def _send(self, session: FakeSession, completion: Any) -> None:
        if session.stream is not None:
            batch = client_pb2.Completions(completions=[completion])
            session.stream.put(client_pb2.AttachResponse(completions=batch))

    def _fail(self, group: FakeGroup, error: Any, pending: bool = True) -> None:
        group.error = error
        for rank, works in group.queues.items() if pending else ():
            for work in works:
                self._complete(group.seats[rank], work.number, error)
            works.clear()
        if pending:
            for (source, _), sends in group.sends.items():
                for work in [work for work, data in sends if data is None]:
                    self._complete(group.seats[source], work.number, error)
            for (_, target), recvs in group.recvs.items():
                for work in recvs:
                    self._complete(group.seats[target], work.number, error)
            group.sends.clear()
            group.recvs.clear()


def _receive(connection: socket.socket) -> bytes:
    try:
        return connection.recv(4096)
    except OSError:
        return b""


def _abort(context: Any, error: Any) -> None:
    context.set_trailing_metadata((("tutti-failure-bin", error.SerializeToString()),))
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, error.message)


def wait_until(condition: Any, timeout: float = 10) -> None:
    """For what has no event to wait for."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it has not happened"
        threading.Event().wait(0.005)
