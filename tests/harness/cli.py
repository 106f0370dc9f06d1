"""Runs the tool as a person would, and times it."""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import time
from dataclasses import dataclass
from typing import Any

# It promises one second.
_TIMEOUT_S = 10.0
_AGE = re.compile(r"has not answered for (\d+(?:\.\d+)?) (ms|s)\b")


@dataclass(frozen=True)
class Answer:
    """What one call of the tool gave."""

    exit_code: int
    out: str
    error: str
    took_s: float

    def json(self) -> Any:
        return json.loads(self.out)

    def stated_age_ms(self) -> int:
        """The age of what is shown, as a table says it; or as JSON does."""
        if self.out.startswith("{"):
            # The JSON of protobuf writes 64-bit numbers as strings.
            return int(self.json()["snapshot"]["age_ms"])
        match = _AGE.search(self.out)
        assert match, f"no age in: {self.out}"
        return round(float(match.group(1)) * (1000 if match.group(2) == "s" else 1))

    def row(self, first_cell: object) -> str:
        """The line of a table that begins with this."""
        for line in self.out.splitlines():
            if line.split()[:1] == [str(first_cell)]:
                return line
        raise AssertionError(f"no row {first_cell} in: {self.out}")


def tutti(socket_dir: pathlib.Path, *arguments: str) -> Answer:
    """Runs `tutti ARGUMENTS` on the daemon in `socket_dir`."""
    started = time.monotonic()
    result = subprocess.run(
        [os.environ["TUTTI_CLI"], f"--socket_dir={socket_dir}", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    return Answer(result.returncode, result.stdout, result.stderr, time.monotonic() - started)
