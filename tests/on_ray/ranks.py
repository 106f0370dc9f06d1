"""Actors that run what a test tells them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import psutil
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

DEADLINE_S = 90.0


@ray.remote(num_cpus=0)
class Rank:
    """One rank."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """function(actor, *arguments)."""
        return function(self, *arguments)

    def take(self, array: Any, function: Callable[..., Any], *arguments: Any) -> Any:
        """The same with an array as Ray delivers it: read-only."""
        return function(self, array, *arguments)

    def pid(self) -> int:
        """Its process."""
        return os.getpid()


def node_ids() -> list[str]:
    """Of the nodes that live, the head's first. (ray.nodes() has no order.)"""
    nodes = sorted(
        (node for node in ray.nodes() if node["Alive"]),
        key=lambda node: "node:__internal_head__" not in node["Resources"],
    )
    return [node["NodeID"] for node in nodes]


def ranks_on(nodes: list[str]) -> list[Any]:
    """Actors: the i-th is on nodes[i]."""
    return [
        Rank.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote()
        for node in nodes
    ]


def daemons() -> list[psutil.Process]:
    """The daemons of our cluster's nodes."""
    session = ray.get_runtime_context().get_session_name()
    found = []
    for process in psutil.process_iter(["name", "cmdline"]):
        words = process.info["cmdline"] or []  # it may have ended
        if process.info["name"] == "tuttid" and any(session in word for word in words):
            found.append(process)
    return found


def start_all(actors: Sequence[Any], function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Lets each run function(actor, rank, world_size, *arguments)."""
    size = len(actors)
    return [
        actor.call.remote(function, rank, size, *arguments) for rank, actor in enumerate(actors)
    ]


def all_of(actors: Sequence[Any], function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """The same, and returns what they return, by rank."""
    return list(ray.get(start_all(actors, function, *arguments), timeout=DEADLINE_S))


def error_of(ref: Any) -> BaseException:
    """What the task has raised itself."""
    try:
        value = ray.get(ref, timeout=DEADLINE_S)
    except ray.exceptions.RayTaskError as error:
        assert isinstance(error.cause, BaseException)
        return error.cause
    raise AssertionError(f"it has returned {value!r}")
