"""Which lane each process of a contestant has: what the daemon says, not what was asked for."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import time
from collections.abc import Sequence
from typing import Any

# What the daemon shows may be a quarter of a second old.
_PATIENCE_S = 2.0
_PAUSE_S = 0.1
_CALL_TIMEOUT_S = 10.0


class LanesUnknown(Exception):
    """The daemon can't be asked, or does not answer."""


@dataclasses.dataclass(frozen=True)
class Lane:
    """"ring", "grpc" or "none". `why`: it is not the ring, if the client says so."""

    name: str
    why: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.why})" if self.why else self.name


def lanes_of(sessions: dict[str, Any], pids: Sequence[int]) -> list[Lane]:
    """In the order of `pids`. `sessions` is what `tutti sessions -o json` prints."""
    found = {
        session.get("pid", 0): Lane(session.get("lane") or "none", session.get("no_ring", ""))
        for session in sessions.get("sessions", [])
    }
    return [found.get(pid, Lane("none")) for pid in pids]


def describe(lanes: Sequence[Lane]) -> str:
    """One lane if all have the same, else those of all."""
    return ", ".join(dict.fromkeys(str(lane) for lane in lanes))


def problem(lanes: Sequence[Lane], wanted: str) -> str:
    """Empty if all have the lane that they were told to take."""
    if all(lane.name == wanted for lane in lanes):
        return ""
    return f"was told to take the lane {wanted}, and has {describe(lanes)}"


class Lanes:
    """Asks the daemon that the environment names, by the tool for people."""

    def __init__(self, tool: str) -> None:
        self._tool = tool

    def of(self, pids: Sequence[int]) -> list[Lane]:
        """Raises LanesUnknown."""
        command = [self._tool, "sessions", "-o", "json"]
        try:
            asked = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_CALL_TIMEOUT_S,
                check=True,
            )
            return lanes_of(json.loads(asked.stdout), pids)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            raise LanesUnknown(f"the daemon can't be asked for the lanes: {error}") from error

    def wait(self, pids: Sequence[int], wanted: str) -> list[Lane]:
        """The same, but gives what is wanted some time to show."""
        give_up = time.monotonic() + _PATIENCE_S
        while problem(found := self.of(pids), wanted) and time.monotonic() < give_up:
            time.sleep(_PAUSE_S)
        return found
