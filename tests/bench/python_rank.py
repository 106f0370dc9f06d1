"""Contestant: Tutti's Python client, with arrays in an arena or ordinary NumPy arrays, which are
staged.

    python_rank.py arena|numpy ...      (python_serve.py)
"""

from __future__ import annotations

import functools
import sys

import numpy as np
import tutti
from python_serve import Arguments, Buffer, serve


def main() -> None:
    flavour = sys.argv[1]
    arguments = Arguments.parse(sys.argv[2:])
    client = tutti.Client()
    group = client.join(arguments.name, arguments.rank, arguments.world_size)

    def make(count: int) -> Buffer:
        empty = client.empty if flavour == "arena" else np.empty
        array = empty(count, np.float32)
        return Buffer(array, functools.partial(group.allreduce, array))

    serve(arguments, f"Tutti, Python client, {flavour}", make)
    client.close()


if __name__ == "__main__":
    main()
