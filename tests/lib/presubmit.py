"""The presubmit: a list of steps, run in order, counted together. Called by tests/presubmit."""

import argparse
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable

import checks
import process
import pytests
from bazel import Bazel
from report import Outcome, Report, Stopwatch, failed, passed, say

# CI gives 90 minutes; what is left is for setting up, and for saying what happened.
BUDGET_S = 80 * 60

# A build of everything from nothing takes some 10 minutes on 2 cores.
BAZEL_TIMEOUT_S = 45 * 60
# 1,000 deaths take 4 minutes on an idle machine, and 10 on a busy one.
PYTEST_TIMEOUT_S = 30 * 60
CHECK_TIMEOUT_S = 5 * 60

# What ships.
SHIPPED = ("//daemon:tuttid", "//client/cli:tutti")

# What tests of whole processes run, and the variables that tell them where the copies are.
BINARIES = {
    "//daemon:tuttid": "TUTTID",
    "//client/cli:tutti": "TUTTI_CLI",
    "//tests/harness:rank": "TUTTI_RANK",
}

Step = Callable[[float], Outcome]


class Presubmit:
    """Holds what the steps share: Bazel, the interpreter, the copies of the binaries."""

    def __init__(self) -> None:
        self.bazel = Bazel(jobs=os.cpu_count() or 2)
        self.python = ""
        self.binaries: dict[str, str] = {}
        self.excluded: dict[str, str] = {}
        if not os.path.exists("/dev/nvidiactl"):
            self.excluded["gpu"] = "there is no GPU here"

    def python_env(self, timeout_s: float) -> Outcome:
        command = ["deploy/python_env", "--test"]
        with tempfile.TemporaryFile("w+") as said:
            status = process.run(command, timeout_s, stdout=said)
            said.seek(0)
            answer = said.read().strip()
        if status != 0:
            return failed(f"deploy/python_env: exit status {status}")
        self.python = answer
        return passed()

    def test_default(self, timeout_s: float) -> Outcome:
        return self.bazel.test([], self.excluded, timeout_s)

    def _build_binaries(self, timeout_s: float) -> None:
        """Leaves copies, because the next config replaces what bazel-bin points to."""
        if self.binaries or self.bazel.build([], list(BINARIES), timeout_s) != 0:
            return
        folder = process.ROOT / "build" / "presubmit"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        bin_folder = self.bazel.bin_folder()
        for label, variable in BINARIES.items():
            built = bin_folder / label.removeprefix("//").replace(":", "/")
            if built.exists():
                self.binaries[variable] = shutil.copy(built, folder / built.name)

    def test_asan(self, timeout_s: float) -> Outcome:
        return self.bazel.test(
            ["--config=asan", "--build_tests_only"],
            {**self.excluded, "no_asan": "tagged no_asan"},
            timeout_s,
        )

    def test_tsan(self, timeout_s: float) -> Outcome:
        return self.bazel.test(
            ["--config=tsan", "--build_tests_only"],
            {**self.excluded, "no_tsan": "tagged no_tsan"},
            timeout_s,
        )

    def build_release(self, timeout_s: float) -> Outcome:
        """What ships compiles with other flags, and without failpoints."""
        if self.bazel.build(["--config=release"], list(SHIPPED), timeout_s) == 0:
            return passed()
        return failed("bazel build --config=release " + " ".join(SHIPPED))

    def pytest(self, folder: str, needs_binaries: bool = False) -> Step:
        def step(timeout_s: float) -> Outcome:
            if not self.python:
                return failed(f"{folder}: no Python environment to run in")
            if needs_binaries and (process.ROOT / folder).is_dir():
                self._build_binaries(timeout_s)
                if missing := set(BINARIES.values()) - set(self.binaries):
                    return failed(f"{folder}: not built: {', '.join(sorted(missing))}")
            return pytests.run(self.python, folder, self.binaries, timeout_s)

        return step

    def mypy(self, timeout_s: float) -> Outcome:
        if not self.python:
            return failed("no Python environment to run in")
        return checks.mypy(self.python, timeout_s)

    def steps(self, fast: bool) -> list[tuple[str, float, Step]]:
        """Name, limit, what to do. Cheap checks come first; `fast` leaves out the other configs."""
        steps: list[tuple[str, float, Step]] = [
            ("clang-format", CHECK_TIMEOUT_S, checks.clang_format),
            ("shellcheck", CHECK_TIMEOUT_S, checks.shellcheck),
            ("python-env", PYTEST_TIMEOUT_S, self.python_env),
            ("tests/lib", CHECK_TIMEOUT_S, self.pytest("tests/lib")),
            ("tests/tidy", CHECK_TIMEOUT_S, self.pytest("tests/tidy")),
            ("mypy", CHECK_TIMEOUT_S, self.mypy),
            ("tests/models", PYTEST_TIMEOUT_S, self.pytest("tests/models")),
            ("bazel", BAZEL_TIMEOUT_S, self.test_default),
        ]
        folders = (
            *("client/python/tests", "tests/e2e", "tests/on_ray", "tests/fault", "tests/nodes"),
            "tests/bench",
        )
        for folder in folders:
            steps.append((folder, PYTEST_TIMEOUT_S, self.pytest(folder, needs_binaries=True)))
        if not fast:
            steps.append(("bazel-release", BAZEL_TIMEOUT_S, self.build_release))
            steps.append(("bazel-asan", BAZEL_TIMEOUT_S, self.test_asan))
            steps.append(("bazel-tsan", BAZEL_TIMEOUT_S, self.test_tsan))
        return steps


def interrupt_on_sigterm() -> None:
    """CI ends what takes too long with SIGTERM: what was found until then is still told."""
    signal.signal(signal.SIGTERM, lambda number, frame: signal.raise_signal(signal.SIGINT))


def run_step(step: Step, timeout_s: float) -> Outcome:
    """A step that breaks down has failed, and the others still run."""
    try:
        return step(timeout_s)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        traceback.print_exc()
        return failed(f"broke down: {error}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests/presubmit", description=__doc__)
    parser.add_argument("--fast", action="store_true", help="no sanitizers and no release build")
    parser.add_argument("--only", action="append", metavar="STEP", help="run only this step")
    parser.add_argument("--list", action="store_true", help="name the steps")
    arguments = parser.parse_args()

    presubmit = Presubmit()
    steps = presubmit.steps(arguments.fast)
    if arguments.list:
        say("\n".join(name for name, _, _ in steps))
        return 0
    if arguments.only:
        unknown = set(arguments.only) - {name for name, _, _ in steps}
        if unknown:
            parser.error(f"no such step: {', '.join(sorted(unknown))}; --list names them")
        steps = [step for step in steps if step[0] in ("python-env", *arguments.only)]

    interrupt_on_sigterm()
    report = Report()
    whole = Stopwatch(BUDGET_S)
    for number, (name, limit_s, step) in enumerate(steps, start=1):
        say(f"\n==> [{number}/{len(steps)}] {name}")
        watch = Stopwatch()
        try:
            if whole.left_s() <= 0:
                outcome = failed("not run: out of time")
            else:
                outcome = run_step(step, min(limit_s, whole.left_s()))
        except KeyboardInterrupt:
            report.record(name, failed("interrupted, and all steps after it"), watch.elapsed_s())
            break
        report.record(name, outcome, watch.elapsed_s())
    return report.print_summary()


if __name__ == "__main__":
    sys.exit(main())
