"""What a process calls itself in `tutti sessions`."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("title", "name"), [("ray::Trainer.step", "ray::Trainer.step"), ("python3", "-c")]
)
def test_rays_titles_are_taken(title: str, name: str) -> None:
    code = "from tutti import _paths; print(_paths.own_name())"
    result = subprocess.run(
        [title, "-c", code], executable=sys.executable, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == name
