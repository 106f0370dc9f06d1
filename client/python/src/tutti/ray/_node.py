"""Where we are in Ray: which node, which job, and where the node's daemon is to be found."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import ray

from tutti import _paths

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
        """Where the sockets of the node's daemon are."""
        path = self.session_dir / "tutti" / self.id[:16]
        if _paths.fits_sockets(path):
            return path
        # Ray's own directory may be anywhere (--temp-dir).
        session = hashlib.sha256(os.fsencode(self.session_dir)).hexdigest()[:16]
        return Path(f"/tmp/tutti-{os.geteuid()}/{session}-{self.id[:16]}")

    @property
    def log(self) -> Path:
        """Where the daemon writes, among Ray's logs."""
        return self.session_dir / "logs" / f"tuttid-{self.id[:16]}.log"


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


def raylet_pid() -> int | None:
    """The process of this node's raylet; None if this is a driver, not a worker."""
    pid = os.environ.get(_RAYLET_PID)
    return None if pid is None else int(pid)
