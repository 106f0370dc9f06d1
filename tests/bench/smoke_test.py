"""The benchmark runs, with tiny sizes: results are right, and what it writes is whole. No figure is
looked at.

The daemon is $TUTTID and its tool $TUTTI_CLI, as for the other tests of whole processes. The
contestants are taken from $TUTTI_BENCH_BIN, or built as developers build (quick after `bazel build
//...`).
"""

import json
import platform
import sys

import bench
import pytest
from contestants import LATENCY_CONTESTANTS, THROUGHPUT_CONTESTANTS

_LARGEST = 4096


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


def _check(document, section, contestant):
    description = document["contestants"][contestant.name]
    # What is ours has to start.
    if description.startswith("missing: " if contestant.lane else ("missing: ", "failed ")):
        pytest.skip(f"{contestant.name}: {description}")
    found = [
        each
        for each in document["series"]
        if (each["section"], each["contestant"]) == (section, contestant.name)
    ]
    assert {each["operation"] for each in found} >= {"allreduce"}
    for each in found:
        # Told to take a lane that this machine has not.
        if platform.machine() != "x86_64" and "was told to take the lane" in each["status"]:
            pytest.skip(f"{contestant.name}: {each['status']}")
        # "wrong ..." is a wrong result.
        assert each["status"] in ("ok", "unsupported"), each
        if each["status"] == "ok":
            assert each["warm"]["min_ns"] > 0
    return found


@pytest.mark.parametrize("contestant", THROUGHPUT_CONTESTANTS, ids=lambda each: each.name)
def test_a_contestant(document, contestant):
    _check(document, "throughput", contestant)


@pytest.mark.parametrize("contestant", LATENCY_CONTESTANTS, ids=lambda each: each.name)
def test_the_latency_of_a_contestant(document, contestant):
    found = _check(document, "latency", contestant)
    assert [each["bytes"] for each in found] == [4, 64, 1024, 4096]
    for each in found:
        assert (each["daemon_cpu_ns"] is not None) == bool(contestant.lane)


def test_the_document(document):
    assert document["memory"]["most_kib"] > 0
    idle = document["idle"]
    assert idle["failed"] or (idle["percent"] >= 0 and idle["sessions"] == 4)
    assert "tutti_grpc grpc" in document["lanes"]["latency, 2 ranks"]
    assert {"commit", "cpu", "cores"} <= set(document["machine"])
    assert all(bar["verdict"] in ("PASS", "MISS", "not measured") for bar in document["bars"])
