"""Spin checks every execution of the models, and finds each fault that is planted in them.

Spin: Gerard J. Holzmann, The SPIN Model Checker, 2003.
"""

from __future__ import annotations

import pathlib
import re
import subprocess

import pytest

FOLDER = pathlib.Path(__file__).parent
# By claim, what of the model it is checked on. Breaks and restarts together are 17 million states
# and more: one_epoch is checked on them here; the others were once, by hand (no error, 4 minutes).
CHECKED = {
    "one_epoch": ("",),
    "not_alone": ("SEED_RESTARTS=0", "BREAKS=0"),
    "answered": ("SEED_RESTARTS=0", "BREAKS=0"),
    "in_vain": ("NO_DEADLINES",),
}
# A claim takes half a minute and 600 MB on an idle machine.
LIMIT_S = 600
# By fault, the claims that find it; assertions are checked with each claim.
FAULTS = {
    "NO_FENCE": ("one_epoch", "not_alone"),
    "NO_ENTER": ("one_epoch",),
    "NO_BREAK": ("not_alone",),
    "LATE_BREAK": ("not_alone",),
    "NO_OVER": ("in_vain",),
}


def check(folder: pathlib.Path, model: str, claim: str, *defined: str) -> str:
    """What Spin's checker says: it visits all states, or stops at the first error."""
    defines = [f"-D{name}" for name in defined if name]
    run(folder, "spin", "-a", *defines, str(FOLDER / model))
    # Room for fairness over all processes; states are kept as they are, none is left out.
    run(folder, "gcc", "-O2", "-w", "-DNFAIR=4", "-DCOLLAPSE", "-DMEMLIM=3000", "-opan", "pan.c")
    return run(folder, "./pan", "-a", "-f", "-N", claim)


def run(folder: pathlib.Path, *command: str) -> str:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


@pytest.mark.parametrize(
    ("claim", "part"), [(claim, part) for claim, parts in CHECKED.items() for part in parts]
)
def test_formation(tmp_path: pathlib.Path, claim: str, part: str) -> None:
    said = check(tmp_path, "formation.pml", claim, part)
    assert "errors: 0" in said
    assert "max search depth too small" not in said
    if part != "":
        return
    # All of the model has been of use: only the ends of processes that have none were not reached.
    assert set(re.findall(r"\((\d+) of \d+ states\)", said)) == {"1"}


@pytest.mark.parametrize(
    ("fault", "claim"), [(fault, claim) for fault, claims in FAULTS.items() for claim in claims]
)
def test_a_planted_fault_is_found(tmp_path: pathlib.Path, fault: str, claim: str) -> None:
    assert "errors: 1" in check(tmp_path, "formation.pml", claim, fault, CHECKED[claim][0])
