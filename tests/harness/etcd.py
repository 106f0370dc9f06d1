"""An etcd of one member on a host, for tests: the real one, from Debian's etcd-server.

    with Etcd(host) as etcd:
        node = Node([f"--etcd={etcd.address}", ...])
        etcd.stop()
"""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import tempfile
import time
from types import TracebackType

from hosts import Host

_PORT = 2379
_READY_TIMEOUT_S = 30.0


def why_not() -> str:
    """Why there can be none here; empty if there can."""
    missing = [program for program in ("etcd", "etcdctl") if shutil.which(program) is None]
    return f"no {' and no '.join(missing)} (etcd-server, etcd-client)" if missing else ""


class Etcd:
    """Runs until `stop`, or the end. What it has been told is on disk."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.address = f"{host.address}:{_PORT}"
        self._folder = pathlib.Path(tempfile.mkdtemp(prefix="tutti-etcd-"))
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Returns when it answers."""
        url = f"http://{self.address}"
        with open(self._folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                [*self._host.enter, "etcd", "--name=m0", f"--data-dir={self._folder}/data"]
                + [f"--listen-client-urls={url}", f"--advertise-client-urls={url}"]
                + ["--listen-peer-urls=http://127.0.0.1:0"]
                + ["--initial-advertise-peer-urls=http://127.0.0.1:2380"]
                + ["--initial-cluster=m0=http://127.0.0.1:2380", "--unsafe-no-fsync"],
                stdout=log,
                stderr=log,
            )
        give_up = time.monotonic() + _READY_TIMEOUT_S
        while self._ctl("endpoint", "health").returncode != 0:
            assert time.monotonic() < give_up, (self._folder / "log").read_text()[-2000:]

    def _ctl(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self._host.enter, "etcdctl", f"--endpoints={self.address}", *words],
            env={"ETCDCTL_API": "3", "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
        )

    def get(self, key: str) -> str:
        """The value of a key; empty if there is none."""
        done = self._ctl("get", "--print-value-only", key)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def remove(self, key: str) -> None:
        done = self._ctl("del", key)
        assert done.returncode == 0, done.stderr

    def stop(self) -> None:
        """Kills it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Etcd:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
