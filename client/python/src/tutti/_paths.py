"""Where the daemon's sockets are, what to tell a user who has no daemon, and who we are."""

from __future__ import annotations

import contextlib
import os
import sys
import urllib.parse
from pathlib import Path

from tutti import _wire
from tutti.errors import NodeLostError

# sun_path has 108 bytes, one of them for the final zero.
_SOCKET_PATH_MAX = 107


def resolve_socket_dir(socket_dir: str | os.PathLike[str] | None) -> Path:
    """The argument, else $TUTTI_SOCKET_DIR, else /run/tutti as root, else $XDG_RUNTIME_DIR/tutti.

    Raises NodeLostError if none of them is set, ValueError if the path is too long for a socket.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    named = os.fspath(socket_dir) if socket_dir else os.environ.get("TUTTI_SOCKET_DIR")
    if named:
        path = Path(named).absolute()
    elif os.geteuid() == 0:
        path = Path("/run/tutti")
    elif runtime:
        path = Path(runtime).absolute() / "tutti"
    else:
        raise NodeLostError(
            "can't tell where the daemon's sockets are: XDG_RUNTIME_DIR is not set. "
            "Set TUTTI_SOCKET_DIR to the directory that tuttid was started with (--socket_dir)"
        )
    if not fits_sockets(path):
        raise ValueError(
            f"{path} is too long for a directory of Unix sockets: with /{_wire.SESSION_SOCKET} it "
            f"has {_size_of(path)} bytes, and the kernel takes {_SOCKET_PATH_MAX}"
        )
    return path


def fits_sockets(socket_dir: Path) -> bool:
    """Whether the kernel takes the names of sockets in this directory."""
    return _size_of(socket_dir) <= _SOCKET_PATH_MAX


def _size_of(socket_dir: Path) -> int:
    return len(os.fsencode(socket_dir / _wire.SESSION_SOCKET))


def grpc_target(socket_dir: Path) -> str:
    """The name that gRPC gives the client socket. gRPC parses it as a URI, so it is quoted."""
    return "unix:" + urllib.parse.quote(os.fsencode(socket_dir / _wire.GRPC_SOCKET))


def no_daemon(socket_dir: Path, reason: str) -> NodeLostError:
    """What is raised if nobody answers in `socket_dir`."""
    return NodeLostError(
        f"no Tutti daemon answers at {socket_dir / _wire.SESSION_SOCKET} ({reason}). "
        f"Start one with: tuttid --socket_dir {socket_dir} (see `tutti status`). If it runs with "
        "another directory, set TUTTI_SOCKET_DIR to it"
    )


def own_name(command_line: str = "/proc/self/cmdline") -> str:
    """What this process calls itself: an actor's class under Ray, else the script's name."""
    title = b""
    with contextlib.suppress(OSError), open(command_line, "rb") as words:
        title = words.read(256).split(b"\0", 1)[0]
    # Ray gives its workers such a title, while their script is the same for all of them.
    if title.startswith(b"ray::"):
        return title.decode(errors="replace").strip()[:64]
    return os.path.basename(sys.argv[0] or "") or "python"
