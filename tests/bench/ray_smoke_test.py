"""The benchmark in Ray runs, with tiny sizes: results are right, and what it writes is whole. No
figure is looked at. What it needs is as for smoke_test.py, and Ray.
"""

import importlib.util
import json

import pytest
from ray_cases import CONTESTANTS

for module in ("ray", "torch", "tutti"):
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"there is no {module}", allow_module_level=True)

import ray_bench  # noqa: E402


@pytest.fixture(scope="module")
def document(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("TUTTI_BENCH_PLOTTER", raising=False)
        # It is set there, and to be as it was afterwards.
        patch.setenv("TUTTI_SOCKET_DIR", "")
        options = ["--quick", "--rounds=1", "--largest=1024", "--ranks=2", "--name=smoke"]
        assert ray_bench.main([*options, f"--out={out}", f"--bin={folder}"]) == 0
    assert "## Bars" in (out / "smoke.md").read_text()
    return json.loads((out / "smoke.json").read_text())


@pytest.mark.parametrize("contestant", CONTESTANTS, ids=lambda each: each.name)
def test_a_contestant(document, contestant):
    found = [each for each in document["series"] if each["contestant"] == contestant.name]
    assert [(each["bytes"], each["status"]) for each in found] == [(1024, "ok")]
    assert found[0]["warm"]["min_ns"] > 0


def test_groups(document):
    assert {each["flavour"] for each in document["groups"]} == {"gloo", "tutti"}
    for each in document["groups"]:
        assert each["status"] == "ok" and each["samples_ns"]
