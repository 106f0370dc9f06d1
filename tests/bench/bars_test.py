"""What the benchmark says of figures is tested with figures that are known."""

import bars
import pytest
import tables
from bars import Memory, Results, bars_of
from cases import LARGE, MIB, OTHERS, Case, cases
from measure import Series, ratio

_PARTS = {"allreduce", "operations"}


def _series(case, contestant, *rounds_ns, temperature="warm"):
    rounds = {temperature: [[float(each)] * 3 for each in rounds_ns]}
    return Series(case, contestant, rounds=rounds)


def _verdicts(found):
    return {bar.name: (bar.value, bar.verdict) for bar in found}


def test_compares_round_by_round():
    case = Case("allreduce", LARGE, 2)
    # The machine was twice as slow in the second round: both met it.
    slow, fast = _series(case, "gloo", 100, 200, 100), _series(case, "tutti", 10, 20, 10)
    assert ratio(slow, fast, "warm") == 10
    assert ratio(slow, fast, "cold") is None


def test_the_share_of_an_allreduce_is_the_kernel_s_time_by_its_own():
    case = Case("allreduce", LARGE, 4)
    results = Results([_series(case, "bare", 9), _series(case, "tutti", 10)])
    assert results.share(case, "tutti", "warm") == pytest.approx(0.9)


@pytest.mark.parametrize(
    "operation, world_size, units",
    [
        ("allreduce", 4, 8),
        ("reduce", 4, 5),
        ("broadcast", 4, 4),
        ("allgather", 4, 5),
        ("gather", 4, 2),
        ("scatter", 2, 2),
        ("reduce_scatter", 4, 5),
        ("all_to_all", 2, 4),
        ("sendrecv", 2, 2),
        ("sendrecv", 4, 4),
    ],
)
def test_what_an_operation_moves(operation, world_size, units):
    assert Case(operation, 1000, world_size).bytes_moved() == units * 1000


def test_the_share_of_another_operation_is_what_its_bytes_cost():
    broadcast, allreduce = Case("broadcast", LARGE, 2), Case("allreduce", LARGE, 2)
    # Half of the bytes of the allreduce: 4 at the kernel's bandwidth.
    results = Results([_series(allreduce, "bare", 8), _series(broadcast, "tutti", 5)])
    assert results.share(broadcast, "tutti", "warm") == pytest.approx(0.8)


def test_one_good_round_passes_no_bar():
    case = Case("allreduce", MIB, 4)
    results = Results([_series(case, "openmpi", 10, 100), _series(case, "tutti", 2, 100)])
    # By rounds 5 and 1, so 3; but 55 to 51 by what they took.
    assert results.ratio(case, "openmpi", "tutti", "warm") == 3
    assert results.times(case, "openmpi", "tutti", "warm") == pytest.approx(55 / 51)


def test_judges_at_the_bar():
    case = Case("allreduce", MIB, 4)
    for tutti_ns, verdict in ((50, bars.PASS), (51, bars.MISS)):
        results = Results([_series(case, "openmpi", 100), _series(case, "tutti", tutti_ns)])
        name = f"{case}: times as fast as Open MPI"
        assert _verdicts(bars_of(results, None))[name][1] == verdict


def test_what_was_not_measured_does_not_pass():
    broken = Series(Case("allreduce", LARGE, 2), "tutti", status="a process has ended")
    found = bars_of(Results([broken]), None)
    assert {bar.verdict for bar in found} == {bars.UNKNOWN}


def test_memory_has_to_be_flat():
    flat, growing = Memory(10, 5000, 5100, 5100), Memory(10, 5000, 9000, 90_000)
    assert [bar.verdict for bar in bars_of(Results([]), flat)[-2:]] == [bars.PASS] * 2
    assert [bar.verdict for bar in bars_of(Results([]), growing)[-2:]] == [bars.MISS] * 2


def test_the_largest_comes_first_and_gets_new_memory():
    found = cases(_PARTS, LARGE)
    for world_size in (2, 4, 8):
        sizes = [
            case.bytes
            for case in found
            if (case.operation, case.world_size) == ("allreduce", world_size)
        ]
        assert sizes[0] == LARGE and sizes == sorted(sizes, reverse=True)
    assert {case.operation for case in found} == {"allreduce", *OTHERS}


@pytest.mark.parametrize(
    "nanoseconds, text",
    [(None, "-"), (7, "7 ns"), (1500, "1.50 us"), (12_340_000, "12.3 ms"), (2e9, "2.00 s")],
)
def test_writes_times(nanoseconds, text):
    assert tables.duration(nanoseconds) == text
