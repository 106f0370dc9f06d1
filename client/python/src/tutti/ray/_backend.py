"""`TuttiGroup`: a group as ray.util.collective wants it (its BaseGroup), over a tutti.Group.

Imported only once ray.util.collective is, which is slow to import.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ray.util.collective.collective_group.base_collective_group import BaseGroup
from ray.util.collective.types import (
    AllGatherOptions,
    AllReduceOptions,
    BarrierOptions,
    BroadcastOptions,
    RecvOptions,
    ReduceOptions,
    ReduceScatterOptions,
    SendOptions,
)

from tutti import collective
from tutti.group import Group

# One, because nothing is ever changed in it.
_BARRIER = BarrierOptions()


class TuttiGroup(BaseGroup):  # type: ignore[misc]
    """What ray.util.collective makes for `backend="TUTTI"`, and `get_group_handle` returns.

    The group is also that of its name in `tutti.collective`, which has the operations that Ray's
    module lacks. Ray makes and destroys groups under a lock of the process, so neither waits for
    other ranks: the first operation does.
    """

    def __init__(self, world_size: int, rank: int, group_name: str) -> None:
        """Asks for the seat. Raises what `tutti.Client.start_join` raises."""
        super().__init__(world_size, rank, group_name)
        self._joining = collective.start(world_size, rank, group_name)

    @classmethod
    def backend(cls) -> str:
        """Its name."""
        return "TUTTI"

    @classmethod
    def check_backend_availability(cls) -> bool:
        """True: a daemon is started where there is none."""
        return True

    @property
    def group(self) -> Group:
        """The group itself, when all ranks have joined. Raises what `tutti.Client.join` raises."""
        return self._joining.group or self._joining.wait()

    def destroy_group(self) -> None:
        """Leaves it; waits for nobody."""
        collective.leave(self._group_name, self._joining)

    # What Ray calls. It wraps a tensor in a list, whose others would be those of other GPUs. Its
    # options are to be read at once: it changes some of them for the next call.

    def allreduce(
        self, tensor: list[Any], allreduce_options: AllReduceOptions = AllReduceOptions
    ) -> None:
        """In place."""
        self.group.allreduce(_only(tensor), allreduce_options.reduceOp)

    def barrier(self, barrier_options: BarrierOptions = _BARRIER) -> None:
        """Returns when all ranks have called it."""
        del barrier_options
        self.group.barrier()

    def reduce(self, tensor: list[Any], reduce_options: ReduceOptions = ReduceOptions) -> None:
        """In place on the root; other ranks' tensors stay."""
        options = reduce_options
        self.group.reduce(_only(tensor), options.root_rank, options.reduceOp)

    def broadcast(
        self, tensor: list[Any], broadcast_options: BroadcastOptions = BroadcastOptions
    ) -> None:
        """In place on all ranks but the root."""
        self.group.broadcast(_only(tensor), broadcast_options.root_rank)

    def allgather(
        self,
        tensor_list: list[list[Any]],
        tensor: list[Any],
        allgather_options: AllGatherOptions = AllGatherOptions,
    ) -> None:
        """Into `tensor_list`."""
        del allgather_options
        self.group.allgather(_only(tensor_list), _only(tensor))

    def reducescatter(
        self,
        tensor: list[Any],
        tensor_list: list[list[Any]],
        reducescatter_options: ReduceScatterOptions = ReduceScatterOptions,
    ) -> None:
        """Into `tensor`; the list stays."""
        op = reducescatter_options.reduceOp
        self.group.reducescatter(_only(tensor), _only(tensor_list), op)

    def send(self, tensor: list[Any], send_options: SendOptions) -> None:
        """To one rank."""
        _check_whole(send_options)
        self.group.send(_only(tensor), send_options.dst_rank)

    def recv(self, tensor: list[Any], recv_options: RecvOptions) -> None:
        """From one rank."""
        _check_whole(recv_options)
        self.group.recv(_only(tensor), recv_options.src_rank)


def _only(tensors: Sequence[Any]) -> Any:
    if len(tensors) != 1:
        raise RuntimeError(
            f"the *_multigpu functions give a rank several tensors ({len(tensors)} here); with "
            "TUTTI each GPU is a rank of its own"
        )
    return tensors[0]


def _check_whole(options: SendOptions | RecvOptions) -> None:
    if options.n_elements:
        raise RuntimeError(
            "TUTTI sends whole tensors; for the first n elements pass a view: tensor[:n]"
        )
