"""Work: waiting with and without asyncio."""

from __future__ import annotations

import asyncio
import gc
import math
import threading
import weakref

import numpy as np
import pytest
from fake_daemon import FakeDaemon, wait_until
from test_client import pending

import tutti
from tutti.binding import Bound
from tutti.v1 import types_pb2


def test_wait_only_stops_waiting(single: tutti.Group, daemon: FakeDaemon) -> None:
    work = pending(single, daemon)
    assert not work.done()
    assert "pending" in repr(work)
    with pytest.raises(TimeoutError, match="barrier of group 'single' is still pending"):
        work.wait(0.01)
    with pytest.raises(RuntimeError, match="not done"):
        work.exception()
    daemon.release()
    work.wait(10)
    work.wait(0)
    assert work.done()
    assert work.exception() is None
    assert "done" in repr(work)


@pytest.mark.parametrize("timeout", [3e6, math.inf])
def test_long_waits(single: tutti.Group, daemon: FakeDaemon, timeout: float) -> None:
    """Longer than system calls take, of a work whose deadline is not known."""
    work = pending(single, daemon)
    work._timeout_s = None
    ended = threading.Event()

    def wait() -> None:
        work.wait(timeout)
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    wait_until(lambda: len(work._wakers) == 1)
    daemon.release()
    assert ended.wait(10)


def test_results_arrive_with_the_completion(single: tutti.Group, daemon: FakeDaemon) -> None:
    array = np.arange(5.0)
    work = pending(single, daemon, array)
    daemon.release()
    work.wait(10)
    assert (array == np.arange(5.0)).all()


def test_a_work_keeps_its_tensor(single: tutti.Group, daemon: FakeDaemon) -> None:
    array = np.zeros(10)
    gone = weakref.ref(array)
    work = pending(single, daemon, array)
    del array
    gc.collect()
    assert gone() is not None
    daemon.release()
    work.wait(10)
    gc.collect()
    assert gone() is None, "and not longer than needed"


def test_small_works_do_not_wait_for_the_copy_of_a_large_one(
    client: tutti.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = client.join("one", 0, 1), client.join("other", 0, 1)
    large = np.ones(1 << 20)
    may_copy = threading.Event()
    finish = Bound.finish

    def slow(bound: Bound, success: bool) -> None:
        if bound.results_bytes:
            assert may_copy.wait(10)
        finish(bound, success)

    monkeypatch.setattr(Bound, "finish", slow)
    work = one.allreduce(large, async_op=True)
    other.barrier(timeout=5)
    one.barrier(timeout=5)
    assert not work.done()
    may_copy.set()
    work.wait(10)
    assert (large == 1).all()


def test_without_a_thread_the_lane_copies(
    single: tutti.Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    large = np.ones(1 << 20)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        single.allreduce(large)
    assert (large == 1).all()


def test_each_waiter_raises_its_own_error(single: tutti.Group, daemon: FakeDaemon) -> None:
    daemon.unsupported.add(types_pb2.DATA_TYPE_INT8)
    work = single.allreduce(np.zeros(3, np.int8), async_op=True)
    errors = []
    for _ in range(2):
        with pytest.raises(tutti.InvalidError, match="INT8") as caught:
            work.wait(10)
        errors.append(caught.value)
    assert errors[0] is not errors[1]
    assert isinstance(work.exception(), tutti.InvalidError)
    assert "failed" in repr(work)


def test_many_waiters(single: tutti.Group, daemon: FakeDaemon) -> None:
    work = pending(single, daemon)
    threads = [threading.Thread(target=work.wait) for _ in range(5)]
    for thread in threads:
        thread.start()
    daemon.release()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def test_a_daemon_that_does_not_end_works(
    single: tutti.Group, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is stopped (SIGSTOP), say: the sockets live, and nobody answers."""
    monkeypatch.setattr("tutti.work._DAEMON_GRACE_S", 0.1)
    daemon.hold = True
    work = single.barrier(async_op=True, timeout=0.05)
    with pytest.raises(tutti.NodeLostError, match="may be stopped"):
        work.wait()
    with pytest.raises(TimeoutError):
        work.wait(0.01)
    daemon.release()
    work.wait(10)


class TestAsyncio:
    """`await work`."""

    def test_success(self, single: tutti.Group, daemon: FakeDaemon) -> None:
        async def main() -> None:
            works = [pending(single, daemon) for _ in range(3)]
            asyncio.get_running_loop().call_later(0.01, daemon.release)
            await asyncio.wait_for(_all(works), 10)
            await works[0]

        async def _all(works: list[tutti.Work]) -> None:
            for work in works:
                await work

        asyncio.run(main())

    def test_failure(self, single: tutti.Group, daemon: FakeDaemon) -> None:
        daemon.unsupported.add(types_pb2.DATA_TYPE_INT8)

        async def main() -> None:
            await single.allreduce(np.zeros(3, np.int8), async_op=True)

        with pytest.raises(tutti.InvalidError):
            asyncio.run(main())

    def test_cancelling_only_stops_waiting(self, single: tutti.Group, daemon: FakeDaemon) -> None:
        work = pending(single, daemon)

        async def main() -> None:
            async def wait() -> None:
                await work

            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(wait(), 0.01)

        asyncio.run(main())
        assert not work.done()
        daemon.release()
        work.wait(10)
