"""Builds what the benchmark runs, and keeps copies in build/bench: the next config replaces what
bazel-bin points to.
"""

from __future__ import annotations

import os
import pathlib
import shlex
import shutil
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]

_DAEMON = {"//daemon:tuttid": "tuttid", "//client/cli:tutti": "tutti"}
_CONTESTANTS = {
    "//tests/bench:bare": "bare",
    "//tests/bench:bare_ring": "bare_ring",
    "//tests/bench:bare_stream": "bare_stream",
    "//tests/bench:gloo_rank": "gloo_rank",
    "//tests/bench:libbench_barrier.so": "libbench_barrier.so",
    "//tests/bench:tutti_rank": "tutti_rank",
}
_MPI = {"//tests/bench:mpi_rank": "mpi_rank"}
# What the benchmark in Ray runs beside Ray.
_IN_RAY = {**_DAEMON, "//tests/bench:libbench_barrier.so": "libbench_barrier.so"}
_MPI_HEADER = pathlib.Path("/usr/include/x86_64-linux-gnu/mpi/mpi.h")


def build(config: list[str], with_daemon: bool = True) -> pathlib.Path:
    """Returns the folder of the programs; with the daemon comes its tool. Raises CalledProcessError
    if Bazel fails.
    """
    targets = {**_CONTESTANTS, **(_DAEMON if with_daemon else {})}
    if _MPI_HEADER.exists():
        targets |= _MPI
    return _build(config, targets, "bin")


def build_in_ray(config: list[str]) -> pathlib.Path:
    """The same for the benchmark in Ray."""
    return _build(config, _IN_RAY, "bin_ray")


def _build(config: list[str], targets: dict[str, str], folder_name: str) -> pathlib.Path:
    bazel = ["bazel", *shlex.split(os.environ.get("TUTTI_BAZEL_STARTUP", ""))]
    quiet = ["--color=no", "--curses=no", "--show_progress_rate_limit=15"]
    subprocess.run([*bazel, "build", *config, *quiet, *targets], cwd=ROOT, check=True)
    info = [*bazel, "info", *config, "bazel-bin"]
    built = subprocess.run(info, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    folder = ROOT / "build" / "bench" / folder_name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for label, name in targets.items():
        package = label.removeprefix("//").partition(":")[0]
        shutil.copy(pathlib.Path(built.strip()) / package / name, folder / name)
    return folder
