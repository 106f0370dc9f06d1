"""Runs a folder of pytest tests and counts them."""

import pathlib
import tempfile
import xml.etree.ElementTree

import process
from report import Outcome, skipped

# Exit status of pytest.
_NO_TESTS = 5


def count_junit(text: str) -> Outcome:
    """Counts what pytest wrote with --junitxml."""
    outcome = Outcome()
    for case in xml.etree.ElementTree.fromstring(text).iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        children = {child.tag: child.get("message", "") for child in case}
        if "failure" in children or "error" in children:
            outcome.failures.append(name)
        elif "skipped" in children:
            outcome.skips.append(f"{name}: {children['skipped'] or 'no reason given'}")
        else:
            outcome.passed += 1
    return outcome


def run(python: str, folder: str, env: dict[str, str], timeout_s: float) -> Outcome:
    """One process per folder: a crash costs that folder's tests only."""
    if not (process.ROOT / folder).is_dir():
        return skipped(f"{folder} does not exist")
    with tempfile.TemporaryDirectory() as scratch:
        results = pathlib.Path(scratch) / "junit.xml"
        command = [python, "-m", "pytest", "-q", "-ra", "-p", "no:cacheprovider"]
        # A test that waits for ever is named, with the stacks of its threads.
        command += ["--timeout=300", f"--junitxml={results}", folder]
        status = process.run(command, timeout_s, {"PYTHONDONTWRITEBYTECODE": "1", **env})
        outcome = count_junit(results.read_text()) if results.exists() else Outcome()
    if status == process.TIMED_OUT:
        outcome.failures.append(f"{folder}: out of time")
    elif status == _NO_TESTS:
        outcome.failures.append(f"{folder}: no tests in it")
    elif not outcome.failures and (status or outcome == Outcome()):
        outcome.failures.append(f"pytest {folder}: exit status {status}")
    return outcome
