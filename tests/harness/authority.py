"""An authority for the daemons of a test, and the certificates of its nodes."""

from __future__ import annotations

import os
import pathlib
import subprocess


def make_authority(folder: pathlib.Path, cluster: str, nodes: int) -> None:
    """As the README says: node i finds its own in folder/node{i}. The tool is $TUTTI_CLI."""
    tutti = os.environ["TUTTI_CLI"]
    subprocess.run([tutti, "certs", "init", str(folder), "--cluster", cluster], check=True)
    for index in range(nodes):
        subprocess.run([tutti, "certs", "node", str(folder), f"node{index}"], check=True)
