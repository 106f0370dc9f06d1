"""The counting is what CI believes, so it is tested: above all that no failure is lost."""

import json
import os
import pathlib
import select
import sys

import bazel
import checks
import process
import pytest
import pytests
from report import Outcome, Report, failed, skipped

_PASSED = "All tests passed (12 assertions in 3 test cases)\n"
_FAILED = "test cases: 5 | 2 passed | 3 failed\nassertions: 9 | 4 passed | 5 failed\n"
_ALL_FAILED = "test cases: 1 | 1 failed\nassertions: 1 | 1 failed\n"


def _counts(outcome):
    return outcome.passed, len(outcome.failures), len(outcome.skips)


@pytest.mark.parametrize(
    "status, log, counts",
    [
        ("PASSED", _PASSED, (3, 0, 0)),
        ("PASSED", "All tests passed (1 assertion in 1 test case)\n", (1, 0, 0)),
        ("PASSED", "a script that says nothing\n", (1, 0, 0)),
        ("PASSED", "SKIPPED: no AVX-512 here\n" + _PASSED, (2, 0, 1)),
        ("PASSED", "SKIPPED: no network\n", (0, 0, 1)),
        ("FAILED", _FAILED, (2, 3, 0)),
        ("FAILED", _ALL_FAILED, (0, 1, 0)),
        ("FAILED", "ThreadSanitizer: data race\n" + _PASSED, (0, 1, 0)),
        ("FAILED", "", (0, 1, 0)),
        ("TIMEOUT", "", (0, 1, 0)),
        ("NO_STATUS", "", (0, 1, 0)),
    ],
)
def test_counts_a_log(status, log, counts):
    assert _counts(bazel.count_log("//a:b", status, log)) == counts


def _result(label, status, log=None):
    outputs = [{"name": "test.log", "uri": log.as_uri()}] if log else []
    body = {"status": status, "testActionOutput": outputs}
    return json.dumps({"id": {"testResult": {"label": label}}, "testResult": body})


def _completed(label, **body):
    return json.dumps({"id": {"targetCompleted": {"label": label}}, **body})


def test_counts_a_bazel_run(tmp_path):
    log = tmp_path / "test log"
    log.write_text(_PASSED)
    outcome = bazel.count_events(
        [
            _completed("//a:built", completed={"success": True}),
            _result("//a:passes", "PASSED", log),
            _result("//a:fails", "FAILED"),
            # Its build was fine; that the test failed has been counted.
            _completed("//a:fails", completed={}),
            _completed("//a:broken", completed={}),
            _completed("//a:unloaded", aborted={"reason": "ANALYSIS_FAILURE"}),
            _completed("//a:asan_only", aborted={"reason": "SKIPPED"}),
            json.dumps({"id": {"buildFinished": {}}, "finished": {}}),
        ]
    )
    assert outcome.passed == 3
    assert outcome.failures == [
        "//a:fails: FAILED",
        "//a:broken: did not build",
        "//a:unloaded: did not build",
    ]


_JUNIT = """<testsuites><testsuite>
<testcase classname="t" name="good"/>
<testcase classname="t" name="bad"><failure message="no"/></testcase>
<testcase classname="t" name="worse"><error message="in setup"/></testcase>
<testcase classname="t" name="not"><skipped message="no torch"/></testcase>
</testsuite></testsuites>"""


def test_counts_a_pytest_run():
    outcome = pytests.count_junit(_JUNIT)
    assert outcome == Outcome(1, ["t::bad", "t::worse"], ["t::not: no torch"])


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "ROOT", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "body, counts",
    [
        ("def test_a(): pass", (1, 0, 0)),
        ("def test_a(): assert False", (0, 1, 0)),
        ("import os\ndef test_a(): os._exit(0)", (0, 1, 0)),
        ("import nothing_like_this", (0, 1, 0)),
        ("import pytest\ndef test_a(): pytest.skip('x')", (0, 0, 1)),
        ("# no tests", (0, 1, 0)),
    ],
)
def test_runs_pytest(tree, body, counts):
    (tree / "suite").mkdir()
    (tree / "suite" / "test_a.py").write_text(body)
    assert _counts(pytests.run(sys.executable, "suite", {}, timeout_s=60)) == counts


def test_a_missing_folder_is_a_skip(tree):
    assert _counts(pytests.run(sys.executable, "suite", {}, timeout_s=60)) == (0, 0, 1)


# Prints the number of a child that ignores SIGINT, and then waits for it or not.
_LEAVES_A_CHILD = """
import pathlib, subprocess, sys
child = subprocess.Popen(["sh", "-c", "trap '' INT; sleep 600"])
pathlib.Path("child").write_text(str(child.pid))
if sys.argv[1] == "wait":
    child.wait()
"""


def _ends(pid):
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    ready, _, _ = select.select([descriptor], [], [], 30)
    os.close(descriptor)
    return bool(ready)


@pytest.mark.parametrize("then, status", [("wait", process.TIMED_OUT), ("leave", 0)])
def test_nothing_outlives_a_command(tree, then, status):
    command = [sys.executable, "-c", _LEAVES_A_CHILD, then]
    assert process.run(command, timeout_s=2) == status
    assert _ends(int((tree / "child").read_text()))


def test_the_status_of_a_command(tree):
    assert process.run(["sh", "-c", "exit 7"], timeout_s=60) == 7


@pytest.mark.parametrize(
    "name, first_line, is_script",
    [
        ("a.sh", "", True),
        ("run", "#!/usr/bin/env bash\n", True),
        ("run", "#!/bin/sh\n", True),
        ("run", "#!/usr/bin/env python3\n", False),
        ("a.py", "#!/bin/sh\n", False),
        ("LICENSE", "Text\n", False),
    ],
)
def test_knows_a_shell_script(tmp_path: pathlib.Path, name, first_line, is_script):
    path = tmp_path / name
    path.write_text(first_line)
    assert checks.is_shell_script(path) == is_script


@pytest.mark.parametrize("outcome, status", [(Outcome(3), 0), (failed("x"), 1), (skipped("y"), 0)])
def test_the_last_line(capsys, outcome, status):
    report = Report()
    report.record("first", Outcome(1), 0)
    report.record("second", outcome, 0)
    assert report.print_summary() == status
    last = capsys.readouterr().out.splitlines()[-1]
    total = Outcome(1 + outcome.passed, outcome.failures, outcome.skips)
    assert last == str(total)


def test_the_form_of_the_last_line():
    assert str(Outcome(5, ["a", "b"], ["c"])) == "5 passed, 2 failed, 1 skipped"
