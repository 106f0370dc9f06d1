"""`start`: one daemon on each node of the cluster, before anybody needs it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tutti.errors import CollectiveError, NodeLostError
from tutti.ray import _daemon, _node
from tutti.ray._errors import original
from tutti.ray._registration import register


@dataclass(frozen=True)
class NodeStatus:
    """A Ray node's daemon."""

    node_id: str
    address: str
    socket_dir: str
    # False: it had one already.
    started: bool


def start(settings: Mapping[str, str] | None = None) -> list[NodeStatus]:
    """Brings up one daemon on each node of the Ray cluster, and calls `register`.

    Not needed: the first use on a node starts the node's daemon as well, and so do nodes that join
    later. But it tells at once what is wrong on which node, and nobody waits for it later.
    `settings` are tuttid's flags, as {"arena_bytes_max": "8GiB"}; a daemon that runs keeps its own.

    A daemon belongs to its raylet: it survives drivers, actors and jobs, ends with the raylet, and
    has its environment, so it sees all GPUs of the node. Where $TUTTI_SOCKET_DIR is set for the
    raylet, the daemon that serves there is used instead (a sidecar, a systemd unit).

    Raises NodeLostError, naming the nodes where it failed, and why.
    """
    register()
    nodes = [node for node in ray.nodes() if node["Alive"]]
    waiting = [_start_on.options(scheduling_strategy=_only_on(n)).remote(settings) for n in nodes]
    found, failed = [], []
    for node, reference in zip(nodes, waiting):
        where = f"{node['NodeID'][:16]} ({node['NodeManagerAddress']})"
        try:
            socket_dir, started = ray.get(reference)
            found.append(
                NodeStatus(node["NodeID"], node["NodeManagerAddress"], socket_dir, started)
            )
        except (CollectiveError, ray.exceptions.RayError) as error:
            failed.append(f"{where}: {original(error)}")
    if failed:
        raise NodeLostError("\n".join(["not all Ray nodes have a daemon", *failed]))
    return found


def _only_on(node: Mapping[str, Any]) -> NodeAffinitySchedulingStrategy:
    return NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)


def _start_here(settings: Mapping[str, str] | None) -> tuple[str, bool]:
    named = os.environ.get("TUTTI_SOCKET_DIR")
    if named:
        if not _daemon.answers(Path(named)):
            raise NodeLostError(f"$TUTTI_SOCKET_DIR is {named}, and no daemon serves there")
        return named, False
    started = _daemon.start(settings)
    return os.fspath(_node.this_node().socket_dir), started


_start_on = ray.remote(num_cpus=0)(_start_here)
