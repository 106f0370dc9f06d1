"""The interpreter's end: a clean goodbye, no hang, no noise."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from fake_daemon import FakeDaemon, wait_until

PRELUDE = """
import sys, threading
import numpy as np
import tutti
from tutti import collective as col
keep = []
"""

SCRIPTS = {
    "idle": "col.init_collective_group(1, 0)",
    "busy": "col.init_collective_group(1, 0)\nfor _ in range(50): col.allreduce(np.ones(1000))",
    "with works in flight": "col.init_collective_group(1, 0)\n"
    "works = [col.allreduce(np.ones(10), async_op=True) for _ in range(20)]",
    "with arena arrays": "a = tutti.zeros(10); keep.append(a[1:])",
    "with a client of its own": "c = tutti.Client(); keep.append((c, c.join('g', 0, 1)))",
    "closed": "c = tutti.Client(); g = c.join('g', 0, 1); c.close()",
    "by an exception": "col.init_collective_group(1, 0); sys.exit(0)",
    "with threads that wait": "g = tutti.Client().join('g', 0, 1)\n"
    "for _ in range(3): threading.Thread(target=g.barrier, daemon=True).start()",
    "with threads that submit": "g = tutti.Client().join('g', 0, 1)\n"
    "def loop():\n"
    "    while True: g.barrier()\n"
    "for _ in range(3): threading.Thread(target=loop, daemon=True).start()",
    "with threads that join": "c = tutti.Client()\n"
    "threading.Thread(target=c.join, args=('g', 0, 2), daemon=True).start(); c.zeros(3)",
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_exit(daemon: FakeDaemon, name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + SCRIPTS[name]],
        env={**os.environ, "TUTTI_SOCKET_DIR": str(daemon.socket_dir)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    wait_until(lambda: not daemon.sessions)
    assert "goodbye" in daemon.requests
