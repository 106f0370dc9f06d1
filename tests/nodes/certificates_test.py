"""Who has a certificate of the cluster is in it, and nobody else."""

from __future__ import annotations

import pathlib
import shutil
from collections.abc import Callable

from authority import make_authority
from conftest import PORT, Nodes
from node import Node
from rank import join_all, run_all


def stranger(nodes: Nodes, settings: str) -> Node:
    """A daemon on the first node's host that wants to be in the cluster."""
    return Node((f"--join={nodes.hosts[0].address}:{PORT}", settings), through=nodes.hosts[0].enter)


def forms_no_group(nodes: Nodes, other: Node) -> None:
    reply = other.new_rank().ask("join dp 0 2 1000")
    assert reply["cause"] == "NODE_LOST", reply
    ranks = nodes.new_ranks([0, 1])
    join_all(ranks, "dp")
    assert all(verdict.ok for verdict in run_all(ranks, "barrier dp"))


def test_another_authority_is_refused(
    new_nodes: Callable[..., Nodes], tmp_path: pathlib.Path
) -> None:
    nodes = new_nodes(2)
    make_authority(tmp_path, "test", 1)
    other = stranger(nodes, f"--peer_tls_dir={tmp_path}/node0")
    try:
        forms_no_group(nodes, other)
    finally:
        other.close()


def test_who_does_not_encrypt_is_refused(new_nodes: Callable[..., Nodes]) -> None:
    nodes = new_nodes(2)
    other = stranger(nodes, "--insecure_peers")
    try:
        forms_no_group(nodes, other)
    finally:
        other.close()


def test_certificates_may_be_replaced_while_groups_work(
    new_nodes: Callable[..., Nodes], tmp_path: pathlib.Path
) -> None:
    nodes = new_nodes(2)
    ranks = nodes.new_ranks([0, 1])
    join_all(ranks, "dp")
    make_authority(tmp_path, "test", 2)
    for index in range(2):
        for name in ("ca.pem", "node.pem", "node.key"):
            shutil.copy(tmp_path / f"node{index}" / name, nodes.certs / f"node{index}" / name)
    for _ in range(100):
        assert all(verdict.ok for verdict in run_all(ranks, "barrier dp"))
    for node in nodes.nodes:
        node.check_alive()
