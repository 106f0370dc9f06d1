"""What the ranks tell each other before an operation that the driver has stated.

The driver knows no shapes, and an actor may have failed to make its tensor. So all ranks exchange
headers: then those that have nothing yet can allocate, and if one failed, no one waits for it.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tutti._form import Form
from tutti.errors import CollectiveError, InvalidError
from tutti.group import Group
from tutti.ray._buffers import is_list, tensors_of
from tutti.ray._errors import original

# Room for 64 dimensions, and for an error of which JSON has to write each byte as six.
_BYTES = 4096
_ERROR_BYTES = 300


@dataclass(frozen=True)
class Header(Form):
    """What one rank has: the form of a tensor, or nothing; or why it has failed."""

    error: str = ""

    @property
    def row(self) -> Header:
        """Of one part, if this is a list in one tensor: its first dimension counts the parts."""
        return dataclasses.replace(self, shape=self.shape[1:])

    @staticmethod
    def of(value: Any) -> Header:
        """Of the first, if it is a list: those of a list are alike."""
        if value is None:
            return Header()
        return Header(**vars(Form.like(tensors_of(value)[0])))


def exchange(group: Group, header: Header) -> dict[int, Header]:
    """All ranks' headers. Raises InvalidError, naming the ranks that have failed."""
    all_ranks = np.zeros((group.world_size, _BYTES), np.uint8)
    group.allgather(all_ranks, _bytes_of(header))
    return _check(group, {rank: _parse(row) for rank, row in enumerate(all_ranks)})


def send(group: Group, header: Header, dst_rank: int) -> None:
    """To one other rank."""
    group.send(_bytes_of(header), dst_rank)


def recv(group: Group, src_rank: int) -> Header:
    """From one other rank. Raises InvalidError if that has failed."""
    row = np.zeros(_BYTES, np.uint8)
    group.recv(row, src_rank)
    return _check(group, {src_rank: _parse(row)})[src_rank]


def _check(group: Group, headers: dict[int, Header]) -> dict[int, Header]:
    failed = {rank: header.error for rank, header in headers.items() if header.error}
    if failed:
        raise InvalidError(
            "; ".join(f"rank {rank}: {error}" for rank, error in failed.items()),
            group=group.name,
            epoch=group.epoch,
            culprits=failed,
        )
    return headers


def _bytes_of(header: Header) -> npt.NDArray[np.uint8]:
    row = np.zeros(_BYTES, np.uint8)
    text = json.dumps(vars(header), ensure_ascii=False).encode()
    row[: len(text)] = np.frombuffer(text, np.uint8)
    return row


def _parse(row: Any) -> Header:
    fields = json.loads(row.tobytes().rstrip(b"\0"))
    return Header(**{**fields, "shape": tuple(fields["shape"])})


def failure(error: BaseException) -> Header:
    """What to tell of an error. The rank itself raises it."""
    cause = original(error)
    try:
        text = str(cause) if isinstance(cause, CollectiveError) else repr(cause)
    except Exception:  # users' exceptions may do anything
        text = type(cause).__name__
    lines = [*text.split("\n"), type(cause).__name__]
    first = next(line for line in lines if line.strip()).encode(errors="replace")
    return Header(error=first[:_ERROR_BYTES].decode(errors="ignore"))
