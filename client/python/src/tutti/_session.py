"""The session socket: says who we are, carries descriptors, and is the session's lease.

One thread per session reads replies and waits for the hang-up, which is how the daemon's death is
seen: by the kernel, in a fraction of a millisecond.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tutti import _exit, _paths, _wire
from tutti._nudge import Nudge
from tutti._version import __version__
from tutti.errors import CollectiveError, DeadlineError, NodeLostError, error_of

# The daemon answers Hello from its control loop, which works on nothing that takes longer.
_HELLO_TIMEOUT_S = 10.0
# Packets have at most 4 KiB.
_PACKET_BYTES_MAX = 4096


class _Reply:
    """A reply that is awaited: the session's thread sets either field, then the event."""

    def __init__(self) -> None:
        self.arrived = threading.Event()
        self.message: Any = None
        self.fd: int | None = None


class Session:
    """One session. Construction connects and says Hello.

    Thread-safe. `on_lost(error)` runs once on the session's thread when the socket hangs up, also
    after `close`, which is then its reason. `on_nudge()` runs on that thread after each `nudge`,
    and returns after how many seconds it is to run again, if it is.
    """

    def __init__(
        self,
        socket_dir: Path,
        namespace: str,
        label: str,
        on_lost: Callable[[CollectiveError], None],
        on_nudge: Callable[[], float | None],
    ) -> None:
        """Raises NodeLostError if no daemon answers, and what the daemon refuses Hello with."""
        self.socket_dir = socket_dir
        self._on_lost = on_lost
        self._on_nudge = on_nudge
        self._lock = threading.RLock()  # a signal handler may ask as well
        self._awaited: dict[int, _Reply] = {}
        self._ids = itertools.count(1)
        self._reason: CollectiveError | None = None  # why it ends, if we know
        self._end: CollectiveError | None = None  # why it has ended
        self._forked = False
        self._socket = _connect(socket_dir)
        try:
            self.welcome = self._hello(namespace, label)
        except BaseException:
            self._socket.close()
            raise
        self._nudged = Nudge()
        self._thread = threading.Thread(target=self._run, name="tutti-session", daemon=True)
        self._thread.start()

    @property
    def ended(self) -> CollectiveError | None:
        """Why the session has ended; None while it lives."""
        return self._end

    def request(self, timeout_s: float, **kind: Any) -> tuple[Any, int | None]:
        """Sends one request (create_arena=...), returns the reply and the descriptor sent along.

        The caller owns the descriptor. Raises the daemon's refusal, NodeLostError when the session
        ends, DeadlineError if no reply comes.
        """
        waiting, number = _Reply(), next(self._ids)
        message = _wire.session.SessionRequest(request_id=number, **kind)
        with self._lock:
            if self._end is not None:
                _exit.raise_copy(self._end)
            self._awaited[number] = waiting
        with contextlib.suppress(OSError):  # it has hung up; the thread says so at once
            self._socket.sendall(message.SerializeToString())
        if not waiting.arrived.wait(timeout_s):
            with self._lock:
                self._awaited.pop(number, None)
            # Otherwise it has come after all.
            if not waiting.arrived.is_set():
                raise DeadlineError(
                    f"the daemon at {self.socket_dir} has not answered "
                    f"{message.WhichOneof('request')} for {timeout_s:g} s"
                )
        if waiting.message is None:
            _exit.raise_copy(self._end or NodeLostError("the session has ended"))
        if waiting.message.HasField("failure"):
            raise error_of(waiting.message.failure)
        return waiting.message, waiting.fd

    def post(self, **kind: Any) -> None:
        """As `request`, but nobody learns of the reply. Never waits, and fails without a word."""
        message = _wire.session.SessionRequest(request_id=next(self._ids), **kind)
        with contextlib.suppress(OSError):
            self._socket.send(message.SerializeToString(), socket.MSG_DONTWAIT)

    def close(self, reason: CollectiveError, goodbye: bool = True) -> None:
        """Ends the session and returns; `on_lost(reason)` follows on the session's thread.

        Takes no lock: the garbage collector may call it anywhere. Idempotent.
        """
        if self._forked or self._end is not None:
            return
        self._reason = self._reason or reason
        with contextlib.suppress(OSError):
            if goodbye:
                message = _wire.session.SessionRequest(goodbye=_wire.session.Goodbye())
                self._socket.send(message.SerializeToString(), socket.MSG_DONTWAIT)
            self._socket.shutdown(socket.SHUT_RDWR)

    def nudge(self) -> None:
        """Makes the session's thread call `on_nudge` soon."""
        self._nudged.give()

    def join(self, timeout_s: float) -> None:
        """Waits for the session's thread, unless this is it."""
        if not self._forked and threading.current_thread() is not self._thread:
            self._thread.join(timeout_s)

    def forked(self) -> None:
        """In a child: gives up the copy of the socket, and leaves the session to the parent."""
        self._forked = True
        # detach: what the object closes later must not be a descriptor that is someone else's then.
        with contextlib.suppress(OSError):
            os.close(self._socket.detach())
        self._nudged.forked()

    def _hello(self, namespace: str, label: str) -> Any:
        hello = _wire.session.Hello(
            protocol_version=_wire.PROTOCOL_VERSION,
            client_version=f"tutti-python {__version__}",
            namespace=namespace,
            label=label,
        )
        request = _wire.session.SessionRequest(request_id=next(self._ids), hello=hello)
        try:
            self._socket.sendall(request.SerializeToString())
            if not select.select([self._socket], [], [], _HELLO_TIMEOUT_S)[0]:
                raise _paths.no_daemon(self.socket_dir, "it accepts and does not answer")
            packet = self._socket.recv(_PACKET_BYTES_MAX)
        except OSError as error:
            raise _paths.no_daemon(self.socket_dir, str(error)) from error
        if not packet:
            raise _paths.no_daemon(self.socket_dir, "it hung up at once")
        reply = _wire.session.SessionReply.FromString(packet)
        if reply.HasField("failure"):
            raise error_of(reply.failure)
        if reply.welcome.protocol_version != _wire.PROTOCOL_VERSION:
            raise CollectiveError(
                f"the daemon at {self.socket_dir} speaks protocol "
                f"{reply.welcome.protocol_version}, this client {_wire.PROTOCOL_VERSION}; install "
                f"the client of the daemon's version ({reply.welcome.daemon_version})"
            )
        return reply.welcome

    def _run(self) -> None:
        try:
            self._serve()
        except Exception as error:  # whatever it is, waiting for it would be a hang
            self._reason = self._reason or CollectiveError(f"the session's thread: {error!r}")
        end = self._reason or NodeLostError(
            f"lost the daemon at {self.socket_dir}: it died, was stopped, or ended this session "
            "(its log tells). Make a new client once it is back"
        )
        with self._lock:
            self._end = end
            awaited, self._awaited = self._awaited, {}
        for waiting in awaited.values():
            waiting.arrived.set()
        self._on_lost(end)
        self._socket.close()
        self._nudged.close()

    def _serve(self) -> None:
        """Until the hang-up."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        poll.register(self._nudged, select.POLLIN)
        again_s: float | None = None
        while True:
            ready = [fd for fd, _ in poll.poll(None if again_s is None else again_s * 1000)]
            if self._nudged.take() or not ready:
                again_s = self._on_nudge()
            if self._socket.fileno() in ready and not self._receive():
                return

    def _receive(self) -> bool:
        """Takes one packet. Returns False at the hang-up."""
        try:
            packet, fds, _, _ = socket.recv_fds(
                self._socket, _PACKET_BYTES_MAX, 4, socket.MSG_CMSG_CLOEXEC
            )
        except OSError:
            return False
        if not packet:
            return False
        reply = _wire.session.SessionReply.FromString(packet)
        if not reply.request_id and reply.HasField("failure"):  # why it hangs up
            self._reason = self._reason or error_of(reply.failure)
        with self._lock:
            waiting = self._awaited.pop(reply.request_id, None)
        if waiting is not None:
            waiting.fd = fds.pop() if fds else None
            waiting.message = reply
            waiting.arrived.set()
        for fd in fds:
            os.close(fd)
        return True


def _connect(socket_dir: Path) -> socket.socket:
    path = socket_dir / _wire.SESSION_SOCKET
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    try:
        # A timeout of Python's would make the socket non-blocking, and connect fail at once if the
        # daemon's backlog is full for a moment.
        whole = struct.pack("@ll", int(_HELLO_TIMEOUT_S), 0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, whole)
        connection.connect(os.fspath(path))
    except OSError as error:
        connection.close()
        raise _paths.no_daemon(socket_dir, error.strerror or str(error)) from error
    return connection
