"""Shift maps: planted ones are recovered, random curves have none, R² are those of a loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp import InputError
from interp.position_effects.curve import Curve
from interp.position_effects.geometry import position_pca
from interp.position_effects.held_out import scattered
from interp.position_effects.identities import shift_rotation
from interp.position_effects.shift import fewest_pairs, fit_shift, given_shift_r2
from tests.interp.position_effects.planted import curve_of, noise, waves


@pytest.mark.parametrize("offset", [1, 3, 7])
def test_a_helix_is_moved_on_by_one_map(offset: int) -> None:
    """Two circles and a line are five dimensions: the map is exact where it has not been."""
    curve = Curve.of_table(waves(60, [9.0, 20.0], 12, slope=0.05))
    found = fit_shift(curve, offset, rank=5)
    assert (found.r2, found.r2_blocks) == pytest.approx((1.0, 1.0), abs=1e-8)
    assert found.r2_no_shift < 0.95 and found.r2_shuffled < 0.2
    assert found.pairs == 60 - offset
    x = curve.centred @ found.directions.T
    torch.testing.assert_close(x[:-offset] @ found.matrix.T + found.constant, x[offset:])


def test_of_circles_alone_it_is_a_rotation_by_their_angles() -> None:
    found = fit_shift(Curve.of_table(waves(72, [8.0, 24.0], 10)), 3, rank=4)
    assert found.stretches.tolist() == pytest.approx([1.0] * 4)
    angles = sorted({round(abs(float(v.angle())), 8) for v in torch.linalg.eigvals(found.matrix)})
    assert angles == pytest.approx([2 * math.pi * 3 / 24, 2 * math.pi * 3 / 8], abs=1e-7)


def test_a_sinusoidal_table_is_turned_by_its_closed_form() -> None:
    """The fitted map is R_k in the span of the table: here two fast pairs and no others."""
    frequencies = torch.tensor([1.0, 0.4], dtype=torch.float64)
    angles = torch.arange(40)[:, None] * frequencies
    table = torch.stack([angles.sin(), angles.cos()], -1).flatten(1)
    curve = Curve.of_table(table)
    rotation = shift_rotation(frequencies, 5)
    assert given_shift_r2(curve, 5, rotation) == pytest.approx(1.0, abs=1e-12)
    assert given_shift_r2(curve, 4, rotation) < 0.5
    found = fit_shift(curve, 5, rank=4)
    assert found.r2 == pytest.approx(1.0, abs=1e-10)
    in_span = found.directions @ rotation @ found.directions.T
    torch.testing.assert_close(found.matrix, in_span, rtol=0, atol=1e-8)


@pytest.mark.parametrize("offset", [1, 4, 5])
def test_a_curve_that_comes_back_every_five_positions_is_moved_on(offset: int) -> None:
    """Five places at the corners of a simplex: a map is known only where it has seen all five."""
    places = noise(5, 12)[torch.arange(47) % 5]
    found = fit_shift(Curve.of_table(places + 0.01 * noise(47, 12, seed=1)), offset, rank=4)
    assert found.r2 > 0.99 and found.r2_blocks > 0.99
    assert found.r2_shuffled < 0.2


def test_what_is_left_of_it_in_noise() -> None:
    curve = curve_of(waves(60, [9.0, 20.0], 12) + noise(64, 60, 12), 8)
    found = fit_shift(curve, 4, rank=4)
    assert 0.9 < found.r2 < 1.0
    assert found.r2 > found.r2_no_shift + 0.5


def test_positions_in_random_places_have_no_map() -> None:
    found = fit_shift(Curve.of_table(noise(60, 6)), 2, rank=6)
    assert found.r2 < 0.1 and found.r2_blocks < 0.1


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 6), st.integers(1, 4), st.integers(24, 40))
def test_held_out_r2_is_that_of_a_loop(offset: int, rank: int, n: int) -> None:
    curve = Curve.of_table(noise(n, 5, seed=n).cumsum(0))
    found = fit_shift(curve, offset, rank)
    x = position_pca(curve).scores[:, :rank].numpy()
    for fold_of, r2 in (
        (scattered(n).tolist().__getitem__, found.r2),
        (lambda t: t * 5 // n, found.r2_blocks),
    ):
        error = total = 0.0
        mean = x[offset:].mean(0)
        for t in range(n - offset):
            held = fold_of(t + offset)
            pairs = [
                s for s in range(n - offset) if fold_of(s) != held and fold_of(s + offset) != held
            ]
            assert len(pairs) >= fewest_pairs(n, offset)
            design = np.concatenate([x[pairs], np.ones((len(pairs), 1))], 1)
            weights = np.linalg.lstsq(design, x[[s + offset for s in pairs]], rcond=None)[0]
            error += ((x[t + offset] - np.append(x[t], 1) @ weights) ** 2).sum()
            total += ((x[t + offset] - mean) ** 2).sum()
        assert r2 == pytest.approx(1 - error / total, abs=1e-8)
    no_shift = ((x[offset:] - x[:-offset]) ** 2).sum() / ((x[offset:] - mean) ** 2).sum()
    assert found.r2_no_shift == pytest.approx(1 - no_shift)


def test_the_same_seed_gives_the_same_baseline() -> None:
    curve = Curve.of_table(noise(40, 4))
    first, again, other = (fit_shift(curve, 1, 3, seed=seed).r2_shuffled for seed in (0, 0, 1))
    assert first == again != other


def test_bad_input_is_refused() -> None:
    curve = Curve.of_table(noise(20, 8))
    with pytest.raises(InputError, match="offset must be below"):
        fit_shift(curve, 20)
    with pytest.raises(InputError, match="offset must be a whole"):
        fit_shift(curve, 0)
    with pytest.raises(InputError, match="rank must"):
        fit_shift(curve, 1, rank=0)
    with pytest.raises(InputError, match="needs 10 pairs"):
        fit_shift(curve, 6, rank=8)
    with pytest.raises(InputError, match=r"\[8, 8\]"):
        given_shift_r2(curve, 1, torch.eye(3))
