"""What ranks of one group have been told, over several nodes and faults, and whether that keeps
what design.md promises (Deadlines, failures, verdicts):

(a) on one node all ranks get one verdict per work;
(b) all ranks that can reach the coordinator get the same failure, and nothing has failed that it
    says is complete;
(c) a rank that is cut off is told that, or the same as the others.

Pure: histories are values, and can be checked again from what was written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

_COMPLETE = re.compile(r"; collectives up to #(\d+) are complete on all nodes$")
_CUT_OFF = "can't be reached"


@dataclass(frozen=True)
class Told:
    """The verdict on one collective at one rank. Failures are told apart by cause and message."""

    epoch: int
    place: int  # among the collectives of the epoch
    rank: int
    node: int
    ok: bool
    cause: str = ""
    message: str = ""

    @property
    def failure(self) -> str:
        """Empty if there is none."""
        return "" if self.ok else f"{self.cause}: {self.message}"


@dataclass(frozen=True)
class Fault:
    """Nodes that were cut off from the coordinator in an epoch, stopped, or whose daemon died."""

    epoch: int
    cut_off: tuple[int, ...] = ()
    dead: tuple[int, ...] = ()


def write(told: Iterable[Told], faults: Iterable[Fault]) -> str:
    """A line of JSON for each."""
    lines = [{"told": asdict(each)} for each in told]
    return "\n".join(json.dumps(each) for each in [*lines, *({"fault": asdict(f)} for f in faults)])


def read(text: str) -> tuple[list[Told], list[Fault]]:
    """What `write` has written."""
    lines = [json.loads(line) for line in text.splitlines()]
    told = [Told(**line["told"]) for line in lines if "told" in line]
    faults = [line["fault"] for line in lines if "fault" in line]
    return told, [Fault(f["epoch"], tuple(f["cut_off"]), tuple(f["dead"])) for f in faults]


def violations(told: Sequence[Told], faults: Sequence[Fault]) -> list[str]:
    """What is not as promised; nothing if all is well."""
    found: list[str] = []
    for epoch in sorted({each.epoch for each in told}):
        of_epoch = [each for each in told if each.epoch == epoch]
        cut_off = {node for fault in faults if fault.epoch == epoch for node in fault.cut_off}
        dead = {node for fault in faults if fault.epoch == epoch for node in fault.dead}
        found += _splits_on_a_node([each for each in of_epoch if each.node not in dead])
        reach = [each for each in of_epoch if each.node not in cut_off | dead]
        found += _several_failures(reach)
        found += _failed_though_complete(of_epoch)
        told_here = {each.failure for each in reach if not each.ok}
        apart = [each for each in of_epoch if each.node in cut_off and not each.ok]
        found += _unexplained(apart, told_here)
    return found


def _splits_on_a_node(told: Sequence[Told]) -> list[str]:
    verdicts: dict[tuple[int, int], set[str]] = {}
    for each in told:
        verdicts.setdefault((each.node, each.place), set()).add(each.failure)
    return [
        f"(a) epoch {told[0].epoch}, node {node}, #{place}: {sorted(several)}"
        for (node, place), several in verdicts.items()
        if len(several) > 1
    ]


def _several_failures(told: Sequence[Told]) -> list[str]:
    failures = sorted({each.failure for each in told if not each.ok})
    return [f"(b) epoch {told[0].epoch}: {failures}"] if len(failures) > 1 else []


def _failed_though_complete(told: Sequence[Told]) -> list[str]:
    complete = max((_complete_through(each) for each in told), default=0)
    return [
        f"(b) epoch {each.epoch}, rank {each.rank}: #{each.place} is complete, and has failed"
        for each in told
        if not each.ok and each.place <= complete
    ]


def _complete_through(told: Told) -> int:
    found = _COMPLETE.search(told.message)
    return int(found.group(1)) if found else 0


def _unexplained(told: Sequence[Told], told_to_others: set[str]) -> list[str]:
    return [
        f"(c) epoch {each.epoch}, rank {each.rank}: {each.failure}"
        for each in told
        if each.failure not in told_to_others
        and not (each.cause == "NODE_LOST" and _CUT_OFF in each.message)
    ]
