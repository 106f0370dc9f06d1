"""The benchmark over several nodes: where the ranks are, how fast the network is, which sizes."""

from __future__ import annotations

import dataclasses

from cases import KIB, LARGE, MIB, Case, size_name


@dataclasses.dataclass(frozen=True)
class Layout:
    """So many ranks on each of so many nodes; rank i is on node i // ranks_per_node."""

    nodes: int
    ranks_per_node: int
    # What each node may send. 0: as fast as it can.
    limit_mbit: int = 0

    @property
    def world_size(self) -> int:
        return self.nodes * self.ranks_per_node

    @property
    def section(self) -> str:
        """Names it in the report."""
        return f"{self.nodes} nodes x {self.ranks_per_node} ranks, {self.network}"

    @property
    def network(self) -> str:
        return f"{self.limit_mbit} Mbit/s" if self.limit_mbit else "unlimited"

    def link_ns(self, size_bytes: int) -> float:
        """What an allreduce takes at the least if every node sends at its limit all the time: each
        sends what it has of all parts but one, and its part of the result to all others
        (reduce-scatter and allgather; Patarasuk and Yuan, 2009). REQUIRES: a limit.
        """
        sent_bits = 2 * (self.nodes - 1) / self.nodes * size_bytes * 8
        return sent_bits * 1000 / self.limit_mbit


LIMIT_MBIT = 1000
# For everybody. Others that a machine may be set to, as bbr, pace what they send: on a network that
# is memory that would be most of what is measured. (Linux's default, cubic, does what reno does
# where a round trip takes less than a millisecond; a namespace may not choose it.)
CONGESTION_CONTROL = "reno"
LAYOUTS = tuple(
    Layout(nodes, 2, limit_mbit) for limit_mbit in (0, LIMIT_MBIT) for nodes in (2, 3)
)

SIZES = (KIB, 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB, 4 * MIB, 16 * MIB, LARGE)
# Operations that would need no agreement: one rank has the data, or gets them.
ROOTED = ("broadcast", "reduce")
ROOTED_SIZES = (KIB, MIB, LARGE)


def nodes_cases(layout: Layout, largest: int = LARGE) -> list[Case]:
    """The largest first, as in the other sections. Rooted operations where nothing is limited."""
    of = [("allreduce", SIZES)]
    if not layout.limit_mbit:
        of += [(operation, ROOTED_SIZES) for operation in ROOTED]
    return [
        NodesCase(operation, size, layout.world_size, layout.section)
        for operation, sizes in of
        for size in sorted({min(size, largest) for size in sizes}, reverse=True)
    ]


class NodesCase(Case):
    """A case of one layout; its section is the layout's."""

    def __str__(self) -> str:
        return f"{self.operation} {size_name(self.bytes)}, {self.section}"
