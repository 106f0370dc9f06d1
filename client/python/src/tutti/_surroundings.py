"""Which daemon, and which namespace, a client takes if nobody has named one.

Inside Ray they are the node's own daemon, which is started if there is none yet, and the job's
namespace: see tutti.ray. Ray is not imported for that: who is inside has done so.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tutti import _paths
from tutti.errors import NodeLostError

if TYPE_CHECKING:
    from tutti.client import Client
    from tutti._joining import Joining

T = TypeVar("T")


def connect(socket_dir: str | os.PathLike[str] | None, connect_to: Callable[[Path], T]) -> T:
    """Calls `connect_to` with a directory: the argument, $TUTTI_SOCKET_DIR, Ray's or the default.

    Raises what that raises, and NodeLostError if Ray's daemon can't be started.
    """
    if socket_dir or os.environ.get("TUTTI_SOCKET_DIR") or not _is_in_ray():
        return connect_to(_paths.resolve_socket_dir(socket_dir))
    from tutti.ray import _daemon, _node

    directory = _node.this_node().socket_dir
    try:
        return connect_to(directory)
    except NodeLostError:
        _daemon.start()
        return connect_to(directory)


def namespace() -> str:
    """$TUTTI_NAMESPACE, that of Ray's job, or "default"."""
    named = os.environ.get("TUTTI_NAMESPACE")
    if named or not _is_in_ray():
        return named or "default"
    from tutti.ray import _node

    return _node.namespace()


def have_changed(client: Client) -> bool:
    """Whether a new client would take another namespace than this one: of another job of Ray."""
    if not _is_in_ray():
        return False
    from tutti.ray import _node

    # Workers are of one job for ever, and allocate often: it takes 7 us to ask Ray.
    return _node.raylet_pid() is None and client.namespace != namespace()


def task() -> str | None:
    """The task of Ray that runs here; None in an actor, in a driver, and outside of Ray."""
    if not _is_in_ray():
        return None
    import ray

    context = ray.get_runtime_context()
    return None if context.get_actor_id() else context.get_task_id()


def watch(joining: Joining) -> None:
    """Sees to it that a join that waits for long does not wait for a daemon that has died."""
    if joining.world_size > 1 and not os.environ.get("TUTTI_SOCKET_DIR") and _is_in_ray():
        from tutti.ray import _daemon

        _daemon.watch(joining)


def declares(group_name: str) -> bool:
    """Whether a driver has put this actor of Ray into that group, which exists from now on."""
    if not _is_in_ray():
        return False
    from tutti.ray import _registration

    return _registration.join_declared(group_name)


def _is_in_ray() -> bool:
    ray = sys.modules.get("ray")
    # Somebody else's module may have that name, and half of Ray may have been imported.
    is_initialized = getattr(ray, "is_initialized", None)
    return is_initialized is not None and bool(is_initialized())
