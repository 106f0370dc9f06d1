"""Contestant: torch.distributed with its backend for CPU tensors, Gloo over TCP on the loopback
interface.

    torch_rank.py ...      (python_serve.py)
"""

from __future__ import annotations

import functools
import os
import sys

import torch
import torch.distributed
from python_serve import Arguments, Buffer, serve


def make(count: int) -> Buffer:
    tensor = torch.empty(count, dtype=torch.float32)
    return Buffer(tensor.numpy(), functools.partial(torch.distributed.all_reduce, tensor))


def main() -> None:
    arguments = Arguments.parse(sys.argv[1:])
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{arguments.scratch}/store",
        rank=arguments.rank,
        world_size=arguments.world_size,
    )
    serve(arguments, f"torch.distributed of PyTorch {torch.__version__}, Gloo over loopback", make)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
