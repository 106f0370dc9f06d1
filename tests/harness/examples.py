"""Runs examples of the Python client as people run them, in a Ray of their own."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
from collections.abc import Sequence

_EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "client/python/examples"


def run_example(
    name: str, limit_s: float, arguments: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """What it has printed, and its exit status."""
    return subprocess.run(
        [sys.executable, str(_EXAMPLES / name), *arguments],
        env={**os.environ, "RAY_ADDRESS": "local"},
        capture_output=True,
        text=True,
        timeout=limit_s,
        check=False,
    )
