"""Batches of worlds: complete, within their memory, and of the least cost."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.patching import schedule as module
from interp.patching.schedule import Batch, schedule

CPU = torch.device("cpu")


def cost(batches: list[Batch], layer: np.ndarray, n_layers: int, end: int, smallest: int) -> int:
    """Σ over batches and layers of max(rows, smallest), with one prompt."""
    total = 0
    for batch in batches:
        for at in range(n_layers):
            running = int((layer[batch.worlds] <= at).sum())
            total += max(running * (end - batch.start), smallest) if running else 0
    return total


@settings(max_examples=60, deadline=None)
@given(
    worlds=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), min_size=1, max_size=12),
    smallest=st.sampled_from([1, 5, 20, 1000]),
)
def test_the_cheapest_way_to_split_positions(worlds: list[tuple[int, int]], smallest: int) -> None:
    first, layer = (np.array(column) for column in zip(*worlds, strict=True))
    numbers = np.arange(len(worlds))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(module.SMALLEST, "cpu", smallest)
        found = schedule(numbers, first, layer, 3, 1, 6, CPU, 1, 0, 10**9)
    assert sorted(np.concatenate([b.worlds for b in found]).tolist()) == numbers.tolist()
    assert all(b.start == first[b.worlds].min() for b in found)
    starts = sorted(set(first.tolist()))
    costs = []
    for n in range(len(starts)):
        for cuts in combinations(starts[1:], n):
            bounds = [starts[0], *cuts, 6]
            ranges = list(pairwise(bounds))
            batches = [Batch(numbers[(first >= a) & (first < b)], a) for a, b in ranges]
            costs.append(cost(batches, layer, 3, 6, smallest))
    assert cost(found, layer, 3, 6, smallest) == min(costs)


def test_memory_bounds_a_batch() -> None:
    first = np.repeat(np.arange(4), 10)
    layer = np.tile(np.arange(10), 4)
    found = schedule(np.arange(40), first, layer, 12, 2, 8, CPU, 100, 0, 16_000)
    # Two prompts of at most eight positions: 1600 bytes for a world from the start.
    assert all(len(b.worlds) * 2 * (8 - b.start) * 100 <= 16_000 for b in found)
    keys = schedule(np.arange(40), first, layer, 12, 2, 8, CPU, 100, 500, 32_000)
    for b in keys:
        # Behind a prefix a world has keys and values of all eight positions.
        per_world = 2 * ((8 - b.start) * 100 + (8 * 500 if b.start else 0))
        assert len(b.worlds) * per_world <= 32_000
    alone = schedule(np.arange(40), first, layer, 12, 2, 8, CPU, 100, 0, 1)
    assert [len(b.worlds) for b in alone] == [1] * 40


def test_many_positions_are_all_there() -> None:
    numbers = np.arange(3000)
    found = schedule(numbers, numbers, numbers % 3, 3, 1, 3000, CPU, 1, 0, 10**9)
    assert sorted(np.concatenate([b.worlds for b in found]).tolist()) == numbers.tolist()
    assert all(b.start == b.worlds.min() for b in found)
    assert len(found) > 10


def test_no_worlds() -> None:
    empty = np.zeros(0, dtype=np.int64)
    assert schedule(empty, empty, empty, 3, 1, 6, CPU, 1, 0, 10**9) == []
