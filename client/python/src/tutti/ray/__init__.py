"""Tutti in Ray: its backend for `ray.util.collective`, and one daemon per node.

    ray.init(runtime_env={"worker_process_setup_hook": "tutti.ray.register"})

    @ray.remote
    class Actor:
        def __init__(self, rank):
            ray.util.collective.init_collective_group(4, rank, backend="TUTTI")

or, in actors and tasks, `from tutti import collective as col` and nothing else. Either way the
node's daemon is there when it is needed, and ends with Ray.
"""

from __future__ import annotations

from tutti.ray._buffers import Buffer, method
from tutti.ray._cluster import NodeStatus, start
from tutti.ray._declared import DeclaredGroup, create_group, get_group
from tutti.ray._registration import register
from tutti.ray._stated import (
    allgather_refs,
    allreduce_refs,
    alltoall_refs,
    barrier,
    broadcast_refs,
    gather_refs,
    get,
    reduce_refs,
    reducescatter_refs,
    scatter_refs,
    send_ref,
)

__all__ = [
    "Buffer",
    "DeclaredGroup",
    "NodeStatus",
    "allgather_refs",
    "allreduce_refs",
    "alltoall_refs",
    "barrier",
    "broadcast_refs",
    "create_group",
    "gather_refs",
    "get",
    "get_group",
    "method",
    "reduce_refs",
    "reducescatter_refs",
    "register",
    "scatter_refs",
    "send_ref",
    "start",
]
