"""The examples of the Python client, run as people run them."""

from __future__ import annotations

import importlib.util

import pytest
from daemon import DaemonProcess
from examples import run_example


@pytest.mark.parametrize(
    ("name", "needs", "expected"),
    [
        ("numpy_actor.py", ("ray",), "[10.0, 10.0, 10.0, 10.0]"),
        ("torch_actor.py", ("ray", "torch"), str([[1.5, 1.5, 1.5]] * 4)),
    ],
)
def test_example(daemon: DaemonProcess, name: str, needs: tuple[str, ...], expected: str) -> None:
    for module in needs:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    done = run_example(name, 200)
    assert done.returncode == 0, done.stderr + daemon.log
    assert done.stdout.splitlines()[-1] == expected
