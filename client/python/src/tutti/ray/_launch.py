"""A program: starts a daemon that belongs to the raylet, although a worker of Ray calls it.

    python -I -S _launch.py RAYLET_PID LOG NAME=VALUE... -- PROGRAM ARGUMENT...

Prints the daemon's process id. The daemon gets what the raylet has and Ray's workers have not: its
environment (without the GPU mask of an actor), its priority (Ray gives workers nice 15) and its
chance against the kernel's OOM killer (workers have the worst), as far as the user may. It is
nobody's child, in a session of its own: Ray kills the children of workers. NAME=VALUE is added to
its environment; its output goes to LOG.

Uses nothing but the standard library, for it has to start quickly.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path


def environment_of(pid: int) -> dict[str, str]:
    """What the process was started with."""
    entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return dict(os.fsdecode(entry).split("=", 1) for entry in entries if b"=" in entry)


def become_like(pid: int) -> None:
    """Takes over what a process inherits. What we may not is left as it is."""
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, os.sched_getaffinity(pid))
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, pid))
    with contextlib.suppress(OSError):
        score = Path(f"/proc/{pid}/oom_score_adj").read_bytes()
        Path("/proc/self/oom_score_adj").write_bytes(score)


def redirect_to(log: str) -> None:
    """Standard output and error; there is no input."""
    null = os.open(os.devnull, os.O_RDONLY)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for target, source in ((0, null), (1, out), (2, out)):
        os.dup2(source, target)


def main(arguments: list[str]) -> None:
    """Returns in the process that was called; the other one becomes the daemon."""
    split = arguments.index("--")
    pid, log, *added = arguments[:split]
    command = arguments[split + 1 :]
    environment = environment_of(int(pid))
    environment.update(dict(entry.split("=", 1) for entry in added))
    child = os.fork()
    if child != 0:
        print(child, flush=True)
        return
    try:
        os.setsid()
        os.chdir("/")
        become_like(int(pid))
        redirect_to(log)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        os.execve(command[0], command, environment)
    except OSError as error:
        os.write(2, f"cannot start {command[0]}: {error}\n".encode())
    finally:
        os._exit(127)


if __name__ == "__main__":
    main(sys.argv[1:])
