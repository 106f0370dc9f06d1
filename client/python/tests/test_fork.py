"""Forks: the child is told, the parent goes on, and the session ends with the parent."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from fake_daemon import FakeDaemon, wait_until

PRELUDE = """
import os, sys, signal, time
import numpy as np
import tutti
from tutti import collective as col

def in_child(body):
    started = time.monotonic()
    pid = os.fork()
    took_s = time.monotonic() - started
    if pid == 0:
        try:
            body()
            sys.exit(0)      # runs what is registered with atexit
        except SystemExit as end:
            raise
        except BaseException as error:
            print("child:", repr(error), file=sys.stderr)
            os._exit(9)
    signal.alarm(20)
    status = os.waitpid(pid, 0)[1]
    assert status == 0, status
    return took_s

def expect_forked(call):
    try:
        call()
    except tutti.ForkedError as error:
        assert "forked" in str(error)
    else:
        raise AssertionError("no error")
"""


def run(daemon: FakeDaemon, code: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "TUTTI_SOCKET_DIR": str(daemon.socket_dir)}
    environment.pop("GRPC_ENABLE_FORK_SUPPORT", None)
    done = subprocess.run(
        # Python itself warns of forks in a process with threads, from 3.12 on.
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PRELUDE + textwrap.dedent(code)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "not a word"
    return done


@pytest.mark.parametrize("in_flight", [False, True], ids=["idle", "in an open call"])
def test_every_call_in_the_child_names_the_fork(daemon: FakeDaemon, in_flight: bool) -> None:
    daemon.hold = in_flight
    run(
        daemon,
        f"""
        client = tutti.Client()
        group = client.join("g", 0, 1)
        work = group.barrier(async_op=True) if {in_flight} else None
        array = client.zeros(5)
        def child():
            for call in (
                lambda: group.allreduce(array), lambda: group.barrier(), lambda: group.leave(),
                lambda: client.join("h", 0, 1), lambda: client.zeros(3), lambda: client.close(),
                lambda: tutti.Client(), lambda: tutti.empty(3), lambda: col.barrier(),
                lambda: col.init_collective_group(1, 0), lambda: col.is_group_initialized(),
                lambda: col.destroy_collective_group(),
            ):
                expect_forked(call)
            if work is not None:
                expect_forked(work.wait)
            array[:] = 1          # plain memory, still
        # With a call open, gRPC holds a fork up for a second.
        assert in_child(child) < 0.5
        in_child(lambda: os.fork() or expect_forked(group.barrier))
        if work is None:
            group.allreduce(array)
            group.barrier()
        """,
    )


def test_the_session_ends_with_the_parent(daemon: FakeDaemon) -> None:
    """Though the child lives on, the daemon sees the parent's death."""
    read, write = os.pipe()
    code = """
        client = tutti.Client()
        group = client.join("g", 0, 1)
        if os.fork() == 0:
            os.read({read}, 1)     # until the test has seen the end
            os._exit(0)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(code.format(read=read))],
        env={**os.environ, "TUTTI_SOCKET_DIR": str(daemon.socket_dir)},
        pass_fds=[read],
    )
    os.close(read)
    process.wait(30)
    daemon.wait_for(lambda: "hello" in daemon.requests)
    wait_until(lambda: not daemon.sessions)
    assert "goodbye" not in daemon.requests
    os.close(write)


def test_fork_before_the_first_use(daemon: FakeDaemon) -> None:
    run(
        daemon,
        """
        def child():
            col.init_collective_group(1, 0)
            col.allreduce(np.ones(3))
        in_child(child)
        child()
        """,
    )


def test_multiprocessing_spawn(daemon: FakeDaemon, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import multiprocessing
            import numpy as np
            from tutti import collective as col

            def rank(number):
                col.init_collective_group(2, number, group_name="g")
                array = np.ones(3)
                col.allreduce(array, "g")
                assert (array == 2).all()

            if __name__ == "__main__":
                col.init_collective_group(1, 0)
                with multiprocessing.get_context("spawn").Pool(2) as pool:
                    pool.map(rank, range(2), chunksize=1)
                col.barrier()
            """
        )
    )
    environment = {**os.environ, "TUTTI_SOCKET_DIR": str(daemon.socket_dir)}
    subprocess.run([sys.executable, script], env=environment, check=True, timeout=60)
