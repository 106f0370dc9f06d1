"""One rank gives its weights, named tensors of any dtypes, to all others: a trainer to the actors
that generate with them.

They go in buckets, of which one is packed while another is on its way. Ahead of each goes a list of
what is in it, so the receivers need to know nothing beforehand, and the sender's tensors may be
made one by one. A tensor larger than a bucket is one of its own, and is not copied if it lies in an
arena (`tutti.empty`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from tutti import _default, collective
from tutti._form import Form
from tutti.errors import CollectiveError
from tutti.ops import to_int
from tutti.strategies._flat import plain
from tutti.work import Work

BUCKET_BYTES = 32 << 20

_ALIGNMENT = 64

Bytes = npt.NDArray[np.uint8]
Weights = Iterable[tuple[str, Any]]


def send_weights(
    weights: Weights, group_name: str = "default", bucket_bytes: int = BUCKET_BYTES
) -> None:
    """Gives all ranks of the group these tensors, NumPy or PyTorch. The others call
    `receive_weights`.

    Each tensor is read before the next is asked for. Raises CollectiveError; when `weights` itself
    raises, or has something that is no tensor of numbers, the receivers are told.
    """
    sender = _Sender(group_name, to_int(bucket_bytes, "bucket_bytes", 1, 1 << 62))
    for name, form, tensor in _checked(weights, sender):
        sender.add(name, form, tensor)
    sender.end()


def _checked(weights: Weights, sender: _Sender) -> Iterator[tuple[str, Form, Any]]:
    """Tells the receivers what goes wrong here. What goes wrong in the group they know."""
    try:
        for name, tensor in weights:
            yield name, Form.like(tensor), tensor
    except Exception as error:
        sender.end(repr(error))
        raise


def receive_weights(src_rank: int = 0, group_name: str = "default") -> Iterator[tuple[str, Any]]:
    """The names and tensors that `src_rank` sends, in its order, of its kinds.

    A tensor is valid until the next is asked for: copy it, or load it. Raises CollectiveError, also
    half-way. Who stops before the end has to leave the group: the sender's buckets still come.
    """
    buckets = _Buckets()
    contents: dict[str, Any] = {"tensors": [], "last": False}
    bucket = buckets.next(0)
    while not contents["last"]:
        before = contents["tensors"], bucket
        contents, size_bytes = _receive_contents(src_rank, group_name)
        bucket = buckets.next(size_bytes)
        work = collective.broadcast(bucket, src_rank, group_name, async_op=True)
        # While this one is on its way.
        yield from _unpack(*before)
        work.wait()
    if contents["error"]:
        raise CollectiveError(
            f"rank {src_rank} could not make its weights: {contents['error']}",
            group=group_name,
            culprits=(src_rank,),
        )
    yield from _unpack(contents["tensors"], bucket)


def _receive_contents(src_rank: int, group_name: str) -> tuple[dict[str, Any], int]:
    """What is in the next bucket, and how large that is."""
    sizes = np.zeros(2, np.int64)
    collective.broadcast(sizes, src_rank, group_name)
    text = np.zeros(sizes[0], np.uint8)
    collective.broadcast(text, src_rank, group_name)
    return json.loads(text.tobytes()), int(sizes[1])


def _unpack(tensors: list[Any], bucket: Bytes) -> Iterator[tuple[str, Any]]:
    for name, offset, torch, dtype, shape in tensors:
        form = Form(torch, dtype, tuple(shape))
        yield name, form.view(bucket[offset : offset + form.size_bytes])


class _Buckets:
    """Two buffers by turns, which grow as needed."""

    def __init__(self) -> None:
        self._buffers: list[Bytes] = [np.zeros(0, np.uint8)] * 2

    def next(self, size_bytes: int) -> Bytes:
        """The one whose turn it is. The other stays as it is."""
        self._buffers.reverse()
        if len(self._buffers[0]) < size_bytes:
            self._buffers[0] = _default.empty(size_bytes, np.uint8)
        return self._buffers[0][:size_bytes]


class _Sender:
    """Packs a bucket while the one before is on its way."""

    def __init__(self, group_name: str, bucket_bytes: int) -> None:
        self._group = group_name
        self._rank = collective.get_rank(group_name)
        self._bucket_bytes = bucket_bytes
        self._buckets = _Buckets()
        self._bucket = self._buckets.next(bucket_bytes)
        self._filled = 0
        self._tensors: list[Any] = []
        self._sent: list[Work] = []

    def add(self, name: str, form: Form, tensor: Any) -> None:
        """Has read the tensor when it returns."""
        if form.size_bytes > self._bucket_bytes:
            self._send()
            self._send_alone(name, form, tensor)
            return
        if self._filled + form.size_bytes > self._bucket_bytes:
            self._send()
        self._pack(name, form, tensor)

    def end(self, error: str = "") -> None:
        """Returns when all receivers have all."""
        self._broadcast(self._bucket[: self._filled], last=True, error=error)
        self._wait()

    def _send(self) -> None:
        if self._tensors:
            self._broadcast(self._bucket[: self._filled])
            self._bucket = self._buckets.next(self._bucket_bytes)

    def _send_alone(self, name: str, form: Form, tensor: Any) -> None:
        if not _is_bytes(tensor):
            self._wait()  # whose buffer has the turn now
            self._bucket = self._buckets.next(form.size_bytes)
            self._pack(name, form, tensor)
            self._send()
            return
        self._list(name, 0, form)
        self._broadcast(_bytes_of(tensor))
        self._wait()

    def _pack(self, name: str, form: Form, tensor: Any) -> None:
        end = self._filled + form.size_bytes
        form.view(self._bucket[self._filled : end])[...] = plain(tensor)
        self._list(name, self._filled, form)
        self._filled = -(-end // _ALIGNMENT) * _ALIGNMENT

    def _list(self, name: str, offset: int, form: Form) -> None:
        self._tensors.append((name, offset, form.torch, form.dtype, form.shape))

    def _broadcast(self, data: Any, last: bool = False, error: str = "") -> None:
        self._wait()
        contents = {"tensors": self._tensors, "last": last, "error": error}
        text = np.frombuffer(json.dumps(contents).encode(), np.uint8)
        sizes = np.array([len(text), len(data)], np.int64)
        self._sent = [
            collective.broadcast(part, self._rank, self._group, async_op=True)
            for part in (sizes, text, data)
        ]
        self._tensors, self._filled = [], 0

    def _wait(self) -> None:
        sent, self._sent = self._sent, []
        for work in sent:
            work.wait()


def _is_bytes(tensor: Any) -> bool:
    """Can its memory be sent as it is?"""
    if isinstance(tensor, np.ndarray):
        return bool(tensor.flags.c_contiguous)
    return bool(tensor.is_contiguous()) and tensor.device.type == "cpu"


def _bytes_of(tensor: Any) -> Any:
    if isinstance(tensor, np.ndarray):
        return tensor.reshape(-1).view(np.uint8)
    import torch

    return tensor.detach().reshape(-1).view(torch.uint8)
