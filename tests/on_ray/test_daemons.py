"""The daemon of a Ray node: it comes when it is needed, is one, and ends with the raylet."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import ray
from conftest import HOOK, start_ray
from ranks import Rank, all_of, daemons, error_of, node_ids, ranks_on, start_all
from ray.cluster_utils import Cluster
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import tutti
import tutti.ray
from tutti import collective as col

DEADLINE_S = 60.0


@pytest.fixture
def fresh() -> Iterator[None]:
    """A cluster of one node, in which nothing has been done yet."""
    start_ray(num_cpus=8)
    yield
    if ray.is_initialized():
        ray.shutdown()


@pytest.fixture
def two_nodes() -> Iterator[Cluster]:
    """Two raylets on this machine."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 4})
    cluster.add_node(num_cpus=4)
    start_ray(address=cluster.address)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def only_daemon() -> psutil.Process:
    (daemon,) = daemons()
    return daemon


def init(actor: Any, rank: int, size: int, name: str, timeout: float | None = None) -> None:
    del actor
    col.init_collective_group(size, rank, group_name=name, timeout=timeout)


def add_up(actor: Any, rank: int, size: int, name: str) -> float:
    del actor, size
    array = np.full(1000, rank + 1.0)
    col.allreduce(array, name)
    return float(array[0])


def all_gone(processes: list[psutil.Process]) -> bool:
    return not psutil.wait_procs(processes, DEADLINE_S)[1]


@pytest.mark.usefixtures("fresh")
def test_the_first_use_starts_one_however_many_come_at_once() -> None:
    """And nothing else is needed: no address, no port, no directory."""
    assert not daemons()
    actors = [Rank.remote() for _ in range(6)]
    all_of(actors, init, "dp")
    assert all_of(actors, add_up, "dp") == [21.0] * 6
    daemon = only_daemon()
    # It is nobody's child, and as its raylet: Ray's workers have a lower priority, and are the
    # first to be killed if memory runs out.
    raylet = psutil.Process(int(daemon.cmdline()[2].partition("=")[2]))
    assert raylet.name() == "raylet"
    assert os.getsid(daemon.pid) == daemon.pid
    assert daemon.nice() == raylet.nice()
    for file in ("oom_score_adj", "status"):
        both = [
            [line for line in Path(f"/proc/{pid}/{file}").read_text().splitlines()
             if file != "status" or line.startswith("Cpus_allowed_list")]
            for pid in (daemon.pid, raylet.pid)
        ]
        assert both[0] == both[1]
    with tutti.Client() as client:  # the driver finds it as well
        assert client.namespace.endswith("-job-" + ray.get_runtime_context().get_job_id())
    ray.shutdown()
    assert all_gone([daemon])


@pytest.mark.usefixtures("fresh")
def test_the_gpu_mask_of_an_actor_is_not_the_daemons() -> None:
    options: dict[str, Any] = {"runtime_env": {"env_vars": {
        "CUDA_VISIBLE_DEVICES": "3", "TUTTID": os.environ["TUTTID"], "OF_AN_ACTOR": "1",
    }}}
    all_of([Rank.options(**options).remote()], init, "g")
    environment = only_daemon().environ()
    assert "OF_AN_ACTOR" not in environment
    assert environment.get("CUDA_VISIBLE_DEVICES") != "3"


@pytest.mark.usefixtures("fresh")
def test_start_tells_what_there_is_and_starts_nothing_twice() -> None:
    (first,) = tutti.ray.start({"log_level": "debug"})
    (again,) = tutti.ray.start()
    assert first.started
    assert not again.started
    assert (again.node_id, again.socket_dir) == (first.node_id, first.socket_dir)
    assert "--log_level=debug" in only_daemon().cmdline()
    all_of([Rank.remote()], init, "g")
    only_daemon()


@pytest.mark.usefixtures("fresh")
def test_a_daemon_that_was_killed_comes_again() -> None:
    actors = [Rank.remote() for _ in range(2)]
    all_of(actors, init, "dp")
    only_daemon().send_signal(signal.SIGKILL)
    for ref in start_all(actors, add_up, "dp"):
        assert isinstance(error_of(ref), tutti.NodeLostError)
    all_of(actors, init, "dp")
    assert all_of(actors, add_up, "dp") == [3.0] * 2
    only_daemon()


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize(
    ("program", "says"),
    [("/no/such/tuttid", "which is no program"), ("/bin/false", "ended before it was ready")],
)
def test_what_is_wrong_with_the_program_is_said(program: str, says: str) -> None:
    options: dict[str, Any] = {"runtime_env": {"env_vars": {"TUTTID": program}}}
    (ref,) = start_all([Rank.options(**options).remote()], init, "g")
    error = error_of(ref)
    assert isinstance(error, tutti.NodeLostError)
    assert says in str(error)
    assert not daemons()


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("mode", [0o702, 0o770], ids=oct)
def test_a_directory_that_others_can_write_is_refused(mode: int) -> None:
    """Theirs might be the daemon in it."""
    context = ray.get_runtime_context()
    folder = Path(context.get_temp_dir(), context.get_session_name(), "tutti")
    folder.mkdir()
    folder.chmod(mode)
    (ref,) = start_all([Rank.remote()], init, "g")
    assert "not a directory of ours alone" in str(error_of(ref))
    folder.rmdir()
    all_of([Rank.remote()], init, "g")


@pytest.mark.usefixtures("fresh")
def test_start_names_the_nodes_where_it_failed() -> None:
    with pytest.raises(tutti.NodeLostError, match=r"(?s)not all Ray nodes.*no_such_setting"):
        tutti.ray.start({"no_such_setting": "1"})
    tutti.ray.start()


DRIVER = """
    import sys, numpy as np, ray
    from tutti import collective as col

    ray.init(address=sys.argv[1], namespace="all the same", log_to_driver=False,
             runtime_env={"env_vars": {"TUTTID": sys.argv[2]}})

    @ray.remote(num_cpus=0)
    class Actor:
        def __init__(self, rank):
            col.init_collective_group(2, rank, group_name="same name")
        def step(self, value):
            array = np.full(3, value)
            col.allreduce(array, "same name")
            return array.tolist()

    actors = [Actor.remote(rank) for rank in range(2)]
    ray.get([actor.__ray_ready__.remote() for actor in actors])
    print("ready", flush=True)
    value = float(sys.stdin.readline())
    for _ in range(50):
        assert ray.get([a.step.remote(value) for a in actors]) == [[2 * value] * 3] * 2
    print("done", flush=True)
    sys.stdin.readline()
"""


def driver(address: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(DRIVER), address, os.environ["TUTTID"]],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.usefixtures("fresh")
def test_jobs_do_not_meet_and_leave_nothing() -> None:
    """Two drivers of one cluster, with groups of one name; the daemon survives both."""
    address = ray.get_runtime_context().gcs_address
    jobs = [driver(address) for _ in range(2)]
    for job in jobs:
        assert job.stdout is not None
        assert job.stdout.readline() == "ready\n"
    daemon = only_daemon()
    for value, job in enumerate(jobs):
        assert job.stdin is not None
        job.stdin.write(f"{value + 1}\n")
        job.stdin.flush()
    for job in jobs:
        assert job.stdout is not None
        assert job.stdout.readline() == "done\n"
    jobs[0].kill()
    jobs[1].communicate("\n", timeout=DEADLINE_S)
    jobs[0].communicate()
    assert only_daemon() == daemon
    all_of([Rank.remote() for _ in range(2)], init, "same name")


@pytest.mark.parametrize("head_first", [True, False])
def test_two_raylets_have_two_daemons(two_nodes: Cluster, head_first: bool) -> None:
    """On one machine too; one that joins later has one when it is used. The head's, which knows the
    others, comes with the first of them.
    """
    nodes = node_ids() if head_first else node_ids()[::-1]
    for node, number in zip(nodes, [1, 2] if head_first else [2, 2], strict=True):
        actors = ranks_on([node] * 2)
        all_of(actors, init, "same name")
        assert all_of(actors, add_up, "same name") == [3.0] * 2
        assert len(daemons()) == number
    added = two_nodes.add_node(num_cpus=1)
    assert [status.started for status in tutti.ray.start()].count(True) == 1
    assert len(daemons()) == 3
    before = daemons()
    two_nodes.remove_node(added)
    gone, alive = psutil.wait_procs(before, timeout=20)
    assert (len(gone), len(alive)) == (1, 2)


def test_a_driver_that_comes_again_as_another_job(two_nodes: Cluster) -> None:
    """And is a rank of both."""
    namespaces = set()
    for n in range(2):
        if n:
            ray.shutdown()
            start_ray(address=two_nodes.address)
        here = ray.get_runtime_context().get_node_id()
        actor = Rank.options(scheduling_strategy=NodeAffinitySchedulingStrategy(here, False))
        ref = actor.remote().call.remote(init, 1, 2, "with the driver")
        init(None, 0, 2, "with the driver")
        ray.get(ref)
        namespaces.add(tutti._default.default_client().namespace)
        tutti.collective.destroy_collective_group("with the driver")
    assert len(namespaces) == 2


def test_a_daemon_that_is_there_already_is_used(tmp_path: Path) -> None:
    """A sidecar, or systemd's: $TUTTI_SOCKET_DIR of the raylet names it. Jobs have namespaces."""
    socket_dir = tmp_path / "s"
    sidecar = subprocess.Popen([os.environ["TUTTID"], f"--socket_dir={socket_dir}"])
    os.environ["TUTTI_SOCKET_DIR"] = str(socket_dir)
    try:
        start_ray(num_cpus=4)
        (status,) = tutti.ray.start()
        assert (status.socket_dir, status.started) == (str(socket_dir), False)
        actors = [Rank.remote() for _ in range(2)]
        all_of(actors, init, "g")
        assert all_of(actors, add_up, "g") == [3.0] * 2
        assert not daemons()
        with tutti.Client() as client:
            job = ray.get_runtime_context().get_job_id()
            assert re.fullmatch(f"ray-[0-9a-f]{{8}}-job-{job}", client.namespace)
    finally:
        del os.environ["TUTTI_SOCKET_DIR"]
        ray.shutdown()
        sidecar.terminate()
        sidecar.wait()


@pytest.mark.usefixtures("fresh")
def test_a_daemon_that_is_not_there_is_missed(monkeypatch: Any, tmp_path: Path) -> None:
    """At the start already."""
    from tutti.ray import _cluster

    monkeypatch.setenv("TUTTI_SOCKET_DIR", str(tmp_path))
    with pytest.raises(tutti.NodeLostError, match="no daemon serves there"):
        _cluster._start_here(None)


@pytest.mark.usefixtures("fresh")
def test_one_whose_starter_was_killed_is_found() -> None:
    """It has come up between the look whether there is one, and the start of another."""

    @ray.remote(num_cpus=0)
    def start_two() -> bool:
        from tutti.ray import _daemon, _node

        assert _daemon.start()
        _daemon._start(_node.this_node(), int(os.environ["RAY_RAYLET_PID"]), {})
        return True

    assert ray.get(start_two.remote())
    only_daemon()


def test_a_long_directory_of_ray() -> None:
    """Names of Unix sockets are short. What is just short enough for Ray's may not be for ours."""
    with tempfile.TemporaryDirectory(prefix="x" * 28) as folder:
        start_ray(num_cpus=4, _temp_dir=folder)
        try:
            (status,) = tutti.ray.start()
            assert not status.socket_dir.startswith(folder)
            all_of([Rank.remote()], init, "g")
        finally:
            ray.shutdown()


def test_the_hook_is_the_public_name() -> None:
    module, _, name = HOOK.rpartition(".")
    assert getattr(sys.modules[module], name) is tutti.ray.register
