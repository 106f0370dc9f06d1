"""Runs Bazel and counts test cases: Catch2's where a test says how many, else one a target."""

import json
import os
import pathlib
import re
import shlex
import tempfile
import urllib.parse

import process
from report import Outcome, Stopwatch, say, skipped

# The end of what Catch2 prints, in its three forms.
_ALL_PASSED = re.compile(r"^All tests passed \(\d+ assertions? in (\d+) test cases?\)$", re.M)
_SOME_FAILED = re.compile(r"^test cases: +(\d+) \|(?: +(\d+) passed \|)? +(\d+) failed", re.M)
_SKIPPED = re.compile(r"^SKIPPED: (.+)$", re.M)

# Exit statuses of Bazel that the counts explain: success, build failed, tests failed.
_EXPLAINED = (0, 1, 3)
_NO_TESTS = 4


def count_log(label: str, status: str, log: str) -> Outcome:
    """Counts one test target by its verdict and what it printed. The verdict has the last word."""
    skips = [f"{label}: {reason}" for reason in _SKIPPED.findall(log)]
    all_passed = _ALL_PASSED.findall(log)
    some_failed = _SOME_FAILED.findall(log)
    if status == "PASSED":
        cases = int(all_passed[-1]) if all_passed else 1
        return Outcome(passed=max(cases - len(skips), 0), skips=skips)
    if some_failed:
        _, cases_passed, cases_failed = some_failed[-1]
        failures = [f"{label}: {cases_failed} test cases, see its output above"]
        failures += [f"{label}: another test case"] * (int(cases_failed) - 1)
        return Outcome(max(int(cases_passed or 0) - len(skips), 0), failures, skips)
    return Outcome(failures=[f"{label}: {status}"], skips=skips)


def _local_path(uri: str) -> pathlib.Path:
    return pathlib.Path(urllib.parse.unquote(urllib.parse.urlparse(uri).path))


def _read_log(result: dict) -> str:
    for item in result.get("testActionOutput", []):
        if item["name"] == "test.log" and "uri" in item:
            path = _local_path(item["uri"])
            return path.read_text(errors="replace") if path.exists() else ""
    return ""


def count_events(lines: list[str]) -> Outcome:
    """Counts a run of `bazel test` by its build event file."""
    outcome = Outcome()
    finished: set[str] = set()
    broken: dict[str, str] = {}
    for line in lines:
        event = json.loads(line)
        identity = event["id"]
        if "testResult" in identity:
            label = identity["testResult"]["label"]
            finished.add(label)
            result = event.get("testResult", {})
            outcome.add(count_log(label, result.get("status", "NO_STATUS"), _read_log(result)))
        elif "targetCompleted" in identity:
            label = identity["targetCompleted"]["label"]
            # A target that does not fit the config (a sanitizer's canary elsewhere) is no failure.
            if event.get("aborted", {}).get("reason") == "SKIPPED":
                continue
            if not event.get("completed", {}).get("success", False):
                broken[label] = "did not build"
        elif "pattern" in identity and "aborted" in event:
            broken["pattern"] = event["aborted"].get("description", "unknown pattern")
    unexplained = {label: why for label, why in broken.items() if label not in finished}
    outcome.failures += [f"{label}: {why}" for label, why in unexplained.items()]
    return outcome


class Bazel:
    """Bazel as this run uses it. TUTTI_BAZEL_STARTUP adds startup options (--output_base=...)."""

    def __init__(self, jobs: int) -> None:
        self._command = ["bazel"] + shlex.split(os.environ.get("TUTTI_BAZEL_STARTUP", ""))
        self._options = [f"--jobs={jobs}", "--color=no", "--curses=no", "--keep_going"]
        # One line every 15 s says that it is alive; more is noise in a log.
        self._options += ["--show_progress_rate_limit=15", "--noshow_loading_progress"]

    def build(self, config: list[str], targets: list[str], timeout_s: float) -> int:
        command = self._command + ["build"] + self._options + config + targets
        return process.run(command, timeout_s)

    def bin_folder(self) -> pathlib.Path:
        return pathlib.Path(process.output(self._command + ["info", "bazel-bin"]).strip())

    def _excluded(self, tag: str, reason: str) -> Outcome:
        query = f'attr(tags, "[\\[ ]{tag}[,\\]]", tests(//...))'
        command = self._command + ["query", "--noshow_progress", query]
        labels = process.output(command).split()
        return Outcome(skips=[f"{label}: {reason}" for label in labels])

    def test(self, config: list[str], excluded: dict[str, str], timeout_s: float) -> Outcome:
        """Builds and runs all tests. `excluded`: tags that do not run here, and why."""
        filters = ",".join("-" + tag for tag in excluded)
        watch = Stopwatch(timeout_s)
        # First all of the build, so that no test shares its cores with compilers. What does not
        # build is counted below.
        self.build(config, ["//..."], timeout_s)
        with tempfile.NamedTemporaryFile(suffix=".json") as events:
            command = self._command + ["test"] + self._options + config
            command += [f"--build_event_json_file={events.name}", f"--test_tag_filters={filters}"]
            status = process.run(command + ["//..."], watch.left_s())
            outcome = count_events(pathlib.Path(events.name).read_text().splitlines())
        if status == _NO_TESTS:
            outcome.add(skipped("no tests in the tree"))
        elif status == process.TIMED_OUT:
            outcome.failures.append(f"bazel test {' '.join(config)}: out of time")
        elif status not in _EXPLAINED or (status and not outcome.failures):
            outcome.failures.append(f"bazel test {' '.join(config)}: exit status {status}")
        for tag, reason in excluded.items():
            outcome.add(self._excluded(tag, reason))
        say("")
        return outcome
