"""Examples that start a Ray of their own, and need no daemon."""

from __future__ import annotations

import re

from examples import run_example


def run(name: str) -> str:
    done = run_example(name, 240)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_training_that_goes_on_when_a_worker_is_killed() -> None:
    said = run("digits/elastic.py")
    for rank in (0, 1, 3):
        assert re.search(rf"rank {rank}: .*RankLostError: .*: rank 2 .* died", said), said
    assert "another rank 2 goes on with them from step" in said
    accuracies = [float(text) for text in re.findall(r"accuracy ([\d.]+)%", said)]
    assert len(accuracies) == 2
    assert min(accuracies) > 90


def test_the_smallest() -> None:
    assert run("numpy_actor.py").splitlines()[-1] == "[10.0, 10.0, 10.0, 10.0]"
