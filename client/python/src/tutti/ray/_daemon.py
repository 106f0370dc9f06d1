"""The daemon of a Ray node: started by whoever needs it first, ended with the raylet."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import shutil
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tutti import _wire
from tutti._joining import Joining
from tutti.errors import NodeLostError
from tutti.ray import _authority, _seed
from tutti.ray._node import Node, raylet_pid, this_node

_LAUNCH = Path(__file__).with_name("_launch.py")
# Of a daemon that is being started: it takes a few milliseconds, and a node may be busy.
_READY_TIMEOUT_S = 30.0
# Longer than another one's turn.
_TURN_TIMEOUT_S = 45.0
_LOOK_EVERY_S = 0.02
_LOG_TAIL_BYTES = 2000
# Who sets one of these decides how daemons find each other, and whom they trust.
_PEER_SETTINGS = ("peer_address", "join", "etcd", "peer_tls_dir", "insecure_peers")


def find_program() -> str:
    """The path of tuttid: $TUTTID, else where this Python's programs are, else on $PATH.

    Raises NodeLostError.
    """
    scripts = sysconfig.get_path("scripts")
    return _find(
        "tuttid", "TUTTID", scripts, "Install it on every node, or name it with "
        'runtime_env={"env_vars": {"TUTTID": "/path/to/tuttid"}}'
    )


def find_tool() -> str:
    """The path of `tutti`: $TUTTI_CLI, else beside tuttid, else on $PATH. Raises NodeLostError."""
    beside = os.path.dirname(find_program())
    return _find("tutti", "TUTTI_CLI", beside, "It makes the daemons' certificates: install it "
                 "beside tuttid on every node")


def _find(name: str, variable: str, folder: str, advice: str) -> str:
    named = os.environ.get(variable) or None
    beside = os.path.join(folder, name)
    found = named if named is not None else shutil.which(beside) or shutil.which(name)
    if found is not None and os.access(found, os.X_OK):
        return os.path.abspath(found)
    where = (
        f"${variable} is {named}, which is no program" if named else f"not {beside}, not on $PATH"
    )
    raise NodeLostError(f"there is no program {name} on this Ray node ({where}). {advice}")


def start(settings: Mapping[str, str] | None = None) -> bool:
    """Starts the daemon of this node, and returns when it is ready: True, or False if one was
    already there. Whoever comes meanwhile waits. In a driver a task of the node does it.

    Raises NodeLostError: there is no tuttid, or it has not become ready; its log says why.
    """
    node, pid = this_node(), raylet_pid()
    if pid is None:
        return bool(ray.get(_start_on(node.id, settings)))
    with _turn(node):
        there = answers(node.socket_dir)
        if not there:
            _start(node, pid, settings or {})
        _seed.publish(node, find_tool)
        return not there


def _start_on(node_id: str, settings: Mapping[str, str] | None = None) -> Any:
    """The same on another node: the reference of its result. Nothing where daemons are started by
    hand.
    """
    there = NodeAffinitySchedulingStrategy(node_id, soft=False)
    return _start_task.options(scheduling_strategy=there).remote(settings)


def _start_unless_named(settings: Mapping[str, str] | None) -> bool:
    return not os.environ.get("TUTTI_SOCKET_DIR") and start(settings)


_start_task = ray.remote(num_cpus=0)(_start_unless_named)


def watch(joining: Joining) -> None:
    """See _seed.watch."""
    _seed.watch(joining, _start_on)


def answers(socket_dir: Path) -> bool:
    """Whether a daemon serves there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        try:
            probe.connect(os.fspath(socket_dir / _wire.SESSION_SOCKET))
        except OSError:
            return False
        return True


@contextlib.contextmanager
def _turn(node: Node) -> Iterator[None]:
    """One process of the node at a time."""
    node.socket_dir.mkdir(mode=0o700, exist_ok=True)
    with open(node.socket_dir / "start.lock", "w") as lock:
        deadline = time.monotonic() + _TURN_TIMEOUT_S
        while not _try_lock(lock):
            if time.monotonic() > deadline:
                raise NodeLostError(
                    f"another process has been starting tuttid ({lock.name}) for "
                    f"{_TURN_TIMEOUT_S:g} s; is it stopped?"
                )
            threading.Event().wait(_LOOK_EVERY_S)
        yield


def _try_lock(lock: TextIO) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _start(node: Node, pid: int, settings: Mapping[str, str]) -> None:
    program = find_program()
    settings = {**_peer_settings(node, settings), **settings}
    flags = [f"--{name}={value}" for name, value in settings.items()]
    command = [program, f"--socket_dir={node.socket_dir}", f"--end_with_process={pid}", *flags]
    with _notified(node.socket_dir / "ready") as ready:
        notify = f"NOTIFY_SOCKET={ready.getsockname()}"
        launch = [sys.executable, "-I", "-S", os.fspath(_LAUNCH), str(pid), os.fspath(node.log)]
        launched = subprocess.run(
            [*launch, notify, "--", *command], capture_output=True, text=True, check=False
        )
        if launched.returncode != 0:
            raise NodeLostError(f"cannot start {program}: {launched.stderr.strip()}")
        _await_ready(ready, int(launched.stdout), node)


def _peer_settings(node: Node, given: Mapping[str, str]) -> dict[str, str]:
    """How the daemon finds the others of the cluster, and is known to them."""
    if any(name in given for name in _PEER_SETTINGS):
        return {}
    role = _seed.role(node.id, lambda other: _start_on(other, given))
    return {**role, "peer_tls_dir": os.fspath(_authority.certificates(node, find_tool()))}


@contextlib.contextmanager
def _notified(path: Path) -> Iterator[socket.socket]:
    """The socket at which a service manager is told READY=1 (sd_notify)."""
    path.unlink(missing_ok=True)  # of one who was killed
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
        ready.bind(os.fspath(path))
        try:
            yield ready
        finally:
            path.unlink(missing_ok=True)


def _await_ready(ready: socket.socket, pid: int, node: Node) -> None:
    poll = select.poll()
    poll.register(ready, select.POLLIN)
    process = None
    with contextlib.suppress(ProcessLookupError):  # ended already, and nobody's child
        process = os.pidfd_open(pid)
        poll.register(process, select.POLLIN)
    try:
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while True:
            left_s = deadline - time.monotonic()
            events = dict(poll.poll(max(0.0, left_s) * 1000 if process is not None else 0))
            if ready.fileno() in events:
                if b"READY=1" in ready.recv(4096):
                    return
            elif events or process is None:
                if answers(node.socket_dir):
                    return  # another one was there first, whose starter has been killed
                _fail(node, "ended before it was ready")
            elif left_s <= 0:
                _fail(node, f"was not ready within {_READY_TIMEOUT_S:g} s")
    finally:
        if process is not None:
            os.close(process)


def _fail(node: Node, what: str) -> None:
    said = ""
    with contextlib.suppress(OSError):
        said = node.log.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace").strip()
    raise NodeLostError(f"tuttid {what}. The end of {node.log}:\n{said}")
