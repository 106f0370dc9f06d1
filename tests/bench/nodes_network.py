"""Several nodes on this machine: hosts in namespaces of their own, each with a daemon."""

from __future__ import annotations

import pathlib
import sys
import tempfile
from contextlib import ExitStack
from types import TracebackType

import programs
from nodes_cases import CONGESTION_CONTROL, Layout

sys.path.append(str(programs.ROOT / "tests" / "harness"))

from authority import make_authority  # noqa: E402
from daemon import DaemonProcess  # noqa: E402
from hosts import Host, Hosts  # noqa: E402

_PORT = 7411


class Network:
    """The hosts of a layout, limited as it says, with a daemon on each: mutual TLS, as for users.

    The programs are $TUTTID and $TUTTI_CLI.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._stack = ExitStack()
        try:
            self.hosts = self._stack.enter_context(Hosts(layout.nodes, CONGESTION_CONTROL))
            if layout.limit_mbit:
                for index in range(layout.nodes):
                    self.hosts[index].limit(layout.limit_mbit)
            self.daemons = self._start()
        except BaseException:
            self._stack.close()
            raise

    def _start(self) -> list[DaemonProcess]:
        folder = pathlib.Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        make_authority(folder, "bench", self.layout.nodes)
        seed = f"{self.hosts[0].address}:{_PORT}"
        daemons = []
        for index in range(self.layout.nodes):
            role = f"--join={seed}" if index else f"--peer_address={seed}"
            settings = (role, f"--peer_tls_dir={folder}/node{index}")
            daemon = DaemonProcess(settings, through=self.hosts[index].enter)
            daemons.append(self._stack.enter_context(daemon))
        return daemons

    def node_of(self, rank: int) -> int:
        """By index."""
        return rank // self.layout.ranks_per_node

    def host_of(self, rank: int) -> Host:
        """Where its process belongs."""
        return self.hosts[self.node_of(rank)]

    def __enter__(self) -> Network:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()
