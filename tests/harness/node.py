"""One node under test: a daemon in a directory of its own, its admin socket, its ranks.

    node = Node()
    ranks = node.new_ranks(4)
    node.end_of_test(failed=False)
    node.close()

What it made it ends, in the right order and with deadlines, however it is doing.
"""

from __future__ import annotations

import pathlib
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence

import checks
from admin import Admin
from daemon import DaemonProcess
from rank import Rank

_LOG_TAIL_LINES = 60
_GDB_TIMEOUT_S = 30
# So that tests with tensors of modest size have some executed on the control loop, and some not.
_INLINE = "--inline_bytes_max=128KiB"


class Node:
    """A daemon, its admin socket, and the ranks of a test."""

    def __init__(
        self,
        settings: Sequence[str] = (),
        descriptors_max: int | None = None,
        through: Sequence[str] = (),
    ) -> None:
        """`through` is a program that becomes the daemon (to put it on a host)."""
        self._through = through
        self._folder = pathlib.Path(tempfile.mkdtemp(prefix="tutti-"))
        self._ranks: list[Rank] = []
        self._settings = settings
        self._descriptors_max = descriptors_max
        # A test that ends the daemon says so, or it has failed.
        self.may_end = False
        self._start()

    def _start(self) -> None:
        self.daemon = DaemonProcess(
            (_INLINE, *self._settings),
            socket_dir=self._folder,
            # One heap: glibc makes another for a thread when it meets a lock that is taken, which
            # would look like a leak of two mappings.
            env={"MALLOC_ARENA_MAX": "1"},
            before=self._limit_descriptors if self._descriptors_max else None,
            through=self._through,
        )
        self.admin = Admin(self.socket_dir)

    def _limit_descriptors(self) -> None:
        assert self._descriptors_max is not None
        both = (self._descriptors_max, self._descriptors_max)
        resource.setrlimit(resource.RLIMIT_NOFILE, both)

    def restart(self) -> None:
        """Another daemon in the same directory; the one before has ended."""
        self.admin.close()
        self.daemon.close()
        self._start()

    @property
    def socket_dir(self) -> pathlib.Path:
        return self._folder

    @property
    def pid(self) -> int:
        return self.daemon.pid

    # --- Ranks ---

    def start_rank(
        self,
        namespace: str = "default",
        before: Callable[[], None] | None = None,
        lane: str = "auto",
    ) -> Rank:
        """A process that is not connected yet."""
        rank = Rank(str(self.socket_dir), namespace, before, lane)
        self._ranks.append(rank)
        return rank

    def new_rank(self, namespace: str = "default", lane: str = "auto") -> Rank:
        return self.start_rank(namespace, lane=lane).connect()

    def new_ranks(
        self, count: int, namespace: str = "default", lane: str = "auto"
    ) -> list[Rank]:
        ranks = [self.start_rank(namespace, lane=lane) for _ in range(count)]
        for rank in ranks:
            rank.send_connect()
        for rank in ranks:
            rank.receive_connected()
        return ranks

    def close_rank(self, rank: Rank) -> None:
        rank.close()
        self._ranks.remove(rank)

    # --- Checks ---

    def usage(self) -> checks.Usage:
        return checks.usage_of(self.pid, self.admin)

    def check_alive(self) -> None:
        checks.check_alive(self.daemon.pidfd, self.pid, self.admin)

    def check_clean(self) -> None:
        """At the end of each test: the daemon lives, and once its clients are gone nothing of them
        is left.
        """
        self.check_alive()
        for rank in list(self._ranks):
            self.close_rank(rank)
        status = self.admin.fresh_status()
        left = {
            name: getattr(status, name)
            for name in ("sessions", "groups", "works_pending", "arena_bytes")
            if getattr(status, name)
        }
        maps = pathlib.Path(f"/proc/{self.pid}/maps").read_text()
        if "/memfd:" in maps:
            left["arena_mappings"] = maps.count("/memfd:")
        if left:
            raise checks.Broken(f"all clients are gone, and there is still {left}")

    # --- The end ---

    def diagnose(self) -> str:
        """What helps to understand a failure: states, stacks, the end of the log."""
        parts = [f"--- tuttid (pid {self.pid}), the end of its log ---"]
        parts += self.daemon.log.splitlines()[-_LOG_TAIL_LINES:]
        parts += ["--- its stacks ---", _stacks(self.pid)]
        for rank in self._ranks:
            parts += [f"--- {rank} ---", _waits(rank.pid)]
        return "\n".join(parts)

    def close(self) -> None:
        for rank in self._ranks:
            rank.close()
        self.admin.close()
        self.daemon.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def end_of_test(self, failed: bool) -> None:
        """What every test checks at its end, or what helps if it has failed."""
        if failed:
            print(self.diagnose(), file=sys.stderr)
        elif not self.may_end:
            try:
                self.check_clean()
            except BaseException:
                print(self.diagnose(), file=sys.stderr)
                raise


def _stacks(pid: int) -> str:
    """By gdb if there is one; else where in the kernel each thread waits."""
    if shutil.which("gdb"):
        command = ["gdb", "-p", str(pid), "-batch", "-ex", "thread apply all bt 9"]
        try:
            result = subprocess.run(
                command, capture_output=True, text=True, timeout=_GDB_TIMEOUT_S, check=False
            )
            lines = result.stdout.splitlines()
            return "\n".join(line[:160] for line in lines if line.startswith(("Thread", "#")))
        except subprocess.TimeoutExpired:
            pass
    return _waits(pid)


def _waits(pid: int) -> str:
    lines = []
    for task in sorted(pathlib.Path(f"/proc/{pid}/task").glob("*")):
        try:
            name = (task / "comm").read_text().strip()
            state = (task / "stat").read_text().rpartition(")")[2].split()[0]
            lines.append(f"{task.name} {name}: {state} in {(task / 'wchan').read_text() or '?'}")
        except OSError:
            continue
    return "\n".join(lines)
