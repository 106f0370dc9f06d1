"""Finds out that ranks of one group wait on different Ray nodes, for each other and in vain.

A daemon knows its own node only, and groups do not span nodes yet; without this the ranks would
wait until their deadline. While a join waits, each node says so in Ray's key-value store, again and
again: what was left by a process that has died does not change.
"""

from __future__ import annotations

import hashlib
import threading
import uuid

import ray
from ray.experimental import internal_kv

from tutti._joining import Joining
from tutti.errors import Cause, InvalidError
from tutti.ray._node import this_node

_EVERY_S = 1.0
# One that has found out goes on to say that it waited, so that the others find out as well.
_ROUNDS_AFTERWARDS = 5


def watch(joining: Joining) -> None:
    """Fails it with InvalidError if ranks wait elsewhere. Returns at once; a thread does the rest,
    if the group is not ready within a second.
    """
    threading.Thread(target=_Watch(joining).run, name="tutti-join", daemon=True).start()


class _Watch:
    """One join that waits."""

    def __init__(self, joining: Joining) -> None:
        self._joining = joining
        scope = f"{joining.client.namespace}\0{joining.name}"
        self._prefix = b"tutti:join:" + hashlib.sha256(scope.encode()).hexdigest().encode() + b":"
        self._own = b""
        self._decided = threading.Event()
        joining.when_decided(self._decided.set)

    def run(self) -> None:
        """On a thread of its own."""
        if self._decided.wait(_EVERY_S):
            return
        self._own = self._prefix + this_node().id.encode()
        before = self._others()
        while not self._decided.wait(_EVERY_S):
            self._tell()
            if self._others() != before:
                self._fail()
                for _ in range(_ROUNDS_AFTERWARDS):
                    threading.Event().wait(_EVERY_S)
                    self._tell()
        internal_kv._internal_kv_del(self._own)

    def _tell(self) -> None:
        if sum(node["Alive"] for node in ray.nodes()) > 1:
            internal_kv._internal_kv_put(self._own, uuid.uuid4().bytes)

    def _others(self) -> dict[bytes, bytes]:
        keys = internal_kv._internal_kv_list(self._prefix)
        return {key: internal_kv._internal_kv_get(key) or b"" for key in keys if key != self._own}

    def _fail(self) -> None:
        keys = (self._own, *self._others())
        nodes = sorted(key.rpartition(b":")[2].decode()[:16] for key in keys)
        self._joining.fail(
            InvalidError(
                f"ranks of group {self._joining.name!r} wait on several Ray nodes "
                f"({', '.join(nodes)}); this version has groups within one node only. Place them "
                "together, as with NodeAffinitySchedulingStrategy or a placement group that is "
                "STRICT_PACK",
                cause=Cause.UNSUPPORTED,
                group=self._joining.name,
            )
        )
