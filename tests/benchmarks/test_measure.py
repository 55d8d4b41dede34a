"""Timing in turns, and peaks of memory that are known beforehand."""

from __future__ import annotations

import gc
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from benchmarks.measure import Effort, Timing, bytes_of, difference, in_turns, peak_on_cpu

MIB = 2**20


@pytest.fixture(autouse=True, scope="module")
def few_objects_to_collect() -> None:
    """Measuring begins with a garbage collection, which need not look at what others left."""
    gc.collect()
    gc.freeze()


def mib(n: int) -> Tensor:
    return torch.empty(n, MIB, dtype=torch.uint8)


def test_peak_counts_what_is_held_at_once() -> None:
    outside = mib(64)

    def run() -> Tensor:
        first = mib(4)
        second = mib(2)
        del first
        third = mib(8)  # 2 + 8 is the peak: the first is gone
        del second
        return third

    assert peak_on_cpu(run) == 10 * MIB
    del outside


def test_peak_counts_what_operations_allocate_inside() -> None:
    x = torch.ones(MIB // 4)
    # x + 1 and then its double: two tensors of 1 MiB at once, of which one is returned.
    # (And a few bytes for the numbers.)
    assert 0 <= peak_on_cpu(lambda: (x + 1) * 2) - 2 * MIB < 1024
    assert peak_on_cpu(lambda: x[:10]) == 0


@settings(max_examples=6)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 5)), min_size=3, max_size=12))
def test_peak_is_that_of_a_plain_count(steps: list[tuple[bool, int]]) -> None:
    def run() -> None:
        kept: list[Tensor] = []
        for frees, size in steps:
            if frees and kept:
                kept.pop()
            else:
                kept.append(torch.empty(size, 4096, dtype=torch.uint8))

    held: list[int] = []
    peak = 0
    for frees, size in steps:
        if frees and held:
            held.pop()
        else:
            held.append(size * 4096)
        peak = max(peak, sum(held))
    assert peak_on_cpu(run) == peak


def test_shared_memory_counts_once() -> None:
    x = torch.zeros(10, 3)
    assert bytes_of([x, x[2:], x.T, x.expand(5, 10, 3)]) == 10 * 3 * 4
    assert bytes_of([x, x.clone()]) == 2 * 10 * 3 * 4


def test_difference_by_hand() -> None:
    expected = torch.tensor([0.5, -4.0])
    assert difference(torch.tensor([0.5, -3.0]), expected) == 0.25
    assert difference(torch.tensor([0.1]), torch.tensor([0.2])) == pytest.approx(0.1)
    with pytest.raises(ValueError, match="shapes"):
        difference(torch.zeros(2), torch.zeros(1, 2))
    for wrong in (torch.tensor([torch.nan, -4.0]), torch.tensor([0.5, torch.nan])):
        with pytest.raises(ValueError, match="NaN"):
            difference(wrong, expected)


def test_jobs_take_turns_and_each_begins() -> None:
    calls: list[str] = []
    runs = {name: (lambda name=name: calls.append(name)) for name in "abc"}
    effort = Effort(seconds=1e-9, at_least=3, warmups=2)
    found = in_turns(runs, dict.fromkeys("abc", 0.0), "cpu", effort)
    assert calls == [*"abc", *"abc", *"bca", *"cab"]  # one more warm-up, then three rounds
    assert all(len(timing.milliseconds) == 3 for timing in found.values())


def test_first_calls_of_long_jobs_count_but_not_of_compiled_ones() -> None:
    calls: list[str] = []
    runs = {"long": lambda: calls.append("long"), "fast": lambda: calls.append("fast")}
    effort = Effort(seconds=1.0, at_least=2, at_most=2)
    found = in_turns(runs, {"long": 9.0, "fast": 0.5}, "cpu", effort)
    assert calls == ["long", "fast"]
    assert found["long"].milliseconds[0] == 9000.0 and found["fast"].milliseconds[0] == 500.0
    calls.clear()
    found = in_turns(runs, {"long": 9.0, "fast": None}, "cpu", effort)
    assert len(calls) == 6 and max(found["long"].milliseconds) < 1000.0


def test_what_is_slower_is_found_slower() -> None:
    runs = {"sleeps": lambda: time.sleep(0.02), "does nothing": lambda: None}
    found = in_turns(runs, dict.fromkeys(runs, 0.02), "cpu", Effort(0.1, at_least=3))
    assert found["sleeps"].median >= 20.0
    timing = Timing([1.0, 2.0, 3.0, 4.0, 100.0])
    assert timing.median == 3.0 and timing.quartiles == (2.0, 4.0)
