"""The certificates of the daemons of a Ray cluster: nobody has to make any.

The authority is made once, by the node that needs it first, and kept in Ray's key-value store. Who
can read that can run programs on every node of the cluster: whoever trusts Ray can trust it. Each
node makes its own certificate. The authority's key is in a file for that moment only, in memory and
readable by nobody else; what remains is the node's own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from ray.experimental import internal_kv

from tutti.errors import NodeLostError
from tutti.ray._node import Node

_KEY = b"tutti:authority"
# What `tutti certs init` makes.
_FILES = ("ca.pem", "ca.key")
_MEMORY = "/dev/shm"
_TIMEOUT_S = 30.0


def certificates(node: Node, tool: str) -> Path:
    """Makes those of the node, in a directory that is only ours, and returns it. `tool`: the path
    of the program `tutti`. To be called by one process of the node at a time.

    Raises NodeLostError.
    """
    name = node.id[:16]
    folder = node.socket_dir / "tls"
    authority = internal_kv._internal_kv_get(_KEY) or _make(tool)
    with _folder_in_memory() as place:
        for file, text in json.loads(authority).items():
            path = Path(place, file)
            path.touch(mode=0o600)
            path.write_text(text)
        _run(tool, "certs", "node", place, name)
        made = folder.with_name("tls.new")
        shutil.rmtree(made, ignore_errors=True)
        shutil.copytree(Path(place, name), made)
        made.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)
    return made.rename(folder)


def _make(tool: str) -> bytes:
    """The cluster's: this one, or another's who was first."""
    with _folder_in_memory() as place:
        _run(tool, "certs", "init", place, "--cluster", "ray")
        files = {file: Path(place, file).read_text() for file in _FILES}
    internal_kv._internal_kv_put(_KEY, json.dumps(files).encode(), overwrite=False)
    kept = internal_kv._internal_kv_get(_KEY)
    assert kept is not None
    return bytes(kept)


def _folder_in_memory() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(dir=_MEMORY if os.path.isdir(_MEMORY) else None)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    if done.returncode != 0:
        raise NodeLostError(f"{' '.join(command)}: {done.stderr.strip()}")
