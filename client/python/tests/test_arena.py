"""The allocator, over arenas that are mere memory."""

from __future__ import annotations

import gc
import itertools
import mmap
import random
import threading

import numpy as np
import pytest

from tutti.arena import ALIGNMENT, Arena, Block, Pool, size_class
from tutti.errors import LimitError

MIB = 1 << 20


class Maker:
    """Counts arenas, and refuses to make more bytes than `limit`."""

    def __init__(self, limit: int = 1 << 40) -> None:
        self.limit = limit
        self.sizes: list[int] = []

    def __call__(self, size: int) -> Arena:
        if sum(self.sizes) + size > self.limit:
            raise LimitError("no more")
        self.sizes.append(size)
        return Arena(len(self.sizes), mmap.mmap(-1, size))


@pytest.fixture
def maker() -> Maker:
    return Maker()


@pytest.fixture
def pool(maker: Maker) -> Pool:
    return Pool(maker)


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 4096, 5000, MIB - 1, MIB, MIB + 1, 65 * MIB])
def test_size_class_fits_and_is_aligned(size: int) -> None:
    chosen = size_class(size)
    assert chosen >= max(size, 1)
    assert chosen % ALIGNMENT == 0
    assert size_class(chosen) == chosen


def test_size_classes_waste_little() -> None:
    generator = random.Random(1)
    for _ in range(2000):
        size = generator.randrange(256, 1 << 34)
        assert size_class(size) <= size * (1 + (1 / 16 if size > MIB else 1 / 4))


def test_a_freed_block_is_used_again(pool: Pool, maker: Maker) -> None:
    first = pool.allocate(1000)
    pool.free(first)
    assert pool.allocate(1000) == first
    assert len(maker.sizes) == 1


def test_blocks_do_not_overlap(pool: Pool) -> None:
    generator = random.Random(2)
    held: list[Block] = []
    for _ in range(3000):
        if held and generator.random() < 0.5:
            pool.free(held.pop(generator.randrange(len(held))))
        else:
            size = int(2 ** generator.uniform(0, 22))
            block = pool.allocate(size)
            assert size <= block.size
            assert block.offset + block.size <= block.arena.size
            assert block.offset % ALIGNMENT == 0
            held.append(block)
    held.sort(key=lambda block: (block.arena.number, block.offset))
    for one, next_one in itertools.pairwise(held):
        assert one.arena is not next_one.arena or one.offset + one.size <= next_one.offset


def test_neighbours_are_merged_before_the_pool_grows(pool: Pool, maker: Maker) -> None:
    small = [pool.allocate(64 << 10) for _ in range(64)]
    assert maker.sizes == [4 * MIB]
    for block in small:
        pool.free(block)
    assert pool.allocate(4 * MIB).offset == 0
    assert maker.sizes == [4 * MIB]


def test_it_grows_slowly_and_then_in_steps(pool: Pool, maker: Maker) -> None:
    for _ in range(400):
        pool.allocate(MIB)
    assert [size // MIB for size in maker.sizes] == [4, 4, 8, 16, 32, 64, 64, 64, 64, 64, 64]


def test_a_large_tensor_gets_an_arena_of_its_size(pool: Pool, maker: Maker) -> None:
    pool.allocate(1 << 30)
    assert maker.sizes == [1 << 30]


def test_near_the_limit_it_asks_for_what_it_needs(maker: Maker) -> None:
    maker.limit = 10 * MIB
    pool = Pool(maker)
    for _ in range(8):
        pool.allocate(MIB)
    pool.allocate(2 * MIB)
    assert maker.sizes == [4 * MIB, 4 * MIB, 2 * MIB]
    with pytest.raises(LimitError):
        pool.allocate(1)
    assert pool.size_bytes == 10 * MIB


def test_array_lives_in_the_arena(pool: Pool) -> None:
    array = pool.array((3, 5), np.float32)
    assert array.shape == (3, 5)
    assert array.dtype == np.float32
    assert array.flags.writeable
    found = pool.find(array.__array_interface__["data"][0], array.nbytes)
    assert found is not None
    array[:] = 7
    arena, offset = found
    assert (np.frombuffer(arena.bytes.data, np.float32, 15, offset) == 7).all()


@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3)])
def test_array_without_much_in_it(pool: Pool, shape: tuple[int, ...]) -> None:
    assert pool.array(shape, np.int64).shape == shape


def test_array_of_objects_is_refused(pool: Pool) -> None:
    with pytest.raises(TypeError, match="object"):
        pool.array((1,), object)


def test_block_is_free_when_the_last_view_is_gone(pool: Pool) -> None:
    array = pool.array((1000,), np.float64)
    address = array.__array_interface__["data"][0]
    view = array[10:20].reshape(2, 5).T
    exported = array[1:].data
    del array
    gc.collect()
    assert pool.array((1000,), np.float64).__array_interface__["data"][0] != address
    del view
    assert pool.array((1000,), np.float64).__array_interface__["data"][0] != address
    del exported
    assert pool.array((1000,), np.float64).__array_interface__["data"][0] == address


def test_array_outlives_the_pool(maker: Maker) -> None:
    pool = Pool(maker)
    array = pool.array((1000,), np.float64)
    array[:] = 3
    del pool
    gc.collect()
    assert array.sum() == 3000


def test_find_knows_its_bounds(pool: Pool) -> None:
    blocks = [pool.allocate(3 * MIB) for _ in range(3)]
    for block in blocks:
        arena = block.arena
        assert pool.find(arena.address, arena.size) == (arena, 0)
        assert pool.find(arena.address + arena.size - 1, 1) == (arena, arena.size - 1)
        assert pool.find(arena.address + 1, arena.size) is None
    assert pool.find(1, 1) is None
    assert pool.find(np.zeros(10).__array_interface__["data"][0], 80) is None


def test_unused_arenas_are_taken(pool: Pool, maker: Maker) -> None:
    kept = pool.allocate(3 * MIB)
    pool.free(pool.allocate(100 * MIB))
    unused = pool.take_unused()
    assert [arena.size for arena in unused] == [100 * MIB]
    assert pool.size_bytes == kept.arena.size
    assert pool.find(unused[0].address, 1) is None
    pool.allocate(100 * MIB)
    assert len(maker.sizes) == 3


def test_many_threads(pool: Pool) -> None:
    def work(seed: int) -> None:
        generator = random.Random(seed)
        for _ in range(300):
            array = pool.array((generator.randrange(1, 5000),), np.int64)
            array[:] = seed
            assert (array == seed).all()

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gc.collect()
    assert sum(run.size for run in pool.take_unused()) > 0
    assert pool.size_bytes == 0


def test_freeing_inside_an_allocation_does_not_deadlock(pool: Pool) -> None:
    class Cycle:
        def __init__(self) -> None:
            self.array = pool.array((10,), np.int8)
            self.itself = self

    old = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for _ in range(200):
            Cycle()
            pool.allocate(100)
    finally:
        gc.set_threshold(*old)
