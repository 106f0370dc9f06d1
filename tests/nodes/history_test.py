"""Random faults between random operations: what all ranks were told is recorded, and checked."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
from conftest import Nodes
from history import Fault, Told, read, violations, write
from rank import Rank, join_all, must_all, submit_all

GROUP = "dp"
NODES = 3
QUICK = ("--peer_keepalive_ms=300ms", "--peer_timeout_ms=700ms", "--work_timeout_ms=10s")
EPOCHS = 6
WORKS = 12


@dataclass
class Recorder:
    """One run: a group that forms again after each fault."""

    nodes: Nodes
    random: random.Random
    told: list[Told] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    def run(self, epochs: int) -> None:
        for _ in range(epochs):
            # The coordinator is on node 0; it is never the one that is cut off.
            where = [0, *(self.random.randrange(NODES) for _ in range(4))]
            ranks = self.nodes.new_ranks(where)
            epoch = join_all(ranks, GROUP)
            for work in range(2 * WORKS):  # of their own: works that are under way may not overlap
                must_all(ranks, f"tensor t{work} float32 1000")
            before = self._submit(ranks, self.random.randrange(WORKS), 0)
            heal = self._break(epoch, ranks, where)
            # Whoever is left works on, and is told.
            left = [rank for rank in ranks if rank.pidfd >= 0]
            after = self._submit(left, WORKS, WORKS)
            for rank in left:
                number = ranks.index(rank)
                for place, work in enumerate([*before[number], *after[left.index(rank)]], 1):
                    verdict = rank.wait(work)
                    self.told.append(
                        Told(epoch, place, number, where[number], verdict.ok, verdict.cause,
                             verdict.message)
                    )
            heal()
            for rank in left:
                rank.close()

    def _submit(self, ranks: Sequence[Rank], count: int, tensor: int) -> list[list[int]]:
        """By rank, the numbers of its works, on tensors from that one on."""
        works: list[list[int]] = [[] for _ in ranks]
        for number in range(tensor, tensor + count):
            command = self.random.choice([f"barrier {GROUP}", f"allreduce {GROUP} t{number} sum"])
            for n, work in enumerate(submit_all(ranks, command)):
                works[n].append(work)
        return works

    def _break(self, epoch: int, ranks: list[Rank], where: list[int]) -> Callable[[], None]:
        """One fault; returns what heals it."""
        kind = self.random.choice(["kill a rank", "stop", "cut", "cut out", "cut in"])
        node = self.random.randrange(1, NODES)
        print(f"epoch {epoch}: {kind}, node {node}, ranks on {where}")
        if kind == "kill a rank":
            victim = self.random.choice(ranks)
            victim.kill()
            victim.close()
            self.faults.append(Fault(epoch))
            return lambda: None
        self.faults.append(Fault(epoch, cut_off=(node,)))
        if kind == "stop":
            daemon = self.nodes.nodes[node].daemon
            daemon.send_signal(signal.SIGSTOP)
            # Its ranks are told when it goes on.
            for rank, at in zip(ranks, where, strict=True):
                if at == node:
                    rank.kill()
                    rank.close()
            return lambda: daemon.send_signal(signal.SIGCONT)
        hosts = self.nodes.hosts
        cuts = {"cut": [(0, node), (node, 0)], "cut out": [(0, node)], "cut in": [(node, 0)]}[kind]
        for a, b in cuts:
            hosts[a].cut(hosts[b])

        def heal() -> None:
            for a, b in cuts:
                hosts[a].heal(hosts[b])

        return heal


def test_what_is_told_is_what_is_promised(new_nodes: Callable[..., Nodes]) -> None:
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")  # pytest shows it, and the history, if the test fails
    recorder = Recorder(new_nodes(NODES, *QUICK), random.Random(seed))
    recorder.run(EPOCHS)
    text = write(recorder.told, recorder.faults)
    print(text)
    assert read(text) == (recorder.told, recorder.faults)
    assert not violations(recorder.told, recorder.faults)
    assert any(not each.ok for each in recorder.told)


def test_a_split_verdict_is_found(new_nodes: Callable[..., Nodes]) -> None:
    """One of two ranks of a node is told that all is well."""
    nodes = new_nodes(2)
    where = [0, 1, 1, 0]
    ranks = nodes.new_ranks(where)
    epoch = join_all(ranks, GROUP)
    works = submit_all(ranks[:3], f"barrier {GROUP}")
    with nodes.nodes[1].admin.mutated("complete.split_verdict", 2):
        ranks[3].kill()
        told = []
        for n, work in enumerate(works):
            verdict = ranks[n].wait(work)
            told.append(Told(epoch, 1, n, where[n], verdict.ok, verdict.cause, verdict.message))
    assert [each[:3] for each in violations(told, [Fault(epoch)])] == ["(a)"]


_LOST = "node b with rank 1 was lost: silent; join the group again to go on"
_REACH = "node a with rank 0 can't be reached: silent; join the group again to go on"


def _told(rank: int, node: int, message: str = "", cause: str = "NODE_LOST") -> Told:
    return Told(1, 3, rank, node, not message, cause if message else "", message)


@pytest.mark.parametrize(
    ("told", "finds"),
    [
        ([_told(0, 0, _LOST), _told(2, 2, _LOST), _told(1, 1, _REACH)], []),
        # Done on one node, and failed on another: nothing says that it was complete.
        ([_told(0, 0), _told(2, 2, _LOST)], []),
        ([_told(0, 0, _LOST), _told(2, 2, "another", cause="RANK_DIED")], ["(b)"]),
        ([_told(0, 0, _LOST), _told(2, 0)], ["(a)"]),
        ([_told(0, 0, f"{_LOST}; collectives up to #3 are complete on all nodes")], ["(b)"]),
        ([_told(0, 0, f"{_LOST}; collectives up to #2 are complete on all nodes")], []),
        ([_told(0, 0, _LOST), _told(1, 1, "the backend has failed", cause="BACKEND")], ["(c)"]),
    ],
)
def test_the_checker(told: list[Told], finds: list[str]) -> None:
    assert [each[:3] for each in violations(told, [Fault(1, cut_off=(1,))])] == finds
