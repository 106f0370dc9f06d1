"""Groups over several nodes of Ray: nothing has to be set, and what dies is named."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import ray
from conftest import start_ray
from ranks import Rank, all_of, daemons, error_of, node_ids, ranks_on, start_all
from ray.cluster_utils import Cluster
from ray.util import collective as ray_col
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import tutti
import tutti.ray
from tutti import collective as col

DEADLINE_S = 60.0


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Three raylets on this machine."""
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 4})
    for _ in range(2):
        made.add_node(num_cpus=4)
    start_ray(address=made.address)
    yield made
    ray.shutdown()
    made.shutdown()


def init(actor: Any, rank: int, size: int, name: str) -> None:
    del actor
    col.init_collective_group(size, rank, group_name=name, timeout=DEADLINE_S)


def init_ray(actor: Any, rank: int, size: int, name: str) -> None:
    del actor
    ray_col.init_collective_group(size, rank, "TUTTI", name)


def operations(actor: Any, rank: int, size: int, name: str) -> None:
    del actor
    array = np.full(100_000, rank + 1.0)
    col.allreduce(array, name)
    assert (array == size * (size + 1) / 2).all()
    col.broadcast(array, size - 1, name)
    parts = [np.zeros(3) for _ in range(size)]
    col.allgather(parts, np.full(3, float(rank)), name)
    assert [part[0] for part in parts] == list(range(size))
    peer = rank ^ 1
    if peer < size:
        mine, theirs = np.full(5, float(rank)), np.zeros(5)
        work = col.send(mine, peer, name, async_op=True)
        col.recv(theirs, peer, name)
        work.wait()
        assert (theirs == peer).all()
    assert col.agree(True, name)


def ray_operations(actor: Any, rank: int, size: int, name: str) -> float:
    del actor
    array = np.full(10, rank + 1.0, dtype=np.float32)
    ray_col.allreduce(array, name)
    return float(array[0]) / size


def barriers(actor: Any, rank: int, size: int, name: str) -> None:
    """Until something goes wrong."""
    del actor, rank, size
    while True:
        col.barrier(name)


def again(actor: Any, rank: int, size: int, name: str) -> None:
    """Forms it once more, and uses it."""
    col.destroy_collective_group(name)
    init(actor, rank, size, name)
    col.barrier(name)


def seed_daemon() -> psutil.Process:
    """The one that others find."""
    (found,) = [
        daemon
        for daemon in daemons()
        if any(word.startswith("--peer_address=") for word in daemon.cmdline())
    ]
    return found


@pytest.mark.usefixtures("cluster")
def test_ranks_anywhere_are_one_group() -> None:
    """All nodes are used for the first time, at once; then again, when daemons are there."""
    nodes = node_ids()
    where = [*nodes, *(random.choice(nodes) for _ in range(3))]
    random.shuffle(where)
    print(where)  # pytest shows it if the test fails
    actors = ranks_on(where)
    all_of(actors, init, "dp")
    all_of(actors, operations, "dp")
    all_of(actors, init_ray, "of ray")
    assert all_of(actors, ray_operations, "of ray") == [3.5] * 6


@ray.remote(num_cpus=0)
class Holder:
    """Has a tensor."""

    def __init__(self, rank: int) -> None:
        self._tensor = np.full(6, rank + 1.0, np.float32)

    @tutti.ray.method
    def tensor(self) -> Any:
        """Stays here."""
        return self._tensor


@pytest.mark.usefixtures("cluster")
def test_a_driver_states_operations_of_actors_anywhere() -> None:
    actors = [
        Holder.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, False)).remote(n)
        for n, node in enumerate(node_ids())
    ]
    tutti.ray.create_group(actors, "declared", timeout=DEADLINE_S)
    sums = tutti.ray.allreduce_refs([actor.tensor.remote() for actor in actors])
    assert [float(each[0]) for each in tutti.ray.get(sums)] == [6.0] * 3
    copies = tutti.ray.broadcast_refs([actor.tensor.remote() for actor in actors], 1)
    assert [float(each[0]) for each in tutti.ray.get(copies)] == [6.0] * 3


def test_a_node_that_is_lost_is_named_and_another_takes_its_place(cluster: Cluster) -> None:
    added = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    nodes = [node for node in node_ids() if node != added.node_id][:2] + [added.node_id]
    actors = ranks_on(nodes)
    all_of(actors, init, "dp")
    refs = start_all(actors, barriers, "dp")
    cluster.remove_node(added, allow_graceful=False)
    for ref in refs[:2]:
        error = error_of(ref)
        assert isinstance(error, (tutti.NodeLostError, tutti.RankLostError)), error
        assert list(error.culprits) == [2], error
    actors[2] = ranks_on(nodes[:1])[0]
    all_of(actors, again, "dp")


@pytest.mark.usefixtures("cluster")
def test_without_the_daemon_of_the_head_groups_go_on_and_it_comes_again() -> None:
    nodes = node_ids()
    actors = ranks_on([nodes[1], nodes[2]])
    all_of(actors, init, "dp")
    seed = seed_daemon()
    seed.send_signal(signal.SIGKILL)
    seed.wait(DEADLINE_S)
    all_of(actors, operations, "dp")
    # Nobody uses the head's node: whoever waits sees to it.
    all_of(actors, init, "new")
    all_of(actors, operations, "new")
    assert seed_daemon().pid != seed.pid


@pytest.mark.usefixtures("cluster")
def test_what_a_node_keeps_is_only_its_own() -> None:
    statuses = tutti.ray.start()
    assert len(statuses) == 3
    for status in statuses:
        folder = Path(status.socket_dir, "tls")
        assert folder.stat().st_mode & 0o777 == 0o700
        assert sorted(os.listdir(folder)) == ["ca.pem", "node.key", "node.pem"]
    left = [name for name in os.listdir("/dev/shm") if Path("/dev/shm", name, "ca.key").exists()]
    assert not left


def test_a_program_that_is_missing_is_named(cluster: Cluster, tmp_path: Path) -> None:
    """The node's certificate is made by `tutti`."""
    del cluster
    alone = tmp_path / "tuttid"
    alone.symlink_to(os.environ["TUTTID"])
    variables = {"TUTTID": str(alone), "PATH": "/usr/bin", "TUTTI_CLI": ""}
    options: dict[str, Any] = {"runtime_env": {"env_vars": variables}}
    (ref,) = start_all([Rank.options(**options).remote()], init, "g")
    error = error_of(ref)
    assert isinstance(error, tutti.NodeLostError)
    assert "no program tutti" in str(error)
