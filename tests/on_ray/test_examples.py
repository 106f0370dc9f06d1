"""Examples that start a Ray of their own, and need no daemon."""

from __future__ import annotations

import importlib.util
import re

import pytest
from examples import run_example


def run(name: str, *arguments: str) -> str:
    done = run_example(name, 240, arguments)
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


def test_weights_for_rollout_actors() -> None:
    assert run("weights.py").splitlines()[-1] == str([15_000_030.0] * 3)


@pytest.mark.skipif(importlib.util.find_spec("spacy") is None, reason="spaCy is not installed")
def test_a_tagger_with_a_parameter_server() -> None:
    said = run("ner/train.py", "--workers", "2", "--steps", "60")
    scores = dict(re.findall(r"^2 workers  (.*?) +\d+ words/s .* F1 ([\d.]+)$", said, re.MULTILINE))
    assert list(scores) == ["object store", "tutti", "tutti, asynchronous"], said
    # The same steps with the same sentences.
    assert scores["tutti"] == scores["object store"]
    assert min(map(float, scores.values())) > 0.5, said
