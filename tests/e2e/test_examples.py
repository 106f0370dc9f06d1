"""The examples of the Python client, run as people run them."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest
from daemon import DaemonProcess

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "client/python/examples"


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
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name)],
        env={**os.environ, "RAY_ADDRESS": "local"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr + daemon.log
    assert done.stdout.splitlines()[-1] == expected
