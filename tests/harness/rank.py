"""Processes of //tests/harness:rank: ranks that do what they are told, one command at a time."""

from __future__ import annotations

import itertools
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from waiting import DEADLINE_S, OutOfTime, wait_for_exit

# A write to the pipe of a rank that does not read: its commands are short.
_READ_BYTES = 65536

_labels = itertools.count(1)


class RankEnded(AssertionError):
    """The process of a rank has ended while its reply was awaited."""


@dataclass(frozen=True)
class Verdict:
    """How a work ended at one rank."""

    ok: bool
    cause: str = ""
    message: str = ""
    culprits: tuple[int, ...] = ()
    missing: tuple[int, ...] = ()
    sequence: int = 0
    epoch: int = 0
    code: int = 0
    # When it arrived at the rank: CLOCK_MONOTONIC, which all processes share. It is not a part of
    # what was decided.
    monotonic_ns: int = field(default=0, compare=False)

    @classmethod
    def of(cls, reply: dict[str, Any]) -> Verdict:
        return cls(
            ok=reply["ok"],
            cause=reply.get("cause", ""),
            message=reply.get("message", ""),
            culprits=tuple(reply.get("culprits", ())),
            missing=tuple(reply.get("missing", ())),
            sequence=reply.get("sequence", 0),
            epoch=reply.get("epoch", 0),
            code=reply.get("code", 0),
            monotonic_ns=reply.get("monotonic_ns", 0),
        )


class Rank:
    """One process. `before` runs in the child before the program (to enter a cgroup)."""

    def __init__(
        self,
        socket_dir: str,
        namespace: str = "default",
        before: Callable[[], None] | None = None,
        lane: str = "auto",
    ) -> None:
        self.lane = lane
        self.label = f"rank-process-{next(_labels)}"
        self._replies = bytearray()
        self._process = subprocess.Popen(
            [os.environ["TUTTI_RANK"]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            preexec_fn=before,
            env={**os.environ, "TUTTI_LANE": lane},
        )
        self.pid = self._process.pid
        self.pidfd = os.pidfd_open(self.pid)
        assert self._process.stdin is not None and self._process.stdout is not None
        self._stdin = self._process.stdin.fileno()
        self._stdout = self._process.stdout.fileno()
        os.set_blocking(self._stdout, False)
        self._greeting = f"connect {socket_dir} {namespace} {self.label}"

    # --- Commands ---

    def connect(self) -> Rank:
        self.send_connect()
        self.receive_connected()
        return self

    def send_connect(self) -> None:
        self.send(self._greeting)

    def receive_connected(self) -> None:
        reply = self.receive()
        assert reply["ok"], f"{self}: {reply}"

    def send(self, command: str) -> None:
        """Sends a command; `receive` gets its reply. Replies come in the order of commands."""
        try:
            os.write(self._stdin, f"{command}\n".encode())
        except BrokenPipeError:
            raise RankEnded(f"{self} has ended before: {command}") from None

    def receive(self, timeout_s: float = DEADLINE_S) -> dict[str, Any]:
        give_up = time.monotonic() + timeout_s
        while b"\n" not in self._replies:
            left_s = give_up - time.monotonic()
            if left_s <= 0 or not select.select([self._stdout], [], [], left_s)[0]:
                raise OutOfTime(f"{self} has not answered for {timeout_s:g} s")
            some = os.read(self._stdout, _READ_BYTES)
            if not some:
                raise RankEnded(f"{self} has ended")
            self._replies += some
        line, _, rest = bytes(self._replies).partition(b"\n")
        self._replies = bytearray(rest)
        reply: dict[str, Any] = json.loads(line)
        return reply

    def ask(self, command: str, timeout_s: float = DEADLINE_S) -> dict[str, Any]:
        self.send(command)
        return self.receive(timeout_s)

    def must(self, command: str, timeout_s: float = DEADLINE_S) -> dict[str, Any]:
        """The same for commands that have to succeed."""
        reply = self.ask(command, timeout_s)
        assert reply["ok"], f"{self}: {command}: {reply}"
        return reply

    def submit(self, command: str) -> int:
        """Starts an operation, and returns the number to wait for."""
        work: int = self.must(command)["work"]
        return work

    def wait(self, work: int, timeout_s: float = DEADLINE_S) -> Verdict:
        return Verdict.of(self.ask(f"wait {work}", timeout_s))

    def run(self, command: str) -> Verdict:
        """An operation from its submission to its end."""
        return self.wait(self.submit(command))

    def hash(self, name: str) -> str:
        text: str = self.must(f"hash {name}")["hash"]
        return text

    # --- The process ---

    def signal(self, number: int) -> None:
        # By pidfd: the number of a process that has ended may be another's by now.
        signal.pidfd_send_signal(self.pidfd, number)

    def kill(self) -> int:
        """SIGKILL. Returns the time on CLOCK_MONOTONIC before the call, in nanoseconds."""
        now = time.monotonic_ns()
        self.signal(signal.SIGKILL)
        return now

    def wait_exit(self, timeout_s: float = DEADLINE_S) -> int:
        """Returns the exit status; negative for a signal."""
        wait_for_exit(self.pidfd, str(self), timeout_s)
        return self._process.wait()

    def close(self) -> None:
        """Ends it, however it is doing. Idempotent."""
        if self.pidfd < 0:
            return
        if self._process.poll() is None:
            self.signal(signal.SIGKILL)
            self.wait_exit()
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        os.close(self.pidfd)
        self.pidfd = -1

    def __str__(self) -> str:
        return f"{self.label} (pid {self.pid})"


# --- Several at once ---


def ask_all(ranks: Sequence[Rank], commands: Iterable[str]) -> list[dict[str, Any]]:
    """Sends each rank its command, then waits for all replies: the ranks work at once."""
    for rank, command in zip(ranks, commands, strict=True):
        rank.send(command)
    return [rank.receive() for rank in ranks]


def must_all(ranks: Sequence[Rank], command: str) -> list[dict[str, Any]]:
    """The same command, which has to succeed, for all. "{rank}" in it is each rank's number."""
    replies = ask_all(ranks, [command.format(rank=rank) for rank in range(len(ranks))])
    for rank, reply in zip(ranks, replies, strict=True):
        assert reply["ok"], f"{rank}: {command}: {reply}"
    return replies


def submit_all(ranks: Sequence[Rank], command: str) -> list[int]:
    return [reply["work"] for reply in must_all(ranks, command)]


def wait_all(ranks: Sequence[Rank], works: Sequence[int]) -> list[Verdict]:
    replies = ask_all(ranks, [f"wait {work}" for work in works])
    return [Verdict.of(reply) for reply in replies]


def run_all(ranks: Sequence[Rank], command: str) -> list[Verdict]:
    return wait_all(ranks, submit_all(ranks, command))


def join_all(ranks: Sequence[Rank], group: str) -> int:
    """Forms a group of these processes in their order. Returns its epoch."""
    replies = must_all(ranks, f"join {group} {{rank}} {len(ranks)} 20000")
    epochs = {reply["epoch"] for reply in replies}
    assert len(epochs) == 1, f"one formation, several epochs: {epochs}"
    epoch: int = epochs.pop()
    return epoch
