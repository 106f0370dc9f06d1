"""Random operations on random tensors, for ranks that agree on a seed: every rank takes the same
steps, and checks what it gets against what NumPy says.

What ranks share is drawn from one generator, seeded alike; how a rank holds its tensors (in an
arena, strided, read-only, as a PyTorch tensor...) from another of its own.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

import tutti
from tutti import ReduceOp

Array = Any
_INTEGERS = ("uint8", "int8", "int32", "uint32", "int64", "uint64")
_FLOATS = ("float16", "bfloat16", "float32", "float64")
_SHAPES = ((), (0,), (1,), (7,), (3, 5), (2, 3, 4), (1023,), (40, 1000), (262147,))
_FOLDS = {
    ReduceOp.SUM: np.sum,
    ReduceOp.PRODUCT: np.prod,
    ReduceOp.MIN: np.min,
    ReduceOp.MAX: np.max,
}
_BOOL_FOLDS = {
    ReduceOp.SUM: np.max,
    ReduceOp.PRODUCT: np.min,
    ReduceOp.MIN: np.min,
    ReduceOp.MAX: np.max,
}
_HOLDERS = ("numpy", "arena", "strided", "torch", "readonly")


def values_of(tensor: Array) -> Array:
    """As float64, which holds every value used here."""
    if isinstance(tensor, torch.Tensor):
        tensor = tensor.float() if tensor.dtype is torch.bfloat16 else tensor
    return np.asarray(tensor).astype(np.float64)


def make(rank: int, salt: int, dtype: str, shape: Sequence[int]) -> Array:
    """Small integers, so that no type rounds, that differ by rank, element and salt."""
    count = int(np.prod(shape))
    values = ((np.arange(count) * 7 + 3 * rank + salt) % 5).reshape(shape)
    if dtype == "bfloat16":
        return torch.from_numpy(values.astype(np.float32)).bfloat16()
    return values.astype(dtype)


class Steps:
    """One rank's walk. Raises AssertionError, naming the step, if a result is wrong."""

    def __init__(self, group: tutti.Group, seed: int) -> None:
        self.group = group
        self.shared = random.Random(seed)
        self.own = random.Random(seed * 1000 + group.rank)
        self.step = 0
        self.kinds: list[Callable[[], None]] = [
            self.allreduce, self.coalesced, self.reduce, self.broadcast, self.allgather,
            self.gather, self.scatter, self.reducescatter, self.alltoall, self.alltoall_single,
            self.pairs, self.barrier, self.agree,
        ]  # fmt: skip

    def take(self, steps: int) -> None:
        for self.step in range(steps):
            kind = self.shared.choice(self.kinds)
            self.dtype = self.shared.choice((*_INTEGERS, *_FLOATS, "bool"))
            self.shape = self.shared.choice(_SHAPES)
            self.root = self.shared.randrange(self.group.world_size)
            folds = _BOOL_FOLDS if self.dtype == "bool" else _FOLDS
            # Products of small types overflow, which is tested elsewhere.
            narrow = self.dtype in ("int8", "uint8", "float16", "bfloat16")
            self.op = self.shared.choice(
                [op for op in folds if op is not ReduceOp.PRODUCT or not narrow]
            )
            self.fold = folds[self.op]
            kind()
        # Who has done leaves, which closes the group: the others are still at their pairs.
        self.group.barrier()

    # --- Tensors ---

    @property
    def ranks(self) -> range:
        return range(self.group.world_size)

    def expected(self, rank: int, salt: int = 0) -> Array:
        return values_of(make(rank, self.step + salt, self.dtype, self.shape))

    def reduced(self, salt: int = 0) -> Array:
        return np.asarray(self.fold(np.stack([self.expected(r, salt) for r in self.ranks]), axis=0))

    def hold(self, tensor: Array) -> Array:
        """The same elements, held in one of the ways that users hold them."""
        how = self.own.choice(_HOLDERS)
        if isinstance(tensor, torch.Tensor):
            transposed = how == "strided" and tensor.dim() == 2
            return tensor.T.contiguous().T if transposed else tensor.clone()
        if how == "arena":
            return self.group.client.from_numpy(tensor)
        if how == "strided":
            wide = np.zeros((*tensor.shape, 2), tensor.dtype)
            wide[..., 0] = tensor
            return wide[..., 0]
        if how == "torch":
            return torch.from_numpy(tensor.copy())
        copy = tensor.copy()
        copy.flags.writeable = how != "readonly"
        return copy

    def mine(self, salt: int = 0) -> Array:
        return self.hold(make(self.group.rank, self.step + salt, self.dtype, self.shape))

    def blank(self) -> Array:
        tensor = make(0, 0, self.dtype, self.shape)
        zeros = torch.zeros_like if isinstance(tensor, torch.Tensor) else np.zeros_like
        return self.hold(zeros(tensor))

    def check(self, tensor: Array, want: Array) -> None:
        got = values_of(tensor)
        where = f"step {self.step}, rank {self.group.rank}, {self.op}, {self.dtype} {self.shape}"
        assert got.shape == want.shape, where
        np.testing.assert_array_equal(got, want, err_msg=where)

    # --- One of each ---

    def allreduce(self) -> None:
        tensor = self.mine()
        self.group.allreduce(tensor, self.op, async_op=self.own.random() < 0.3).wait()
        self.check(tensor, self.reduced())

    def coalesced(self) -> None:
        tensors = [self.mine(salt) for salt in range(self.shared.randrange(1, 6))]
        self.group.allreduce_coalesced(tensors, self.op)
        for salt, tensor in enumerate(tensors):
            self.check(tensor, self.reduced(salt))

    def reduce(self) -> None:
        tensor = self.mine()
        self.group.reduce(tensor, self.root, self.op)
        is_root = self.group.rank == self.root
        self.check(tensor, self.reduced() if is_root else self.expected(self.group.rank))

    def broadcast(self) -> None:
        tensor = self.mine()
        self.group.broadcast(tensor, self.root)
        self.check(tensor, self.expected(self.root))

    def _outputs(self, own: Array) -> Array:
        """A list for what all ranks give: of tensors, of one tensor, or with this rank's own."""
        form = self.own.choice(("list", "stacked", "in place"))
        if form == "stacked" and self.dtype != "bfloat16":
            return np.zeros((self.group.world_size, *self.shape), self.dtype)
        tensors = [self.blank() for _ in self.ranks]
        if form == "in place":
            tensors[self.group.rank] = own
        return tensors

    def allgather(self) -> None:
        tensor = self.mine()
        outputs = self._outputs(tensor)
        self.group.allgather(outputs, tensor)
        for rank in self.ranks:
            self.check(outputs[rank], self.expected(rank))

    def gather(self) -> None:
        tensor = self.mine()
        outputs = self._outputs(tensor) if self.group.rank == self.root else None
        self.group.gather(tensor, outputs, self.root)
        for rank in self.ranks if outputs is not None else ():
            self.check(outputs[rank], self.expected(rank))

    def scatter(self) -> None:
        is_root = self.group.rank == self.root
        inputs = [self.mine(rank) for rank in self.ranks] if is_root else None
        in_place = inputs is not None and self.own.random() < 0.3
        tensor = inputs[self.root] if in_place and inputs else self.blank()
        self.group.scatter(tensor, inputs, self.root)
        self.check(tensor, self.expected(self.root, self.group.rank))

    def reducescatter(self) -> None:
        inputs = [self.mine(rank) for rank in self.ranks]
        tensor = inputs[self.group.rank] if self.own.random() < 0.3 else self.blank()
        self.group.reducescatter(tensor, inputs, self.op)
        self.check(tensor, self.reduced(self.group.rank))
        for rank in self.ranks:
            if inputs[rank] is not tensor:
                self.check(inputs[rank], self.expected(self.group.rank, rank))

    def alltoall(self) -> None:
        inputs = [self.mine(10 * rank) for rank in self.ranks]
        outputs = inputs if self.own.random() < 0.3 else [self.blank() for _ in self.ranks]
        self.group.alltoall(outputs, inputs)
        for rank in self.ranks:
            self.check(outputs[rank], self.expected(rank, 10 * self.group.rank))

    def alltoall_single(self) -> None:
        me = self.group.rank
        splits = [[self.shared.choice((0, 1, 3, 1000)) for _ in self.ranks] for _ in self.ranks]
        tail = self.shared.choice(((), (3,)))
        full = [make(r, self.step, self.dtype, (sum(splits[r]), *tail)) for r in self.ranks]
        taken = [splits[rank][me] for rank in self.ranks]
        output = self.hold(make(0, 0, self.dtype, (sum(taken), *tail)))
        self.group.alltoall_single(output, self.hold(full[me]), taken, splits[me])
        parts = [
            values_of(full[r])[sum(splits[r][:me]) : sum(splits[r][: me + 1])] for r in self.ranks
        ]
        self.check(output, np.concatenate(parts))

    def pairs(self) -> None:
        others = [rank for rank in self.ranks if rank != self.group.rank]
        sends = [self.group.send(self.mine(rank), rank, async_op=True) for rank in others]
        self.own.shuffle(others)
        for rank in others:
            tensor = self.blank()
            self.group.recv(tensor, rank)
            self.check(tensor, self.expected(rank, self.group.rank))
        for send in sends:
            send.wait()

    def barrier(self) -> None:
        self.group.barrier()

    def agree(self) -> None:
        flags = [self.shared.random() < 0.8 for _ in self.ranks]
        assert self.group.agree(flags[self.group.rank]) == all(flags)
