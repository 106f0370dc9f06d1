"""The seed is elected in etcd: a cluster survives the loss of any node, and of etcd for a while."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from typing import Any

import cli
import etcd
import pytest
from conftest import PORT, Nodes
from etcd import Etcd
from failure_test import QUICK, works_again
from rank import join_all, run_all
from waiting import wait_until

# A claim lapses within 5 s, and whoever is elected then is known within another.
ELECTED_WITHIN_S = 30.0


@pytest.fixture
def nodes(new_nodes: Callable[..., Nodes]) -> Iterator[Nodes]:
    if reason := etcd.why_not():
        pytest.skip(reason)
    yield new_nodes(3, *QUICK, elect=True)


def etcd_of(nodes: Nodes) -> Etcd:
    assert nodes.etcd is not None
    return nodes.etcd


def seed_in_etcd(nodes: Nodes) -> int | None:
    """The index of the node that has the claim."""
    claim = etcd_of(nodes).get("/tutti/seed")
    if not claim:
        return None
    addresses = [f"{nodes.hosts[index].address}:{PORT}" for index in range(len(nodes.nodes))]
    return addresses.index(json.loads(claim)["address"])


def membership(nodes: Nodes, index: int) -> Any:
    return cli.tutti(nodes.nodes[index].socket_dir, "status", "-o", "json").json()["membership"]


def await_seed(nodes: Nodes, among: set[int]) -> int:
    """Blocks until all of these nodes know that one of them is the seed."""

    def agreed() -> int | None:
        seed = seed_in_etcd(nodes)
        if seed not in among:
            return None
        address = f"{nodes.hosts[seed].address}:{PORT}"
        said = [membership(nodes, index) for index in among]
        good = all(each["connected"] and each["seed"]["address"] == address for each in said)
        return seed + 1 if good else None

    number = wait_until(agreed, "a seed that all know", ELECTED_WITHIN_S)
    assert number is not None
    return number - 1


def test_one_of_the_daemons_is_elected_and_groups_form(nodes: Nodes) -> None:
    seed = await_seed(nodes, {0, 1, 2})
    works_again(nodes.new_ranks([0, 1, 2, 0]))
    assert membership(nodes, seed)["join"] == f"etcd {etcd_of(nodes).address}"
    cluster = cli.tutti(nodes.nodes[(seed + 1) % 3].socket_dir, "status", "--cluster").out
    assert "3 nodes" in cluster, cluster


def test_a_killed_seed_is_replaced_and_harms_no_group_of_others(nodes: Nodes) -> None:
    seed = await_seed(nodes, {0, 1, 2})
    others = [index for index in range(3) if index != seed]
    ranks = nodes.new_ranks(others)
    join_all(ranks, "live")
    nodes.nodes[seed].may_end = True
    nodes.nodes[seed].daemon.kill()
    assert all(verdict.ok for verdict in run_all(ranks, "barrier live"))
    # It waits for the next seed.
    works_again(ranks, "new")
    assert seed_in_etcd(nodes) in others
    assert all(verdict.ok for verdict in run_all(ranks, "barrier live"))
    # The next one has been told that the name is in use.
    refused = nodes.new_ranks([others[0]])[0].ask("join live 0 1 20000")
    assert refused["cause"] == "SEAT_TAKEN", refused


def test_a_stopped_seed_is_replaced_and_knows_it_when_it_goes_on(nodes: Nodes) -> None:
    seed = await_seed(nodes, {0, 1, 2})
    others = {0, 1, 2} - {seed}
    nodes.nodes[seed].daemon.send_signal(signal.SIGSTOP)
    await_seed(nodes, others)
    works_again(nodes.new_ranks(sorted(others)))
    nodes.nodes[seed].daemon.send_signal(signal.SIGCONT)
    assert await_seed(nodes, {0, 1, 2}) != seed
    works_again(nodes.new_ranks([0, 1, 2]), "all")


def test_a_seed_that_ends_gives_up_its_claim(nodes: Nodes) -> None:
    seed = await_seed(nodes, {0, 1, 2})
    nodes.nodes[seed].may_end = True
    nodes.nodes[seed].daemon.send_signal(signal.SIGTERM)
    nodes.nodes[seed].daemon.wait_exit()
    assert seed_in_etcd(nodes) != seed
    await_seed(nodes, {0, 1, 2} - {seed})


def test_without_etcd_live_groups_run_on_and_new_ones_wait_for_it(nodes: Nodes) -> None:
    seed = await_seed(nodes, {0, 1, 2})
    ranks = nodes.new_ranks([0, 1, 2])
    join_all(ranks, "live")
    etcd_of(nodes).stop()
    wait_until(
        lambda: "etcd at" in membership(nodes, seed)["why"],
        "no seed without etcd",
        ELECTED_WITHIN_S,
    )
    assert not membership(nodes, seed)["connected"]
    assert all(verdict.ok for verdict in run_all(ranks, "barrier live"))
    etcd_of(nodes).start()
    await_seed(nodes, {0, 1, 2})
    works_again(ranks, "new")
    assert all(verdict.ok for verdict in run_all(ranks, "barrier live"))


def test_a_claim_that_an_operator_removes_is_made_again(nodes: Nodes) -> None:
    await_seed(nodes, {0, 1, 2})
    etcd_of(nodes).remove("/tutti/seed")
    await_seed(nodes, {0, 1, 2})
    works_again(nodes.new_ranks([0, 1, 2]))


def test_daemons_that_start_before_etcd_wait_for_it(nodes: Nodes) -> None:
    etcd_of(nodes).stop()
    for node in nodes.nodes:
        node.daemon.kill()
        node.restart()
    wait_until(
        lambda: "etcd at" in membership(nodes, 0)["why"], "why there is no seed", ELECTED_WITHIN_S
    )
    etcd_of(nodes).start()
    await_seed(nodes, {0, 1, 2})
    works_again(nodes.new_ranks([0, 1, 2]))
