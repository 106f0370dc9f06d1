"""A tuttid process for tests of clients.

    with DaemonProcess() as daemon:
        os.environ["TUTTI_SOCKET_DIR"] = str(daemon.socket_dir)

It has a directory of its own, is ready when made, and is gone at the end. The binary is $TUTTID.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType

# Long enough for this machine at its worst; nothing waits that long unless it fails.
DEADLINE_S = 20.0
_READY = "tuttid.ready"


class DaemonProcess:
    """A running daemon. The test's thread uses it; a thread of its own reads its log."""

    def __init__(
        self,
        settings: Sequence[str] = (),
        socket_dir: pathlib.Path | None = None,
        env: Mapping[str, str] | None = None,
        before: Callable[[], None] | None = None,
        through: Sequence[str] = (),
    ) -> None:
        """Starts tuttid with `settings` ("--work_timeout_ms=1s"), and returns when it is ready.

        In `socket_dir`, else in a new directory, which is removed at the end. `env` comes on top of
        this process's; `before` runs in the child before the program (to set a limit); `through`
        is a program that becomes it (to enter a namespace). Raises AssertionError, with the log,
        if it ends or takes too long.
        """
        self._own_folder = None if socket_dir else pathlib.Path(tempfile.mkdtemp(prefix="tutti-"))
        self.socket_dir = socket_dir or self._own_folder
        assert self.socket_dir is not None
        self._lines: list[str] = []
        self._ready = threading.Event()  # or ended
        self.process = subprocess.Popen(
            [*through, os.environ["TUTTID"], f"--socket_dir={self.socket_dir}", *settings],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env={**os.environ, **(env or {})},
            preexec_fn=before,
        )
        # Readable once it has ended: to be waited for along with something else.
        self.pidfd = os.pidfd_open(self.process.pid)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        in_time = self._ready.wait(DEADLINE_S)
        if not any(_READY in line for line in self._lines):
            self.close()
            what = "ended before it was ready" if in_time else f"not ready in {DEADLINE_S:g} s"
            raise AssertionError(f"tuttid: {what} ({self.process.returncode})\n{self.log}")

    @property
    def pid(self) -> int:
        """Its process."""
        return self.process.pid

    @property
    def log(self) -> str:
        """What it has written to stderr so far; kept when it has ended."""
        return "".join(list(self._lines))

    def is_alive(self) -> bool:
        """False once it has ended."""
        return self.process.poll() is None

    def terminate(self) -> int:
        """Asks it to end (SIGTERM), and returns its exit status once it has."""
        return self._end(signal.SIGTERM)

    def kill(self) -> int:
        """Kills it (SIGKILL), and returns its exit status, which is negative then."""
        return self._end(signal.SIGKILL)

    def send_signal(self, number: int) -> None:
        """SIGSTOP, SIGCONT and the like."""
        self.process.send_signal(number)

    def wait_exit(self, timeout_s: float = DEADLINE_S) -> int:
        """Returns its exit status once it has ended by itself."""
        status = self.process.wait(timeout_s)
        # The pipe's end comes with that of the process: the log is whole after it.
        self._reader.join(timeout_s)
        return status

    def close(self) -> None:
        """Kills it if it still runs, and removes its directory. Idempotent."""
        self.kill()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1
        if self._own_folder is not None:
            shutil.rmtree(self._own_folder, ignore_errors=True)

    def __enter__(self) -> DaemonProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _end(self, number: int) -> int:
        if self.is_alive():
            self.process.send_signal(number)
        return self.wait_exit()

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as pipe:
            for line in pipe:
                self._lines.append(line)
                if _READY in line:
                    self._ready.set()
        self._ready.set()
