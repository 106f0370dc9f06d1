"""An allreduce without a collective: what a user of Ray writes with refs and NumPy. `new_sum` is
the shortest. Of the others, which write into the memory that each actor has, the fastest is taken
in each case, by a trial.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ray

Step = Callable[[Sequence[Any], str], None]


def new_sum(actors: Sequence[Any], name: str) -> None:
    """Every actor gets all arrays, and replaces its own by their sum."""
    given = [actor.give.remote(name) for actor in actors]
    ray.get([actor.replace_by_sum.remote(name, given) for actor in actors])


def everyone(actors: Sequence[Any], name: str) -> None:
    """Every actor gets the arrays of all others, and adds them up."""
    given = [actor.give.remote(name) for actor in actors]
    ray.get(
        [
            actor.add.remote(name, given[:rank] + given[rank + 1 :])
            for rank, actor in enumerate(actors)
        ]
    )


def one(actors: Sequence[Any], name: str) -> None:
    """One actor adds up, and the others get the sum."""
    given = [actor.give.remote(name) for actor in actors[1:]]
    total = actors[0].add_and_give.remote(name, given)
    ray.get([actor.take.remote(name, [total]) for actor in actors[1:]])


def parts(actors: Sequence[Any], name: str) -> None:
    """Every actor adds up a part, and gets the other parts."""
    size = len(actors)
    given = [actor.give_parts.options(num_returns=size).remote(name) for actor in actors]
    sums = []
    for rank, actor in enumerate(actors):
        others = [each[rank] for number, each in enumerate(given) if number != rank]
        sums.append(actor.add_part.remote(name, others))
    ray.get([actor.take_parts.remote(name, sums) for actor in actors])


WAYS: dict[str, Step] = {
    "everyone adds up": everyone,
    "one adds up": one,
    "everyone adds up a part": parts,
}
