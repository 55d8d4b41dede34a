"""Groups of positions: every one in one of five, equally many, and how they lie."""

from __future__ import annotations

import pytest
import torch

from interp.position_effects.held_out import FOLDS, blocks, scattered


@pytest.mark.parametrize("n", [16, 47, 64, 201])
def test_groups_are_of_equal_size(n: int) -> None:
    for fold in (scattered(n), blocks(n)):
        sizes = torch.bincount(fold, minlength=FOLDS).tolist()
        assert sum(sizes) == n and len(sizes) == FOLDS and max(sizes) - min(sizes) <= 1
    assert torch.equal(scattered(n), scattered(n))
    assert bool((blocks(n).diff() >= 0).all())


@pytest.mark.parametrize("cycle", [2, 3, 5, 10])
def test_no_place_of_a_cycle_is_held_out_whole(cycle: int) -> None:
    for n in (46, 47, 48, 64, 128):
        place, fold = torch.arange(n) % cycle, scattered(n)
        for i in range(FOLDS):
            assert set(place[fold != i].tolist()) == set(range(cycle))
