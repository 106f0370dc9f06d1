"""Where we are in Ray: which node, which job, and where the node's daemon is to be found."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

import ray

from tutti import _paths
from tutti.errors import NodeLostError

# Ray sets it for all of its workers.
_RAYLET_PID = "RAY_RAYLET_PID"


@dataclass(frozen=True)
class Node:
    """A node of Ray: one raylet. Two on one machine are two nodes, with a daemon each."""

    # As Ray writes it, in hexadecimal.
    id: str
    session_dir: Path

    @property
    def socket_dir(self) -> Path:
        """Where the sockets of the node's daemon are. Makes the directory above.

        Raises NodeLostError if that is another user's, or open to others.
        """
        path = self.session_dir / "tutti" / self.id[:16]
        if not _paths.fits_sockets(path):
            # Ray's own directory may be anywhere (--temp-dir).
            session = hashlib.sha256(os.fsencode(self.session_dir)).hexdigest()[:16]
            path = Path(f"/tmp/tutti-{os.geteuid()}/{session}-{self.id[:16]}")
        _make_own(path.parent)
        return path

    @property
    def log(self) -> Path:
        """Where the daemon writes, among Ray's logs."""
        return self.session_dir / "logs" / f"tuttid-{self.id[:16]}.log"


def _make_own(folder: Path) -> None:
    """Ray's directories, and /tmp, are open to all users: ours is only ours."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if found.st_uid != os.geteuid() or not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o022:
        raise NodeLostError(
            f"{folder} is not a directory of ours alone (user {found.st_uid}, mode "
            f"{stat.S_IMODE(found.st_mode):o}); remove it, or set TUTTI_SOCKET_DIR for the raylet"
        )


def this_node() -> Node:
    """The node that this process runs on. REQUIRES: Ray is initialized."""
    context = ray.get_runtime_context()
    session_dir = Path(context.get_temp_dir()) / context.get_session_name()
    return Node(context.get_node_id(), session_dir)


def namespace() -> str:
    """What scopes group names: jobs of one cluster, and clusters of one daemon, don't meet."""
    context = ray.get_runtime_context()
    session = hashlib.sha256(context.get_session_name().encode()).hexdigest()[:8]
    return f"ray-{session}-job-{context.get_job_id()}"


def key_of(kind: str, name_space: str, group: str) -> bytes:
    """In Ray's key-value store: what is known of a group, of any name."""
    scope = hashlib.sha256(f"{name_space}\0{group}".encode()).hexdigest()
    return f"tutti:{kind}:{scope}".encode()


def raylet_pid() -> int | None:
    """The process of this node's raylet; None if this is a driver, not a worker."""
    pid = os.environ.get(_RAYLET_PID)
    return None if pid is None else int(pid)
