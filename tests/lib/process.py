"""Runs one command of a step: its output passes through, and it never outlives its time."""

import os
import pathlib
import select
import signal
import subprocess
from typing import IO

ROOT = pathlib.Path(__file__).resolve().parents[2]

# What `timeout` of coreutils returns.
TIMED_OUT = 124

# Between SIGINT and SIGKILL.
_GRACE_S = 20


def run(
    command: list[str],
    timeout_s: float,
    env: dict[str, str] | None = None,
    stdout: IO[str] | None = None,
) -> int:
    """Exit status of `command`, run at the top of the tree; TIMED_OUT if it had to be stopped."""
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        start_new_session=True,
    ) as process:
        in_time = False
        try:
            in_time = _ended_within(process, timeout_s)
        finally:
            if not in_time:
                # Politely first: Bazel's client must tell its server, or that goes on alone.
                os.killpg(process.pid, signal.SIGINT)
                _ended_within(process, _GRACE_S)
            # What it has left behind goes with it. It has not been reaped, so the number of its
            # process group can't be anyone else's yet.
            os.killpg(process.pid, signal.SIGKILL)
        status = process.wait()
    return status if in_time else TIMED_OUT


def _ended_within(process: subprocess.Popen[bytes], timeout_s: float) -> bool:
    """Waits for the end without reaping."""
    descriptor = os.pidfd_open(process.pid)
    try:
        return bool(select.select([descriptor], [], [], max(timeout_s, 0))[0])
    finally:
        os.close(descriptor)


def output(command: list[str]) -> str:
    """What a short command prints; raises CalledProcessError if it fails."""
    return subprocess.run(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
    ).stdout


def tracked_files(*patterns: str) -> list[str]:
    """Files of the tree as git sees it, new ones included and ignored ones not."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--"]
    names = [name for name in output(command + list(patterns)).split("\0") if name]
    return sorted(name for name in set(names) if (ROOT / name).is_file())
