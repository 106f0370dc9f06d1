"""A memory limit for one process: a control group of version 1 or 2, where one may be made."""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Iterator

from waiting import wait_until

_ROOT = pathlib.Path("/sys/fs/cgroup")


class Unavailable(Exception):
    """No control group can be made here; the message says why."""


@contextlib.contextmanager
def memory_limit(limit_bytes: int) -> Iterator[pathlib.Path]:
    """Makes a group that may use so much memory and no swap. Yields the file to which a process
    writes "0" to enter it. Removes the group at the end, when its processes have to be gone.

    Raises Unavailable.
    """
    folder = _own_folder() / f"tutti-test-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError as error:
        raise Unavailable(f"{folder} can't be made: {error.strerror}") from error
    try:
        try:
            _set_limit(folder, limit_bytes)
        except OSError as error:
            raise Unavailable(f"no memory limit in {folder}: {error.strerror}") from error
        yield folder / "cgroup.procs"
    finally:
        # The kernel takes a moment to forget a process that has ended.
        wait_until(lambda: _removed(folder), f"{folder} is empty and removed")


def _own_folder() -> pathlib.Path:
    """Where this process may make groups: below its own."""
    for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":
            return _first_writable(_ROOT / "memory" / path.lstrip("/"), _ROOT / "memory")
        if controllers == "" and (_ROOT / "cgroup.controllers").exists():
            # Version 2 lets groups with processes have no limits below them: beside us.
            own = _ROOT / path.lstrip("/")
            return _first_writable(own.parent, _ROOT) if path != "/" else own
    raise Unavailable("no memory controller is mounted at /sys/fs/cgroup")


def _first_writable(*folders: pathlib.Path) -> pathlib.Path:
    for folder in folders:
        if os.access(folder, os.W_OK):
            return folder
    raise Unavailable(f"{folders[0]} may not be written")


def _set_limit(folder: pathlib.Path, limit_bytes: int) -> None:
    if (folder / "memory.limit_in_bytes").exists():
        (folder / "memory.limit_in_bytes").write_text(str(limit_bytes))
        swap = folder / "memory.memsw.limit_in_bytes"
        if swap.exists():
            swap.write_text(str(limit_bytes))
        return
    (folder / "memory.max").write_text(str(limit_bytes))
    swap = folder / "memory.swap.max"
    if swap.exists():
        swap.write_text("0")


def _removed(folder: pathlib.Path) -> bool:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
