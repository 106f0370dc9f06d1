"""How the daemons of a Ray cluster find each other: the one of the head node introduces them.

Its address is kept in Ray's key-value store, and it takes the same one again if it is started once
more, for the others know it. It lives as long as the cluster: Ray does not survive its head either.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import ray
from ray.experimental import internal_kv

from tutti._joining import Joining
from tutti.errors import CollectiveError, NodeLostError
from tutti.ray._errors import original
from tutti.ray._node import Node

_KEY = b"tutti:seed"
_HEAD = "node:__internal_head__"
# After that a join that waits looks after the head's daemon, and again and again.
_PATIENCE_S = 1.0
_EVERY_S = 10.0
# A daemon knows that it is the seed some milliseconds after it is ready.
_STATUS_TIMEOUT_S = 10.0
_LOOK_EVERY_S = 0.02

# Starts the daemon of the node with that id, if there is none.
StartOn = Callable[[str], Any]


def role(node_id: str, start_on: StartOn) -> dict[str, str]:
    """The settings of a node's daemon by which it finds the others, or is found.

    Raises NodeLostError if the head's daemon, which has to be there before, can't be started.
    """
    nodes = _nodes()
    head = _head_of(nodes)
    if head is None or node_id not in nodes:
        raise NodeLostError("Ray's head node is lost, or this one is held for lost")
    if node_id == head:
        return {"peer_address": _address() or f"{_host(nodes[head])}:0"}
    if not _address():
        _start_head(head, start_on)
    found = _address()
    if not found:
        raise NodeLostError(
            "the daemon of Ray's head node was started by hand, and is in no cluster: start those "
            "of the other nodes by hand as well, with --join, and set $TUTTI_SOCKET_DIR there too"
        )
    return {"join": found}


def publish(node: Node, find_tool: Callable[[], str]) -> None:
    """Lets others know where the daemon of this node is, if it is the head's, and they don't."""
    if _address() or _head_of(_nodes()) != node.id:
        return
    command = [find_tool(), "status", "-o", "json"]
    environment = {**os.environ, "TUTTI_SOCKET_DIR": os.fspath(node.socket_dir)}
    give_up = time.monotonic() + _STATUS_TIMEOUT_S
    while time.monotonic() < give_up:
        said = subprocess.run(command, env=environment, capture_output=True, check=False).stdout
        membership = json.loads(said or b"{}").get("membership")
        if membership is None and said:
            return  # it was told to be in no cluster
        if membership and membership["connected"]:
            address = membership["seed"]["address"].encode()
            internal_kv._internal_kv_put(_KEY, address, overwrite=True)
            return
        threading.Event().wait(_LOOK_EVERY_S)


def _address() -> str:
    """Where the head's daemon is to be found; empty if it never was started."""
    return (internal_kv._internal_kv_get(_KEY) or b"").decode()


def _nodes() -> dict[str, Mapping[str, Any]]:
    """Those that live, by id."""
    return {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}


def _head_of(nodes: Mapping[str, Mapping[str, Any]]) -> str | None:
    return next((each for each, node in nodes.items() if _HEAD in node["Resources"]), None)


def _host(node: Mapping[str, Any]) -> str:
    host = str(node["NodeManagerAddress"])
    return f"[{host}]" if ":" in host else host


def _start_head(head: str, start_on: StartOn) -> None:
    try:
        ray.get(start_on(head))
    except (CollectiveError, ray.exceptions.RayError) as error:
        raise NodeLostError(
            "the daemon of Ray's head node, which introduces the others to each other, can't be "
            f"started: {original(error)}"
        ) from error


def watch(joining: Joining, start_on: StartOn) -> None:
    """While the join waits, starts the head's daemon once more if it has died. Returns at once: a
    thread does that, if the group is not ready within a second.
    """
    decided = threading.Event()
    joining.when_decided(decided.set)
    threading.Thread(
        target=_watch, args=(decided, start_on), name="tutti-join", daemon=True
    ).start()


def _watch(decided: threading.Event, start_on: StartOn) -> None:
    patience_s = _PATIENCE_S
    while not decided.wait(patience_s):
        patience_s = _EVERY_S
        # This process may leave Ray meanwhile, which Ray answers with SystemExit.
        with contextlib.suppress(Exception, SystemExit):
            nodes = _nodes()
            head = _head_of(nodes)
            if head is not None and len(nodes) > 1:
                ray.get(start_on(head))
