"""The benchmark runs, with tiny sizes: results are right, and what it writes is whole. No figure is
looked at.

The daemon is $TUTTID, as for the other tests of whole processes. The contestants are taken from
$TUTTI_BENCH_BIN, or built as developers build (quick after `bazel build //...`).
"""

import json
import os
import pathlib
import shutil
import sys

import bench
import programs
import pytest
from contestants import CONTESTANTS

_LARGEST = 4096


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The programs, with the daemon under test."""
    if "TUTTID" not in os.environ:
        pytest.skip("TUTTID is not set: the path of the daemon's binary")
    given = os.environ.get("TUTTI_BENCH_BIN")
    built = pathlib.Path(given) if given else programs.build([], with_daemon=False)
    copies = tmp_path_factory.mktemp("bin")
    for program in built.iterdir():
        shutil.copy(program, copies)
    shutil.copy(os.environ["TUTTID"], copies / "tuttid")
    return copies


@pytest.fixture(scope="module")
def document(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUTTI_BENCH_PYTHON", sys.executable)
        patch.delenv("TUTTI_BENCH_PLOTTER", raising=False)
        options = ["--quick", "--rounds=1", f"--largest={_LARGEST}", "--name=smoke"]
        options += ["--ranks=2", "--memory-operations=220", f"--out={out}", f"--bin={folder}"]
        assert bench.main(options) == 0
    assert "## Bars" in (out / "smoke.md").read_text()
    return json.loads((out / "smoke.json").read_text())


@pytest.mark.parametrize("contestant", [each.name for each in CONTESTANTS])
def test_a_contestant(document, contestant):
    description = document["contestants"][contestant]
    if description.startswith("missing: "):
        pytest.skip(f"{contestant}: {description}")
    found = [each for each in document["series"] if each["contestant"] == contestant]
    assert {each["operation"] for each in found} >= {"allreduce"}
    for each in found:
        # "wrong ..." is a wrong result.
        assert each["status"] in ("ok", "unsupported"), each
        if each["status"] == "ok":
            assert each["warm"]["min_ns"] > 0


def test_the_document(document):
    assert document["memory"]["most_kib"] > 0
    assert {"commit", "cpu", "cores"} <= set(document["machine"])
    assert all(bar["verdict"] in ("PASS", "MISS", "not measured") for bar in document["bars"])
