"""Finds out that ranks of one group wait at different daemons, for each other and in vain.

A daemon knows its own node only, and groups do not span nodes yet; without this the ranks would
wait until their deadline. While a join waits, it says so in Ray's key-value store, again and again:
what was left by a process that has died does not change. Who sees another that waits elsewhere
fails, and leaves a note for it, so that it fails as well.
"""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Sequence

import ray
from ray.experimental import internal_kv

from tutti._joining import Joining
from tutti.ray._errors import several_nodes
from tutti.ray._node import key_of, this_node

_EVERY_S = 1.0
# For so many rounds a note is left to be found.
_NOTE_ROUNDS = 10


def watch(joining: Joining) -> None:
    """Fails it with InvalidError if ranks wait elsewhere. Returns at once; a thread does the rest,
    if the group is not ready within a second.
    """
    threading.Thread(target=_Watch(joining).run, name="tutti-join", daemon=True).start()


class _Watch:
    """One join that waits. Its key is PREFIX:daemon:node:attempt, the value changes."""

    def __init__(self, joining: Joining) -> None:
        self._joining = joining
        self._prefix = key_of("join", joining.client.namespace, joining.name)
        self._daemon = joining.client.daemon.encode()
        self._own = b""
        self._decided = threading.Event()
        joining.when_decided(self._decided.set)

    def run(self) -> None:
        """On a thread of its own."""
        with contextlib.suppress(Exception):  # this process may leave Ray meanwhile
            self._run()

    def _run(self) -> None:
        if self._decided.wait(_EVERY_S):
            return
        node, attempt = this_node().id.encode(), uuid.uuid4().hex.encode()
        self._own = b":".join((self._prefix, self._daemon, node, attempt))
        before = self._others()
        waiting: list[bytes] = []
        while not waiting and not self._decided.wait(_EVERY_S):
            self._tell()
            # Who is new there, or has said so again.
            others = self._others()
            waiting = [key for key, value in others.items() if before.get(key) != value]
            note = internal_kv._internal_kv_get(_note_for(self._own))
            if waiting or note:
                self._fail([self._own, *waiting, *([note] if note else [])])
        internal_kv._internal_kv_del(self._own)
        if waiting:
            self._leave_notes(waiting)

    def _tell(self) -> None:
        if sum(node["Alive"] for node in ray.nodes()) > 1:
            internal_kv._internal_kv_put(self._own, uuid.uuid4().bytes)

    def _others(self) -> dict[bytes, bytes]:
        """At other daemons."""
        here = b":".join((self._prefix, self._daemon, b""))
        keys = internal_kv._internal_kv_list(self._prefix + b":")
        elsewhere = [key for key in keys if not key.startswith(here)]
        return {key: internal_kv._internal_kv_get(key) or b"" for key in elsewhere}

    def _leave_notes(self, waiting: Sequence[bytes]) -> None:
        for key in waiting:
            internal_kv._internal_kv_put(_note_for(key), self._own)
        threading.Event().wait(_NOTE_ROUNDS * _EVERY_S)
        for key in waiting:
            internal_kv._internal_kv_del(_note_for(key))

    def _fail(self, keys: Sequence[bytes]) -> None:
        nodes = sorted({key.split(b":")[-2].decode()[:16] for key in keys})
        name = self._joining.name
        what = f"ranks of group {name!r} wait on several Ray nodes ({', '.join(nodes)})"
        self._joining.fail(several_nodes(what, name))


def _note_for(key: bytes) -> bytes:
    return b"tutti:refused:" + key
