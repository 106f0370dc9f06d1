"""The invariants that fault tests check (I-1 to I-12 of the reliability notes), each a function
that fails with what it saw. tests/fault/checker_test.py plants a defect for each and proves that it
does.
"""

from __future__ import annotations

import os
import pathlib
import select
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from admin import Admin
from rank import Verdict
from waiting import OutOfTime, wait_until

# The bar of issue 3: from the kill of a rank to its name at every other.
NAMED_WITHIN_MS = 100.0
# Status answers within that, whatever hangs. The age that it tells is not below the truth but for
# the rounding of the tool, and not above it by more than the time between two snapshots.
ANSWERS_WITHIN_S = 1.0
_AGE_BELOW_S = 0.15
_AGE_ABOVE_S = 1.0
# gRPC keeps threads and connections a little longer than it needs them.
_SETTLE_S = 15.0


class Broken(AssertionError):
    """An invariant does not hold."""


# --- Verdicts ---


def check_same_verdict(verdicts: Mapping[int, Verdict]) -> Verdict:
    """I-2: every survivor was told the same. Returns it."""
    first_rank, first = next(iter(verdicts.items()))
    for rank, verdict in verdicts.items():
        if verdict != first:
            raise Broken(
                f"one work, two verdicts: rank {first_rank} was told {first}, rank {rank} {verdict}"
            )
    return first


def check_names(verdict: Verdict, cause: str, ranks: Iterable[int]) -> None:
    """I-11: the failure has this cause, and names exactly these ranks, in its fields and words."""
    named = verdict.missing if cause == "DEADLINE" else verdict.culprits
    wanted = tuple(sorted(ranks))
    if verdict.ok or verdict.cause != cause or named != wanted:
        raise Broken(f"expected {cause} of ranks {wanted}, got {verdict}")
    for rank in wanted:
        if str(rank) not in verdict.message:
            raise Broken(f"rank {rank} is not in the message: {verdict.message}")


def check_named_in_time(
    verdicts: Mapping[int, Verdict], culprit: int, since_ns: int, within_ms: float = NAMED_WITHIN_MS
) -> float:
    """Every verdict names the dead rank, and came in time. Returns how long the last one took."""
    for verdict in verdicts.values():
        check_names(verdict, "RANK_DIED", [culprit])
    rank, last = max(verdicts.items(), key=lambda item: item[1].monotonic_ns)
    took_ms = (last.monotonic_ns - since_ns) / 1e6
    if took_ms > within_ms:
        raise Broken(
            f"rank {rank} learned of rank {culprit}'s death after {took_ms:.1f} ms, and "
            f"{within_ms:g} ms are promised"
        )
    return took_ms


def check_most_in_time(took_ms: Sequence[float], within_ms: float = NAMED_WITHIN_MS) -> None:
    """FS-2: 99 of 100 deaths were named in time."""
    late = [each for each in took_ms if each > within_ms]
    if len(late) > 0.01 * len(took_ms):
        raise Broken(
            f"{len(late)} of {len(took_ms)} times the death was named after more than "
            f"{within_ms:g} ms: {', '.join(f'{each:.0f}' for each in late[:10])} ms"
        )


# --- Memory ---


def check_untouched(before: Mapping[str, str], after: Mapping[str, str]) -> None:
    """I-5: nobody has written. Both map the name of a tensor to the hash of its bytes."""
    written = sorted(name for name in before if before[name] != after.get(name))
    if written:
        raise Broken(f"written although the operation failed: {', '.join(written)}")


def check_bit_identical(hashes: Sequence[str]) -> None:
    """I-4: the same bits at all ranks, and run after run."""
    if len(set(hashes)) != 1:
        raise Broken(f"the results differ: {', '.join(hashes)}")


def check_results(replies: Iterable[Mapping[str, Any]]) -> None:
    """I-3: who was told OK has the whole result. Takes the replies of `check`."""
    wrong = [number for number, reply in enumerate(replies) if not reply.get("equal")]
    if wrong:
        raise Broken(f"told that all is well, with wrong results: {wrong} of these ranks")


# --- The daemon ---


def check_alive(pidfd: int, pid: int, admin: Admin) -> None:
    """I-12: the daemon lives, and is the same process."""
    if select.select([pidfd], [], [], 0)[0]:
        raise Broken(f"the daemon (pid {pid}) has died")
    now = admin.status().pid
    if now != pid:
        raise Broken(f"the daemon was pid {pid}, and is {now}")


def check_tells_age(ask: Callable[[], int], blocked_since: float) -> tuple[float, float]:
    """Status under trouble: `ask` returns the age in ms that an answer states. It must come within
    a second, and tell how old it is. `blocked_since` (time.monotonic()): nothing newer can be
    shown. Returns the age and the time the answer took, in seconds.
    """
    asked = time.monotonic()
    age_s = ask() / 1000
    answered = time.monotonic()
    if answered - asked > ANSWERS_WITHIN_S:
        raise Broken(f"the answer took {answered - asked:.2f} s")
    if not (
        asked - blocked_since - _AGE_BELOW_S <= age_s <= answered - blocked_since + _AGE_ABOVE_S
    ):
        raise Broken(
            f"the loop is blocked for {answered - blocked_since:.2f} s, and the answer claims an "
            f"age of {age_s:.2f} s"
        )
    return age_s, answered - asked


# --- Leaks ---


@dataclass(frozen=True)
class Usage:
    """What a daemon holds."""

    descriptors: int
    threads: int
    grpc_threads: int
    mappings: int
    arena_mappings: int
    sessions: int
    arena_bytes: int
    works_pending: int
    heap_kib: int


def usage_of(pid: int, admin: Admin) -> Usage:
    """Now, except for the counts of sessions and bytes: those are of a fresh snapshot."""
    status = admin.fresh_status()
    process = pathlib.Path("/proc") / str(pid)
    maps = (process / "maps").read_text().splitlines()
    names = [(task / "comm").read_text().strip() for task in (process / "task").iterdir()]
    grpc_threads = sum(name in _GRPC_THREADS for name in names)
    return Usage(
        descriptors=len(os.listdir(process / "fd")),
        threads=len(names) - grpc_threads,
        grpc_threads=grpc_threads,
        mappings=len(maps),
        arena_mappings=sum("/memfd:" in line for line in maps),
        sessions=status.sessions,
        arena_bytes=status.arena_bytes,
        works_pending=status.works_pending,
        heap_kib=heap_kib(pid),
    )


def heap_kib(pid: int) -> int:
    return _status_kib(pathlib.Path("/proc") / str(pid), "RssAnon")


def settled_usage(pid: int, admin: Admin, settle_s: float = _SETTLE_S) -> Usage:
    """A baseline: what the daemon holds once it has held the same for a second or so."""
    seen: list[Usage] = []

    def is_steady() -> bool:
        seen.append(usage_of(pid, admin))
        return len(seen) >= 3 and not any(_differs(seen[-1], each) for each in seen[-3:-1])

    wait_until(is_steady, "what the daemon holds does not change any more", settle_s)
    return seen[-1]


def check_no_leak(pid: int, admin: Admin, baseline: Usage, settle_s: float = _SETTLE_S) -> Usage:
    """I-7: the daemon holds no more of anything countable than at `baseline`, taken in a state like
    this one after warm-up. What takes a moment to go (a thread, a connection) gets it. The heap is
    not countable: see check_flat.
    """
    seen: list[Usage] = []

    def is_back() -> bool:
        seen[:] = [usage_of(pid, admin)]
        return not _more(baseline, seen[0])

    try:
        wait_until(is_back, "what the daemon holds is back to the baseline", settle_s)
    except OutOfTime:
        raise Broken(
            f"leaked: {', '.join(_more(baseline, seen[0]))}; {seen[0]}\n{_descriptors(pid)}"
        ) from None
    return seen[0]


def check_flat(what: str, samples: Sequence[float], growth_max: float) -> float:
    """I-8: the fitted growth over all `samples` is at most `growth_max`. Returns the growth.

    A line through all samples, and not last minus first: one sample may be high by chance.
    """
    count = len(samples)
    mean_x, mean_y = (count - 1) / 2, sum(samples) / count
    spread = sum((x - mean_x) ** 2 for x in range(count))
    slope = sum((x - mean_x) * (y - mean_y) for x, y in enumerate(samples)) / spread
    growth = slope * (count - 1)
    if growth > growth_max:
        raise Broken(
            f"{what} grows: by {growth:.1f} over {count} samples, from {samples[0]:g} to "
            f"{samples[-1]:g}, and {growth_max:g} are allowed"
        )
    return growth


# gRPC's pools, which grow when they are busy, up to two threads for each processor.
_GRPC_THREADS = ("default-executo", "resolver-execut", "grpc_global_tim", "event_engine")
# Of what may be more without a leak, so many; a leak shows as one for each round. Each thread has
# two mappings, the stack and its guard, and glibc keeps those of ended threads. It also maps large
# blocks.
_GRPC_THREADS_MORE = 2 * (os.cpu_count() or 1) + 2
_SLACK = {"grpc_threads": _GRPC_THREADS_MORE, "mappings": 2 * _GRPC_THREADS_MORE + 4}
_COUNTABLE = [each.name for each in fields(Usage) if each.name != "heap_kib"]


def _more(baseline: Usage, now: Usage) -> list[str]:
    return [
        f"{name} {getattr(baseline, name)} -> {getattr(now, name)}"
        for name in _COUNTABLE
        if getattr(now, name) > getattr(baseline, name) + _SLACK.get(name, 0)
    ]


def _differs(one: Usage, other: Usage) -> bool:
    return any(getattr(one, name) != getattr(other, name) for name in _COUNTABLE)


def _status_kib(process: pathlib.Path, field: str) -> int:
    for line in (process / "status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise AssertionError(f"no {field} in {process}/status")


def _descriptors(pid: int) -> str:
    folder = pathlib.Path("/proc") / str(pid) / "fd"
    lines = []
    for name in os.listdir(folder):
        try:
            lines.append(f"{name} -> {os.readlink(folder / name)}")
        except OSError:
            continue
    return "\n".join(sorted(lines, key=lambda line: int(line.split()[0])))
