"""What becomes of users' tensors, over a pool of mere memory."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tutti.arena import Arena, Pool
from tutti.binding import Bound, whole
from tutti.binding import bind as bind_parts
from tutti.ops import DTYPES
from tutti.tensors import describe


def make_arena(size: int) -> Arena:
    return Arena(7, mmap.mmap(-1, size))


@pytest.fixture
def pool() -> Pool:
    return Pool(make_arena)


def bind(tensor: Any, pool: Pool, *, read: bool, write: bool) -> Bound:
    parts = [whole(describe(tensor))]
    return bind_parts(parts if read else [], parts if write else [], pool, 0)


def place_of(bound: Bound) -> Any:
    return (*bound.inputs, *bound.outputs)[0]


def span_of(pool: Pool, bound: Bound) -> npt.NDArray[np.uint8]:
    """The bytes that the daemon would see."""
    _, offset, length = place_of(bound)
    if not length:
        return np.zeros(0, np.uint8)
    arena = pool._table[1][0]
    return arena.bytes[offset : offset + length]


def negate(pool: Pool, tensor: Any) -> None:
    """An operation in place: flips all bits."""
    bound = bind(tensor, pool, read=True, write=True)
    span_of(pool, bound)[:] ^= 0xFF
    bound.finish(True)


def flipped(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    copy = np.ascontiguousarray(array)
    return (copy.view(np.uint8) ^ 0xFF).view(array.dtype).reshape(array.shape)


@pytest.mark.parametrize("name", [name for name in DTYPES if name != "bfloat16"])
def test_every_dtype_travels(pool: Pool, name: str) -> None:
    array = np.arange(100).astype(name)
    bound = bind(array, pool, read=True, write=False)
    assert DTYPES[describe(array).dtype] == DTYPES[name]
    assert place_of(bound)[0] == 7
    assert span_of(pool, bound).tobytes() == array.tobytes()
    bound.finish(True)


ARRAYS: dict[str, Callable[[], npt.NDArray[Any]]] = {
    "contiguous": lambda: np.arange(24.0).reshape(2, 3, 4),
    "fortran": lambda: np.asfortranarray(np.arange(24.0).reshape(4, 6)),
    "strided": lambda: np.arange(48.0).reshape(6, 8)[::2, 1::3],
    "reversed": lambda: np.arange(10, dtype=np.int32)[::-1],
    "transposed": lambda: np.arange(12, dtype=np.float32).reshape(3, 4).T,
    "zero-dimensional": lambda: np.array(5.0),
    "empty": lambda: np.zeros((3, 0, 2)),
    "unaligned": lambda: np.frombuffer(bytearray(81), np.uint8)[1:].view(np.float64),
}


@pytest.mark.parametrize("kind", ARRAYS)
@pytest.mark.parametrize("readonly", [False, True])
def test_any_layout_is_read_and_written_in_place(pool: Pool, kind: str, readonly: bool) -> None:
    array = ARRAYS[kind]()
    expected = flipped(array)
    array.flags.writeable = not readonly
    bound = bind(array, pool, read=True, write=True)
    assert span_of(pool, bound).tobytes() == array.tobytes()
    bound.finish(False)
    negate(pool, array)
    assert array.tobytes() == expected.tobytes()


def test_neighbours_of_a_view_stay(pool: Pool) -> None:
    base = np.arange(20, dtype=np.int64)
    negate(pool, base[5:15:3])
    untouched = np.delete(np.arange(20), np.arange(5, 15, 3))
    assert (base[untouched] == untouched).all()


def test_failure_leaves_the_tensor_alone(pool: Pool) -> None:
    array = np.arange(10.0)
    bound = bind(array, pool, read=True, write=True)
    span_of(pool, bound)[:] = 0
    bound.finish(False)
    assert (array == np.arange(10.0)).all()


def test_what_is_only_read_is_not_written(pool: Pool) -> None:
    array = np.arange(10.0)
    bound = bind(array, pool, read=True, write=False)
    span_of(pool, bound)[:] = 0
    bound.finish(True)
    assert (array == np.arange(10.0)).all()


def test_staging_blocks_are_given_back(pool: Pool) -> None:
    for _ in range(100):
        negate(pool, np.zeros(100_000))
        with pytest.raises(TypeError):
            bind(np.zeros(3, complex), pool, read=True, write=True)
    assert pool.size_bytes == 4 << 20


def test_arena_arrays_are_not_copied(pool: Pool) -> None:
    array = pool.array((4, 5), np.float32)
    address = array.__array_interface__["data"][0]
    arena = pool._table[1][0]
    for view in (array, array[1:3], array[2], array.reshape(-1)[3:7]):
        bound = bind(view, pool, read=True, write=True)
        offset = view.__array_interface__["data"][0] - address
        assert arena.address + place_of(bound)[1] == address + offset
        assert place_of(bound)[2] == view.nbytes
    # These would have to be read in another order.
    for view in (array.T, array[:, 1:2]):
        bound = bind(view, pool, read=True, write=True)
        assert not address <= arena.address + place_of(bound)[1] < address + array.nbytes
        bound.finish(True)


def test_a_bound_keeps_an_arena_array_alive(pool: Pool) -> None:
    array = pool.array((100,), np.float32)
    address = array.__array_interface__["data"][0]
    bound = bind(array, pool, read=True, write=True)
    del array
    assert pool.array((100,), np.float32).__array_interface__["data"][0] != address
    bound.finish(True)


@pytest.mark.parametrize(
    "tensor",
    [
        [1.0, 2.0],
        3.0,
        np.float32(3),
        None,
        "text",
        np.zeros(3, complex),
        np.zeros(3, np.int16),
        np.zeros(3, object),
        np.zeros(3, ">f4"),
        np.zeros(3, [("a", np.float32)]),
        np.ma.masked_array(np.zeros(3)),
    ],
)
def test_what_is_no_tensor_is_a_type_error(pool: Pool, tensor: Any) -> None:
    with pytest.raises(TypeError, match=r"numpy\.ndarray, or torch\.Tensor .*float32"):
        bind(tensor, pool, read=True, write=True)


def test_shared_elements_cannot_be_written(pool: Pool) -> None:
    array = np.broadcast_to(np.arange(3.0), (4, 3))
    with pytest.raises(ValueError, match="share memory"):
        bind(array, pool, read=True, write=True)
    bind(array, pool, read=True, write=False).finish(True)


def test_a_file_mapped_read_only_cannot_be_written(pool: Pool, tmp_path: Path) -> None:
    path = tmp_path / "array"
    np.arange(1000.0).tofile(path)
    array = np.memmap(path, np.float64, "r")
    with pytest.raises(ValueError, match="may only read"):
        bind(array, pool, read=True, write=True)
    bind(array, pool, read=True, write=False).finish(True)


class TestTorch:
    """PyTorch tensors on the CPU."""

    @pytest.fixture(autouse=True)
    def torch(self) -> Any:
        self.t: Any = pytest.importorskip("torch", reason="PyTorch is not installed")

    @pytest.mark.parametrize("name", list(DTYPES))
    def test_every_dtype_travels(self, pool: Pool, name: str) -> None:
        tensor = self.t.arange(10).to(getattr(self.t, name))
        before = tensor.clone()
        bound = bind(tensor, pool, read=True, write=True)
        assert DTYPES[describe(tensor).dtype] == DTYPES[name]
        raw = before.view(self.t.uint8).numpy() if name != "bool" else before.numpy()
        assert span_of(pool, bound).tobytes() == raw.tobytes()
        span_of(pool, bound)[:] = 0
        bound.finish(True)
        assert not tensor.to(self.t.float64).any()

    def test_any_layout(self, pool: Pool) -> None:
        base = self.t.arange(24.0)
        for tensor in (
            base.reshape(4, 6).T,
            base[::3],
            base.reshape(2, 3, 4)[:, 1],
            self.t.tensor(5.0),
        ):
            expected = flipped(tensor.numpy().copy())
            negate(pool, tensor)
            assert tensor.numpy().tobytes() == expected.tobytes()

    def test_parameters_that_require_gradients(self, pool: Pool) -> None:
        parameter = self.t.nn.Parameter(self.t.ones(3))
        bound = bind(parameter, pool, read=True, write=True)
        span_of(pool, bound).view(np.float32)[:] = 5
        bound.finish(True)
        assert parameter.detach().tolist() == [5, 5, 5]
        assert parameter.requires_grad

    def test_tensors_of_an_arena_are_not_copied(self, pool: Pool) -> None:
        array = pool.array((10,), np.float32)
        bound = bind(self.t.from_numpy(array)[2:5], pool, read=True, write=True)
        assert (
            place_of(bound)[1]
            == array.__array_interface__["data"][0] - pool._table[1][0].address + 8
        )

    def test_what_does_not_work_says_so(self, pool: Pool) -> None:
        for tensor, text in [
            (self.t.zeros(3, device="meta"), "device meta"),
            (self.t.zeros(3, dtype=self.t.complex64), "complex64"),
            (self.t.zeros(3, 3).to_sparse(), "layout"),
        ]:
            with pytest.raises(TypeError, match=text):
                bind(tensor, pool, read=True, write=True)
        with pytest.raises(ValueError, match="share memory"):
            bind(self.t.zeros(1).expand(5), pool, read=True, write=True)
