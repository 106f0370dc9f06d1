"""The processes of one contestant, and the commands that they take. The protocol is in serve.h."""

from __future__ import annotations

import os
import pathlib
import select
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from types import TracebackType

# A barrier among processes that do not come is given up after a minute; see barrier.cc.
ANSWER_TIMEOUT_S = 300.0
_START_TIMEOUT_S = 60.0
_END_TIMEOUT_S = 10.0
_BARRIER_BYTES = 4096


class CrewError(Exception):
    """A process of a contestant has ended, or does not answer."""


class Channel:
    """The connection to one process."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._read = b""

    def write(self, line: str) -> None:
        try:
            self._connection.sendall(line.encode() + b"\n")
        except OSError as error:
            raise CrewError("a process has ended") from error

    def read(self, give_up: float) -> str:
        while b"\n" not in self._read:
            left_s = give_up - time.monotonic()
            if left_s <= 0 or not select.select([self._connection], [], [], left_s)[0]:
                raise CrewError("a process does not answer")
            try:
                received = self._connection.recv(65536)
            except OSError:  # reset: it has ended without reading what it was sent
                received = b""
            if not received:
                raise CrewError("a process has ended; see above")
            self._read += received
        line, _, self._read = self._read.partition(b"\n")
        return line.decode()

    def close(self) -> None:
        self._connection.close()


class Crew:
    """All processes of one contestant for one world size. Started when made.

    `commands` are started in order; to each the paths of the control socket, of the barrier and of
    a scratch folder are added, and `env` to their environment. `parties` processes then have to say
    hello.
    """

    def __init__(
        self,
        name: str,
        commands: Sequence[Sequence[str]],
        parties: int,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.description = ""
        self._env = {**os.environ, **(env or {})}
        # Why the processes can't be asked any more: what they still answer is to something else.
        self._broken = ""
        self._processes: list[subprocess.Popen[bytes]] = []
        self._channels: list[Channel] = []
        # In memory, so that the barrier's page is never written to a disk.
        self._folder = tempfile.TemporaryDirectory(prefix="tutti-bench-", dir="/dev/shm")
        folder = pathlib.Path(self._folder.name)
        (folder / "barrier").write_bytes(bytes(_BARRIER_BYTES))
        (folder / "scratch").mkdir()
        places = [str(folder / name) for name in ("control", "barrier", "scratch")]
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
                listener.bind(places[0])
                listener.listen(parties)
                for command in commands:
                    self._processes.append(self._start([*command, *places]))
                self._accept(listener, parties)
        except BaseException:
            self.close()
            raise

    @property
    def pids(self) -> list[int]:
        """Of the processes that were started, in their order."""
        return [process.pid for process in self._processes]

    def _start(self, command: list[str]) -> subprocess.Popen[bytes]:
        # What they have to say they say on stderr; mpirun passes it on. In a session of its own, so
        # that all that a launcher has started can be ended together.
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            env=self._env,
        )

    def _accept(self, listener: socket.socket, parties: int) -> None:
        give_up = time.monotonic() + _START_TIMEOUT_S
        ranks: dict[int, Channel] = {}
        try:
            while len(ranks) < parties:
                if not select.select([listener], [], [], 0.1)[0]:
                    if any(process.poll() is not None for process in self._processes):
                        raise CrewError("a process has ended before it was ready; see above")
                    if time.monotonic() > give_up:
                        raise CrewError(f"not ready in {_START_TIMEOUT_S:g} s")
                    continue
                channel = Channel(listener.accept()[0])
                _, rank, self.description = channel.read(give_up).split(" ", 2)
                ranks[int(rank)] = channel
        finally:
            self._channels = [channel for _, channel in sorted(ranks.items())]

    def ask(self, line: str) -> list[str]:
        """Sends a command to all processes, and returns what each answers."""
        if self._broken:
            raise CrewError(self._broken)
        try:
            for channel in self._channels:
                channel.write(line)
            give_up = time.monotonic() + ANSWER_TIMEOUT_S
            return [channel.read(give_up) for channel in self._channels]
        except CrewError as error:
            self._broken = str(error)
            raise

    def run(self, temperature: str, samples: int, batch: int) -> list[float]:
        """Nanoseconds of one operation, sample by sample: those of the slowest rank."""
        answers = self.ask(f"run {temperature} {samples} {batch}")
        figures = [[float(word) for word in answer.split()[1:]] for answer in answers]
        return [max(of_ranks) for of_ranks in zip(*figures, strict=True)]

    def close(self) -> None:
        """Ends all processes. Idempotent."""
        for channel in self._channels:
            channel.close()
        self._channels = []
        give_up = time.monotonic() + _END_TIMEOUT_S
        for process in self._processes:
            try:
                process.wait(max(give_up - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                # Not reaped yet, so its number is still that of its session.
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self._processes = []
        self._folder.cleanup()

    def __enter__(self) -> Crew:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
