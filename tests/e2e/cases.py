"""One operation as all ranks of a group do it: what they put in, and what has to come out.

    case = make_case("allgather", world=3, dtype="int32")
    run_case(ranks, "group", case, Way(in_place=True))

Inputs and outputs lie between guard bands in one tensor each, outputs are poisoned, and every
element of both tensors is compared: what came out, what must not have been touched, and the rest.
Values are small, so that every type holds every result exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from rank import Rank, ask_all, wait_all

DTYPES = (
    "bool",
    "uint8",
    "int8",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "float16",
    "bfloat16",
    "float32",
    "float64",
)
COUNT = 5
# In front of, between and behind the tensors of a list.
GUARD = (2.0, 0.0, 3.0)

Values = NDArray[np.float64]


def as_stored(values: Values, dtype: str) -> Values:
    """What is left of small numbers in a type."""
    return (values != 0).astype(np.float64) if dtype == "bool" else values


def value(rank: int, slot: int, count: int = COUNT) -> Values:
    """What `rank` has as its input `slot`."""
    return (np.arange(count) + rank + 2 * slot) % 3.0


def reduce(op: str, inputs: Sequence[Values], dtype: str) -> Values:
    stack = np.stack(inputs)
    results: dict[str, Callable[[], Values]] = {
        "sum": lambda: stack.sum(0),
        "product": lambda: stack.prod(0),
        "min": lambda: stack.min(0),
        "max": lambda: stack.max(0),
        "avg": lambda: stack.sum(0) / len(inputs),
    }
    result = results[op]()
    return result if op != "avg" or "float" in dtype else np.trunc(result)


@dataclass
class Part:
    """One rank's part. `shared` maps an output to the input that it may be."""

    command: str  # with {inputs} and {outputs}
    inputs: list[Values] = field(default_factory=list)
    outputs: list[Values] = field(default_factory=list)
    shared: dict[int, int] = field(default_factory=dict)


@dataclass
class Case:
    dtype: str
    parts: list[Part]


@dataclass(frozen=True)
class Way:
    """How the case is run. `memory`: "tensor" or "plain"."""

    in_place: bool = False
    memory: str = "tensor"


WAYS = (Way(), Way(in_place=True), Way(memory="plain"), Way(in_place=True, memory="plain"))


# --- What each operation does ---


def _many(dtype: str, world: int, op: str, lengths: Sequence[int], name: str) -> Case:
    """The same tensors at every rank, each reduced."""
    inputs = [[value(rank, k, n) for k, n in enumerate(lengths)] for rank in range(world)]
    outputs = [
        reduce(op, [as_stored(each[k], dtype) for each in inputs], dtype)
        for k in range(len(lengths))
    ]
    shared = {k: k for k in range(len(lengths))}
    command = f"{name} {{group}} {{inputs}} {{outputs}} {op}"
    return Case(dtype, [Part(command, inputs[rank], outputs, shared) for rank in range(world)])


def allreduce(dtype: str, world: int, op: str = "sum", root: int = 0) -> Case:
    return _many(dtype, world, op, [COUNT], "allreduce_to")


def coalesced(dtype: str, world: int, op: str = "sum", root: int = 0) -> Case:
    return _many(dtype, world, op, [4, 0, 7, 1], "coalesced_to")


def rooted_reduce(dtype: str, world: int, op: str = "sum", root: int = 0) -> Case:
    case = _many(dtype, world, op, [COUNT], "reduce_to")
    for rank, part in enumerate(case.parts):
        part.command = f"reduce_to {{group}} {{inputs}} {{outputs}} {root} {op}"
        if rank != root:
            part.outputs, part.shared = [], {}
    return case


def broadcast(dtype: str, world: int, op: str = "", root: int = 0) -> Case:
    sent = value(root, 0)
    others = Part(f"broadcast {{group}} {{outputs}} {root}", [], [sent])
    at_root = Part(f"broadcast {{group}} {{inputs}} {root}", [sent], [])
    return Case(dtype, [at_root if rank == root else others for rank in range(world)])


def allgather(dtype: str, world: int, op: str = "", root: int = 0) -> Case:
    everything = [value(rank, 0) for rank in range(world)]
    command = "allgather {group} {inputs} {outputs}"
    return Case(
        dtype,
        [Part(command, [value(rank, 0)], everything, {rank: 0}) for rank in range(world)],
    )


def gather(dtype: str, world: int, op: str = "", root: int = 0) -> Case:
    everything = [value(rank, 0) for rank in range(world)]
    command = f"gather {{group}} {{inputs}} {{outputs}} {root}"
    parts = [Part(command, [value(rank, 0)]) for rank in range(world)]
    parts[root] = Part(command, [value(root, 0)], everything, {root: 0})
    return Case(dtype, parts)


def scatter(dtype: str, world: int, op: str = "", root: int = 0) -> Case:
    everything = [value(root, rank) for rank in range(world)]
    command = f"scatter {{group}} {{inputs}} {{outputs}} {root}"
    parts = [Part(command, [], [everything[rank]]) for rank in range(world)]
    parts[root] = Part(command, everything, [everything[root]], {0: root})
    return Case(dtype, parts)


def reduce_scatter(dtype: str, world: int, op: str = "sum", root: int = 0) -> Case:
    inputs = [[value(rank, slot) for slot in range(world)] for rank in range(world)]
    command = f"reduce_scatter {{group}} {{inputs}} {{outputs}} {op}"
    parts = []
    for rank in range(world):
        stored = [as_stored(each[rank], dtype) for each in inputs]
        parts.append(Part(command, inputs[rank], [reduce(op, stored, dtype)], {0: rank}))
    return Case(dtype, parts)


def all_to_all(dtype: str, world: int, op: str = "", root: int = 0) -> Case:
    return exchange(dtype, world, lambda source, target: COUNT)


def all_to_all_uneven(dtype: str, world: int, op: str = "", root: int = 0) -> Case:
    """Other lengths for every pair, some of them zero; in place they have to be symmetric."""
    return exchange(dtype, world, lambda source, target: (source * target + source + target) % 4)


def exchange(dtype: str, world: int, length: Callable[[int, int], int]) -> Case:
    """Rank a has length(a, b) elements for rank b."""
    ranks = range(world)
    sent = [[value(a, b, length(a, b)) for b in ranks] for a in ranks]
    command = "all_to_all {group} {inputs} {outputs}"
    parts = []
    for rank in ranks:
        received = [sent[source][rank] for source in ranks]
        same = {b: b for b in ranks if length(rank, b) == length(b, rank)}
        parts.append(Part(command, sent[rank], received, same))
    return Case(dtype, parts)


def send_recv(dtype: str, world: int, op: str = "", root: int = 0) -> Case:
    """Rank 0 sends to the last rank."""
    sent = value(0, 0)
    source = Part(f"send {{group}} {{inputs}} {world - 1}", [sent])
    target = Part("recv {group} {outputs} 0", [], [sent])
    return Case(dtype, [source, *[Part("") for _ in range(world - 2)], target])


# --- Running it ---


def _layout(parts: Sequence[Values], dtype: str) -> tuple[Values, list[slice]]:
    """All of `parts` in one tensor, between guard bands, and where each of them lies."""
    guard = as_stored(np.array(GUARD), dtype)
    pieces, places, end = [guard], [], len(guard)
    for part in parts:
        places.append(slice(end, end + len(part)))
        pieces += [as_stored(part, dtype), guard]
        end += len(part) + len(guard)
    return np.concatenate(pieces), places


def _poison(right: Values, dtype: str) -> Values:
    """Other values than the right ones."""
    return 1 - right if dtype == "bool" else right + 1


def _write(places: Sequence[tuple[str, slice]]) -> str:
    return ",".join(f"{name}[{at.start}:{at.stop}]" for name, at in places) or "-"


def _joined(values: Values) -> str:
    return ",".join(f"{each:g}" for each in values)


@dataclass
class _Prepared:
    command: str
    # By tensor: what is in it before, and has to be after.
    before: dict[str, Values]
    after: dict[str, Values]


def _prepare(case: Case, part: Part, group: str, in_place: bool) -> _Prepared:
    before_i, places_i = _layout(part.inputs, case.dtype)
    after_o, places_o = _layout(part.outputs, case.dtype)
    before_o, after_i = after_o.copy(), before_i.copy()
    inputs = [("i", at) for at in places_i]
    outputs = [("o", at) for at in places_o]
    for number, at in enumerate(places_o):
        before_o[at] = _poison(after_o[at], case.dtype)
        source = part.shared.get(number) if in_place else None
        if source is not None:
            outputs[number] = inputs[source]
            after_i[places_i[source]] = after_o[at]
            after_o[at] = before_o[at]
    command = part.command.format(group=group, inputs=_write(inputs), outputs=_write(outputs))
    return _Prepared(command, {"i": before_i, "o": before_o}, {"i": after_i, "o": after_o})


def run_case(ranks: Sequence[Rank], group: str, case: Case, way: Way) -> None:
    """Runs it on a group of these ranks, and checks all that they hold then."""
    prepared = [_prepare(case, part, group, way.in_place) for part in case.parts]
    for name in ("i", "o"):
        sizes = [len(each.before[name]) for each in prepared]
        _must(ranks, [f"{way.memory} {name} {case.dtype} {size}" for size in sizes])
        _must(ranks, [f"set {name} {_joined(each.before[name])}" for each in prepared])
    active = [
        (rank, each.command) for rank, each in zip(ranks, prepared, strict=True) if each.command
    ]
    replies = ask_all([rank for rank, _ in active], [command for _, command in active])
    works = [reply["work"] for reply in replies]
    verdicts = wait_all([rank for rank, _ in active], works)
    assert all(verdict.ok for verdict in verdicts), f"{active}: {verdicts}"
    for name in ("i", "o"):
        replies = ask_all(ranks, [f"values {name}"] * len(ranks))
        for number, (reply, each) in enumerate(zip(replies, prepared, strict=True)):
            np.testing.assert_array_equal(
                reply["values"],
                each.after[name],
                err_msg=f"rank {number}, {name}: {each.command} ({case.dtype}, {way})",
            )


def _must(ranks: Sequence[Rank], commands: Sequence[str]) -> None:
    for reply, command in zip(ask_all(ranks, commands), commands, strict=True):
        assert reply["ok"], f"{command}: {reply}"
