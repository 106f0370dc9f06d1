"""What the figures were measured on, and whether it was quiet."""

from __future__ import annotations

import os
import pathlib
import platform
import subprocess
import time
from typing import Any

_WATCH_S = 1.0


def describe(root: pathlib.Path) -> dict[str, Any]:
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "l3_cache": _read("/sys/devices/system/cpu/cpu0/cache/index3/size"),
        "memory_gib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // (1 << 30),
        "kernel": platform.release(),
        "huge_pages": _read("/sys/kernel/mm/transparent_hugepage/enabled"),
        "huge_pages_shared": _read("/sys/kernel/mm/transparent_hugepage/shmem_enabled"),
        "commit": _git(root, "rev-parse", "--short", "HEAD"),
        "changed_files": len(_git(root, "status", "--porcelain").splitlines()),
    }


def busy_cores() -> float:
    """How many cores others keep busy, watched for a second in which this run does nothing."""
    before = _cpu_times()
    time.sleep(_WATCH_S)
    spent = [after - earlier for earlier, after in zip(before, _cpu_times(), strict=True)]
    # user nice system idle iowait irq softirq steal ...
    idle = spent[3] + spent[4]
    return (os.cpu_count() or 1) * (1 - idle / sum(spent))


def anonymous_kib(pid: int) -> int:
    """A process's own memory: arenas, which it shares with others, do not count."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1])
    raise ValueError(f"no RssAnon in the status of process {pid}")


def cpu_ns(pid: int) -> int:
    """The processor time of a process, with its threads that have ended: utime and stime, but in
    nanoseconds.
    """
    # What clock_getcpuclockid of the C library returns.
    return time.clock_gettime_ns((~pid << 3) | 2)


def _cpu_times() -> list[int]:
    first = pathlib.Path("/proc/stat").read_text().splitlines()[0]
    return [int(word) for word in first.split()[1:9]]


def _cpu() -> str:
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _read(path: str) -> str:
    try:
        return pathlib.Path(path).read_text().strip()
    except OSError:
        return "unknown"


def _git(root: pathlib.Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
