"""The benchmark over several nodes runs, with tiny sizes: results are right, and what it writes is
whole. No figure is looked at. What it needs is as for smoke_test.py, and network namespaces.
"""

import json
import sys

import nodes_bench
import pytest
from bars import Results
from cases import KIB, Case
from measure import Series
from nodes_bars import nodes_bars
from nodes_cases import LAYOUTS, Layout, nodes_cases
from nodes_contestants import CONTESTANTS

sys.path.append(str(nodes_bench.programs.ROOT / "tests" / "harness"))

from hosts import why_not  # noqa: E402

_LIMITED = Layout(2, 2, 1000)


@pytest.fixture(scope="module")
def document(folder, tmp_path_factory):
    if reason := why_not():
        pytest.skip(reason)
    out = tmp_path_factory.mktemp("out")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("TUTTI_BENCH_PLOTTER", raising=False)
        for variable in ("TUTTID", "TUTTI_CLI"):  # set there
            patch.setenv(variable, "")
        options = ["--quick", "--rounds=1", "--largest=1024", "--nodes=2", "--name=smoke"]
        assert nodes_bench.main([*options, f"--out={out}", f"--bin={folder}"]) == 0
    assert "## Bars" in (out / "smoke.md").read_text()
    return json.loads((out / "smoke.json").read_text())


@pytest.mark.parametrize("contestant", CONTESTANTS, ids=lambda each: each.name)
def test_a_contestant(document, contestant):
    description = document["contestants"][contestant.name]
    if contestant.name != "tutti" and description.startswith(("missing: ", "failed: ")):
        pytest.skip(description)
    found = [each for each in document["series"] if each["contestant"] == contestant.name]
    sections = {layout.section for layout in LAYOUTS if layout.nodes == 2}
    assert {each["section"] for each in found} == sections
    assert {each["operation"] for each in found} == {"allreduce", "broadcast", "reduce"}
    for each in found:
        assert each["status"] == "ok", each
        assert each["warm"]["min_ns"] > 0


def test_what_a_link_carries():
    # Half of the tensor out, and half of the result: 64 MiB in all, at 125 MB/s.
    assert _LIMITED.link_ns(64 << 20) == pytest.approx((64 << 20) / 125e6 * 1e9)
    # Of three nodes, two thirds twice.
    assert Layout(3, 2, 1000).link_ns(300) == pytest.approx(400 / 125e6 * 1e9)


def _series(case: Case, contestant: str, ns: float) -> Series:
    return Series(case, contestant, rounds={"warm": [[ns] * 3] * 3})


def test_bars_are_held_against_the_worst_size():
    cases = nodes_cases(_LIMITED, 4 * KIB)
    series = [_series(case, "tutti", 10.0) for case in cases]
    series += [_series(case, "gloo", 20.0 if case.bytes > KIB else 5.0) for case in cases]
    bars = {bar.name: bar for bar in nodes_bars(Results(series), 4 * KIB)}
    gloo = bars[f"{_LIMITED.section}, at every size: times as fast as Gloo"]
    assert (gloo.value, gloo.verdict, gloo.note) == (0.5, "MISS", "at 1 KiB")
    link = bars[f"{_LIMITED.section}, at the largest size: of what the links carry"]
    assert link.value == pytest.approx(_LIMITED.link_ns(4 * KIB) / 10.0)
    openmpi = bars[f"{_LIMITED.section}, at every size: times as fast as Open MPI"]
    assert openmpi.verdict == "not measured"
