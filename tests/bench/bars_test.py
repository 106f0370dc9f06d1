"""What the benchmark says of figures is tested with figures that are known."""

import bars
import pytest
import tables
from bars import Idle, Memory, Results, bars_of
from cases import KIB, LARGE, LATENCY, LATENCY_SIZES, MIB, OTHERS, SMALL, Case, cases, latency_cases
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


def test_what_broke_later_does_not_pass():
    case = Case("allreduce", MIB, 4)
    broken = _series(case, "tutti", 1, 1)
    broken.status = "a process has ended"
    results = Results([_series(case, "openmpi", 100, 100), broken])
    assert results.find(case, "tutti") is None
    name = f"{case}: times as fast as Open MPI"
    assert _verdicts(bars_of(results, None))[name] == (None, bars.UNKNOWN)


def test_memory_has_to_be_flat():
    flat, growing = Memory(10, 5000, 5100, 5100), Memory(10, 5000, 9000, 90_000)
    for memory, verdict in ((flat, bars.PASS), (growing, bars.MISS)):
        found = [bar for bar in bars_of(Results([]), memory) if "the daemon" in bar.name]
        assert [bar.verdict for bar in found if "idle" not in bar.name] == [verdict] * 2


def _latency(contestant, world_size, *rounds_us, but=None):
    """The same at all sizes, `but` other rounds at some."""
    return [
        _series(case, contestant, *(1000 * us for us in (but or {}).get(case.bytes, rounds_us)))
        for case in latency_cases(world_size)
    ]


def _latency_bar(series, *words):
    """The one bar of the latency whose name has all these words."""
    found = bars_of(Results(series), None)
    (bar,) = [bar for bar in found if all(word in bar.name for word in words)]
    return bar


_RING = "C++ over the ring"


def test_the_worst_size_decides_about_the_ring():
    words = (_RING, "2 ranks", "time of one")
    assert _latency_bar(_latency("tutti", 2, 10), *words).verdict == bars.PASS
    # Larger ones have no such bar.
    slow_large = _latency("tutti", 2, 10, but={MIB: [500]})
    assert _latency_bar(slow_large, *words).verdict == bars.PASS
    bar = _latency_bar(_latency("tutti", 2, 3, but={KIB: [10.1]}), *words)
    assert (bar.value, bar.note, bar.verdict) == (pytest.approx(10.1), "at 1 KiB", bars.MISS)


def test_a_bar_of_all_sizes_needs_all_sizes():
    series = [each for each in _latency("tutti", 2, 3) if each.case.bytes != 64]
    bar = _latency_bar(series, _RING, "2 ranks", "time of one")
    assert (bar.value, bar.verdict) == (None, bars.UNKNOWN)


@pytest.mark.parametrize("world_size, bound", [(2, 25), (4, 50)])
def test_judges_python_at_its_bars(world_size, bound):
    words = ("Python over the ring", f"{world_size} ranks", "time of one")
    for us, verdict in ((bound, bars.PASS), (bound + 0.1, bars.MISS)):
        assert _latency_bar(_latency("py_arena", world_size, us), *words).verdict == verdict


@pytest.mark.parametrize("world_size", [2, 4])
def test_python_has_to_be_ten_times_as_fast_as_torch(world_size):
    words = ("Python over the ring", f"{world_size} ranks", "torch.distributed")
    for us, verdict in ((10, bars.PASS), (10.1, bars.MISS)):
        series = [*_latency("torch_gloo", world_size, 100), *_latency("py_arena", world_size, us)]
        assert _latency_bar(series, *words).verdict == verdict


@pytest.mark.parametrize(
    "contestant, bare, title, bound",
    [("tutti", "bare_ring", "bare ring", 2), ("tutti_grpc", "bare_stream", "bare stream", 1.5)],
)
def test_a_lane_may_cost_so_much_more_than_a_bare_one(contestant, bare, title, bound):
    for us, verdict in ((10 * bound, bars.PASS), (10 * bound + 0.1, bars.MISS)):
        series = [*_latency(bare, 4, 10), *_latency(contestant, 4, us)]
        assert _latency_bar(series, f"a {title}", "4 ranks").verdict == verdict
    # By rounds 1 and 3, so 2; but 30 to 20 by what they took. And the other way round.
    series = [*_latency(bare, 4, 10, 10, 10), *_latency(contestant, 4, 10, 30, 10)]
    assert _latency_bar(series, f"a {title}", "4 ranks").value == pytest.approx(1)
    series = [*_latency(bare, 4, 10, 100), *_latency(contestant, 4, 30, 100)]
    by_rounds, by_medians = (1 / 3 + 1) / 2, 55 / 65
    wanted = 1 / min(by_rounds, by_medians)
    assert _latency_bar(series, f"a {title}", "4 ranks").value == pytest.approx(wanted)


def test_small_and_middle_sizes_are_judged_apart():
    series = [*_latency("openmpi", 4, 10), *_latency("tutti", 4, 8, but={64 * KIB: [12]})]
    small = _latency_bar(series, "4 B to 4 KiB, 4 ranks", _RING, "Open MPI")
    assert (small.value, small.verdict) == (pytest.approx(1.25), bars.PASS)
    middle = _latency_bar(series, "16 KiB to 1 MiB, 4 ranks", _RING, "Open MPI")
    assert (middle.note, middle.verdict) == ("at 64 KiB", bars.MISS)


def test_the_wrong_lane_is_a_miss_with_its_reason():
    why = "was told to take the lane ring, and has grpc"
    refused = [Series(case, "tutti", status=why) for case in latency_cases(4)]
    others = [*_latency("openmpi", 4, 10), *_latency("bare_ring", 4, 10)]
    found = [bar for bar in bars_of(Results([*refused, *others]), None) if _RING in bar.name]
    of_four = [bar for bar in found if "4 ranks" in bar.name]
    assert len(of_four) == 3
    assert {(bar.verdict, bar.failed) for bar in of_four} == {(bars.MISS, why)}
    table = "\n".join(tables.bars_table(of_four))
    assert why in table and bars.PASS not in table


def test_the_idle_daemon_costs_no_more_than_a_hundredth_of_a_core():
    verdicts = [
        (Idle(4, 3.0, 0.4), bars.PASS),
        (Idle(4, 3.0, 1.1), bars.MISS),
        (Idle(failed="was told to take the lane ring, and has grpc"), bars.MISS),
        (None, bars.UNKNOWN),
    ]
    for idle, verdict in verdicts:
        found = bars_of(Results([]), None, idle=idle)
        assert [bar.verdict for bar in found if "idle" in bar.name] == [verdict]


def test_the_latency_has_cases_of_its_own():
    found = latency_cases(4)
    assert tuple(case.bytes for case in found) == LATENCY_SIZES
    assert {case.section for case in found} == {LATENCY}
    assert all(case.temperatures() == ("warm",) for case in found)
    assert not set(found) & set(cases(_PARTS, LARGE))
    assert latency_cases(8) == []
    assert [case.bytes for case in latency_cases(2, SMALL)] == [4, 64, KIB, 4 * KIB]


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


def _document():
    of_run = {"name": "n", "machine": {}, "started": "", "busy_cores": 0, "plan": {}}
    return {**of_run, "contestants": {}, "lanes": {"latency, 2 ranks": "tutti_grpc grpc"}}


def test_says_what_was_wrong_once():
    cases_of = latency_cases(2)
    bad = [Series(case, "tutti", status="no ring") for case in cases_of[:3]]
    bad.append(Series(cases_of[3], "tutti", status="a process has ended"))
    good = _series(cases_of[0], "gloo", 1)
    page = tables.page(_document(), [*bad, good], [])
    assert page.endswith(
        "## Problems\n\n"
        "* Tutti, latency: allreduce 4 B, 2 ranks and 2 more: no ring\n"
        "* Tutti, latency: allreduce 4 KiB, 2 ranks: a process has ended\n"
    )
    assert "* lanes, latency, 2 ranks: tutti_grpc grpc" in page


def test_the_daemon_s_time_is_that_of_one_operation():
    series = _series(latency_cases(2)[0], "tutti", 1)
    assert series.daemon_ns_per_operation() is None
    series.daemon_ns, series.daemon_operations = 3000, 2
    assert series.daemon_ns_per_operation() == 1500
    assert "1.50 us" in tables.page(_document(), [series], [])
