"""What the benchmark in Ray says of figures is tested with figures that are known."""

import pytest
from bars import MISS, PASS, UNKNOWN, Results
from cases import KIB, MIB
from measure import Series
from ray_bars import ray_bars
from ray_cases import CONTESTANTS, SIZES, WORLDS, ray_cases
from ray_events import Event
from ray_tables import ray_page

# As many times as fast as the bars want at least.
_GOOD_US = {
    "objectstore": 100.0,
    "objectstore_sum": 120.0,
    "ray_gloo": 200.0,
    "ray_gloo_step": 250.0,
    "tutti_arena": 10.0,
    "tutti_plain": 10.0,
    "tutti_arena_step": 10.0,
    "tutti_plain_step": 20.0,
    "empty_step": 1.0,
}


def _run(but=None):
    """`but`: (contestant, bytes, actors) -> microseconds that are others."""
    found = []
    for world_size in WORLDS:
        for case in ray_cases(world_size):
            for name, us in _GOOD_US.items():
                taken_us = (but or {}).get((name, case.bytes, world_size), us)
                found.append(Series(case, name, rounds={"warm": [[1000 * taken_us] * 3] * 2}))
    return found


def _bar(series, *words):
    (bar,) = [bar for bar in ray_bars(Results(series)) if all(word in bar.name for word in words)]
    return bar


def test_all_contestants_have_figures_here():
    assert {each.name for each in CONTESTANTS} == set(_GOOD_US)


def test_the_largest_comes_first_and_tests_stop_early():
    assert [case.bytes for case in ray_cases(2)] == sorted(SIZES, reverse=True)
    assert [case.bytes for case in ray_cases(4, 16 * KIB)] == [16 * KIB, KIB]
    assert (min(SIZES), max(SIZES)) == (KIB, 256 * MIB)


def test_passes_at_the_bar():
    found = ray_bars(Results(_run()))
    assert [bar.name for bar in found if bar.verdict != PASS] == []
    assert len(found) == len({bar.name for bar in found}) == 32


_OLD_SUM = ("as fast as object store, new sum",)


@pytest.mark.parametrize(
    "contestant, size, us, words, value",
    [
        ("tutti_arena_step", 4 * MIB, 12.5, ("1 KiB to 256 MiB", "arena, by steps"), 8.0),
        ("tutti_arena", 256 * MIB, 12.5, ("1 KiB to 256 MiB", "Tutti, arena:"), 8.0),
        ("tutti_plain_step", 64 * KIB, 25, ("64 KiB to 16 MiB", "plain, by steps"), 4.0),
        ("tutti_plain_step", 64 * MIB, 50, ("64 MiB to 256 MiB", "plain, by steps"), 2.0),
        ("tutti_plain", 256 * MIB, 40, ("64 MiB to 256 MiB", "Tutti, plain:"), 2.5),
    ],
)
def test_the_worst_size_decides(contestant, size, us, words, value):
    series = _run({(contestant, size, 4): us})
    found = [
        bar
        for bar in ray_bars(Results(series))
        if all(word in bar.name for word in (*words, "4 actors")) and bar.name.endswith("store")
    ]
    assert [(bar.verdict, bar.value) for bar in found] == [(MISS, pytest.approx(value))]
    others = ("2 actors", *words, *_OLD_SUM)
    assert _bar(series, *others).verdict == PASS


@pytest.mark.parametrize(
    "contestant, size, us, words",
    [
        ("tutti_arena", KIB, 11, ("1 KiB,", "arena")),
        ("tutti_plain", KIB, 11, ("1 KiB,", "plain")),
        ("tutti_arena", 64 * MIB, 41, ("64 MiB,", "arena")),
        ("tutti_plain", 64 * MIB, 101, ("64 MiB,", "plain")),
    ],
)
def test_sizes_that_are_held_against_gloo(contestant, size, us, words):
    series = _run({(contestant, size, 2): us})
    assert _bar(series, "2 actors", "Gloo", *words).verdict == MISS
    assert _bar(series, "4 actors", "Gloo", *words).verdict == PASS


def test_a_size_that_was_not_measured_passes_no_bar():
    series = [each for each in _run() if each.case.bytes != 4 * MIB]
    assert _bar(series, "4 actors", "arena, by steps", "new sum").verdict == UNKNOWN
    assert _bar(series, "64 MiB,", "4 actors", "arena", "Gloo").verdict == PASS


def test_a_wrong_result_is_a_miss():
    series = _run()
    for each in series:
        if (each.contestant, each.case.bytes, each.case.world_size) == ("tutti_arena", KIB, 2):
            each.status = "wrong rank 1: element 0 is 0.0"
    bar = _bar(series, "1 KiB,", "2 actors", "arena", "Gloo")
    assert (bar.verdict, bar.value) == (MISS, None)
    assert "wrong rank 1" in bar.failed


_DOCUMENT = {
    "name": "ray",
    "started": "now",
    "busy_cores": 0.0,
    "machine": {"cores": 2},
    "plan": {"rounds": 2},
    "contestants": {"tutti_arena": "what it is"},
    "lanes": {"2 actors": "ring"},
}


def test_the_page():
    events = [
        Event("group", 4, "gloo", [3e6, 1e6, 2e6]),
        Event("group", 4, "tutti", [4e6]),
        Event("kill -9", 4, "gloo", [], "hangs for 60 s"),
        Event("kill -9", 4, "tutti", [5e6, 7e6]),
    ]
    series = _run()
    series[0].note = "one adds up (1.00 ms)"
    page = ray_page(_DOCUMENT, series, events, ray_bars(Results(series)))
    assert "| group, 4 actors | 2.00 ms (1.00 ms) | 4.00 ms (4.00 ms) |" in page
    assert "| kill -9, 4 actors | hangs for 60 s | 6.00 ms (5.00 ms) |" in page
    assert "* Ray's Gloo, kill -9: hangs for 60 s" in page
    assert "* object store, allreduce 256 MiB, 2 ranks: one adds up (1.00 ms)" in page
    assert "| 1 KiB | 10.0x | 5.00x | 10.0x | 10.0x | 12.0x | 6.00x |" in page
    assert "lanes, 2 actors: ring" in page
