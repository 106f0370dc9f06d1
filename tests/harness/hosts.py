"""Several hosts on one machine: network namespaces, joined by a bridge in a namespace of its own.

    with Hosts(3) as hosts:
        node = Node(through=hosts[1].enter)
        hosts[1].cut(hosts[2])

Addresses are of TEST-NET-2, 198.51.100.0/24 (RFC 5737). Needs root, and iproute2.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from types import TracebackType

# Nobody has it: what is sent there is lost, without a word to the sender.
_NOWHERE = "02:00:00:00:00:00"
_numbers = itertools.count(1)


def why_not() -> str:
    """Why there can be no hosts here; empty if there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "no ip (iproute2)"
    probe = subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False)
    return "" if probe.returncode == 0 else "no network namespaces here"


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"


class Host:
    """A network namespace with one address."""

    def __init__(self, prefix: str, index: int, congestion_control: str) -> None:
        self.name = f"{prefix}h{index}"
        self.address = f"198.51.100.{index + 1}"
        switch = f"{prefix}sw"
        port = f"port{index}"
        _ip("netns", "add", self.name)
        _ip("-n", self.name, "link", "set", "lo", "up")
        # Both ends in their namespaces at once: others may make hosts at the same time.
        _ip(
            *("link", "add", "eth0", "netns", self.name, "type", "veth"),
            *("peer", "name", port, "netns", switch),
        )
        _ip("-n", switch, "link", "set", port, "master", "br0", "up")
        _ip("-n", self.name, "addr", "add", f"{self.address}/24", "dev", "eth0")
        _ip("-n", self.name, "link", "set", "eth0", "up")
        if congestion_control:
            self._write("/proc/sys/net/ipv4/tcp_congestion_control", congestion_control)

    def _write(self, path: str, text: str) -> None:
        command = [*self.enter, "sh", "-c", 'echo "$1" > "$0"', path, text]
        subprocess.run(command, check=True)

    @property
    def enter(self) -> tuple[str, ...]:
        """What comes before a command that is to run here. (No setns in a forked child: gRPC has
        handlers for forks, which abort now and then.)
        """
        return ("nsenter", f"--net=/run/netns/{self.name}")

    def cut(self, other: Host) -> None:
        """What it sends to `other` is lost; the other direction still works."""
        _ip(
            *("-n", self.name, "neigh", "replace", other.address),
            *("lladdr", _NOWHERE, "dev", "eth0", "nud", "permanent"),
        )

    def heal(self, other: Host) -> None:
        """Undoes `cut`."""
        _ip("-n", self.name, "neigh", "del", other.address, "dev", "eth0")

    def limit(self, mbit: int) -> None:
        """It sends no faster than so many megabits per second."""
        done = subprocess.run(
            ["tc", "-n", self.name, "qdisc", "replace", "dev", "eth0", "root", "tbf"]
            + ["rate", f"{mbit}mbit", "burst", "256kb", "latency", "50ms"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def close(self) -> None:
        """Takes it away. Processes on it have ended."""
        _ip("netns", "del", self.name)


class Hosts:
    """So many hosts, each of which reaches all others.

    TCP's `congestion_control` is this machine's unless one is named.
    """

    def __init__(self, count: int, congestion_control: str = "") -> None:
        prefix = f"tutti{os.getpid()}-{next(_numbers)}-"
        self._switch = f"{prefix}sw"
        _ip("netns", "add", self._switch)
        _ip("-n", self._switch, "link", "add", "br0", "type", "bridge")
        _ip("-n", self._switch, "link", "set", "br0", "up")
        self._hosts: list[Host] = []
        try:
            for index in range(count):
                self._hosts.append(Host(prefix, index, congestion_control))
        except BaseException:
            self._close()
            raise

    def __getitem__(self, index: int) -> Host:
        return self._hosts[index]

    def __len__(self) -> int:
        return len(self._hosts)

    def __enter__(self) -> Hosts:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close()

    def _close(self) -> None:
        for host in self._hosts:
            host.close()
        _ip("netns", "del", self._switch)
