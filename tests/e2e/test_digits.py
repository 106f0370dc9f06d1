"""The main job, small: training with Ray actors (client/python/examples/digits)."""

from __future__ import annotations

import os
import pathlib
import re
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from admin import Admin
from daemon import DaemonProcess
from waiting import wait_until

ROOT = pathlib.Path(__file__).resolve().parents[2]
TRAIN = ROOT / "client/python/examples/digits/train.py"
# Ray alone takes ten seconds to start on a busy machine.
LIMIT_S = 120.0


class Job:
    """A run of train.py. Its output goes to a file, which can be read meanwhile."""

    def __init__(self, folder: pathlib.Path, *arguments: str) -> None:
        self._path = folder / "output"
        with self._path.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(TRAIN), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # A shell that runs the tests in the background makes them ignore Ctrl-C, and what
                # is ignored is inherited.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    @property
    def output(self) -> str:
        return self._path.read_text()

    def wait_for(self, text: str) -> None:
        """Until it has printed that, or has ended."""
        wait_until(
            lambda: text in self.output or self.process.poll() is not None,
            f"{text!r} in the output",
            LIMIT_S,
        )
        assert text in self.output, self.output

    def wait(self) -> int:
        """Returns its exit status."""
        return self.process.wait(LIMIT_S)

    def end(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(LIMIT_S)


@pytest.fixture
def jobs() -> Iterator[list[Job]]:
    """Put a job in, and it is gone after the test."""
    started: list[Job] = []
    yield started
    for job in started:
        job.end()


@pytest.fixture
def admin(daemon: DaemonProcess) -> Iterator[Admin]:
    made = Admin(daemon.socket_dir)
    yield made
    made.close()


def _percentages(line: str) -> list[float]:
    return [float(number) for number in re.findall(r"([\d.]+)%", line)]


def _table_row(output: str, label: str) -> str:
    rows = [line for line in output.splitlines() if line.startswith(label)]
    assert len(rows) == 1, output
    return rows[0]


def test_both_exchanges_train_to_the_same_bits(
    daemon: DaemonProcess, tmp_path: pathlib.Path, jobs: list[Job]
) -> None:
    tool = os.environ.get("TUTTI_CLI")
    jobs.append(job := Job(tmp_path, "--epochs=16", *([f"--tool={tool}"] if tool else [])))
    assert job.wait() == 0, job.output + daemon.log

    accuracies = _percentages(_table_row(job.output, "accuracy on held-out digits"))
    assert len(accuracies) == 2
    assert accuracies[0] == accuracies[1] > 90
    assert "tutti: all 4 ranks ended with the same parameters" in job.output
    assert "object store: all 4 ranks ended with the same parameters" in job.output
    assert "also the same in both trainings" in job.output
    per_step = _table_row(job.output, "  exchange of gradients, per step")
    assert re.search(r" us .* us +[\d.]+ x$", per_step), job.output
    if tool:
        assert re.search(r"digits +1 +4 ready", job.output)
        assert re.search(r"ready +4 of 4 ranks", job.output)


def test_says_what_to_do_if_there_is_no_daemon(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, jobs: list[Job]
) -> None:
    monkeypatch.setenv("TUTTI_SOCKET_DIR", str(tmp_path))
    jobs.append(job := Job(tmp_path))
    assert job.wait() == 1
    assert f"no Tutti daemon answers at {tmp_path}" in job.output
    assert "Start one with" in job.output
    assert "Traceback" not in job.output


def test_killed_rank_is_named(
    daemon: DaemonProcess, admin: Admin, tmp_path: pathlib.Path, jobs: list[Job]
) -> None:
    jobs.append(job := Job(tmp_path, "--only=tutti", "--epochs=100000"))
    job.wait_for("epoch      1/")
    # What the daemon shows is up to 100 ms old, and an epoch takes less.
    wait_until(lambda: len(admin.sessions()) == 4, "the daemon shows the four ranks")
    victim = max(session.pid for session in admin.sessions())
    os.kill(victim, signal.SIGKILL)
    assert job.wait() == 1
    assert re.search(rf"rank \d \(process {victim}\) died", job.output), job.output
    assert re.search(r"ranks \d, \d, \d got RankLostError", job.output), job.output
    assert "Traceback" not in job.output
    assert daemon.is_alive()


def test_interrupt_ends_it_cleanly(
    daemon: DaemonProcess, admin: Admin, tmp_path: pathlib.Path, jobs: list[Job]
) -> None:
    jobs.append(job := Job(tmp_path, "--only=tutti", "--epochs=100000"))
    job.wait_for("epoch      1/")
    os.killpg(job.process.pid, signal.SIGINT)  # as a terminal does
    assert job.wait() == 130
    assert "digits: interrupted" in job.output
    assert "Traceback" not in job.output
    wait_until(lambda: not admin.sessions(), "the end of the ranks' sessions")
    assert daemon.is_alive()
