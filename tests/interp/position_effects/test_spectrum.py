"""Spectra, helices and circles: planted ones are found, and numbers are those of numpy."""

from __future__ import annotations

import itertools
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
from interp.position_effects.spectrum import (
    component_circles,
    even_periods,
    find_periods,
    fit_helix,
    periodogram,
    position_spectrum,
)
from tests.interp.position_effects.planted import curve_of, noise, orthonormal, waves


def residual(columns: list[np.ndarray], y: np.ndarray) -> float:
    design = np.stack(columns, -1)
    return float(((y - design @ np.linalg.lstsq(design, y, rcond=None)[0]) ** 2).sum())


@settings(max_examples=20, deadline=None)
@given(st.integers(3, 20), st.integers(1, 4), st.booleans())
def test_spectrum_is_that_of_numpy_and_sums_to_the_power(n: int, d: int, detrend: bool) -> None:
    table = noise(n, d, seed=n) + torch.arange(n)[:, None] * 0.3
    found = position_spectrum(Curve.of_table(table), detrend)
    y, t = table.numpy(), np.arange(n)
    columns = [np.ones(n), t.astype(float)][: 2 if detrend else 1]
    design = np.stack(columns, -1)
    rest = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
    full = np.abs(np.fft.fft(rest, axis=0)) ** 2 / n**2
    folded = [
        full[k].sum() + (full[n - k].sum() if 2 * k != n else 0) for k in range(1, n // 2 + 1)
    ]
    assert found.power.tolist() == pytest.approx(folded, abs=1e-10)
    total = float(((y - y.mean(0)) ** 2).sum(-1).mean())
    assert found.total == pytest.approx(total)
    assert found.trend + float(found.power.sum()) == pytest.approx(total)
    assert found.trend == pytest.approx(total - (rest**2).sum() / n, abs=1e-10)
    assert found.period.tolist() == pytest.approx([n / k for k in range(1, n // 2 + 1)])


def test_noise_has_no_spectrum_and_a_planted_wave_has_one() -> None:
    quiet = position_spectrum(curve_of(noise(64, 30, 8), 8))
    assert float(quiet.power.abs().max()) < 8 / 64 / 15  # each frequency's part of the raw noise
    found = position_spectrum(curve_of(waves(30, [6.0], 8) + noise(64, 30, 8), 8), detrend=False)
    assert int(found.frequency[found.power.argmax()]) == 5
    assert float(found.power[4]) == pytest.approx(1.0, abs=0.1)
    assert abs(float(found.power.sum() - found.power[4])) < 0.1


def test_periodogram_is_what_least_squares_gains() -> None:
    table = noise(17, 3) + waves(17, [4.3], 3)
    y, t = table.numpy(), np.arange(17.0) + 2
    curve = Curve.of_table(torch.cat([noise(2, 3, seed=5), table])).after(2)
    line = [np.ones(17), t]
    before = residual(line, y)
    total = ((y - y.mean(0)) ** 2).sum()
    periods = [2.0, 2.7, 4.3, 11.0, 17.0]
    for period, share in zip(periods, periodogram(curve, periods).tolist(), strict=True):
        angle = 2 * np.pi * t / period
        gained = before - residual([*line, np.cos(angle), np.sin(angle)], y)
        assert share == pytest.approx(gained / total, abs=1e-10), period
    alone = periodogram(curve, [4.3], linear=False)
    angle = 2 * np.pi * t / 4.3
    gained = total - residual([np.ones(17), np.cos(angle), np.sin(angle)], y)
    assert float(alone) == pytest.approx(gained / total)


def test_planted_periods_are_found_in_noise() -> None:
    """Neither divides the number of positions; there is a slope as well."""
    signal = waves(61, [7.3, 19.0], 12, slope=0.05)
    curve = curve_of(signal + 2 * noise(64, 61, 12), 8)
    found = sorted(find_periods(curve, 2))
    assert found == pytest.approx([7.3, 19.0], rel=0.02)
    helix = fit_helix(curve, [7.3, 19.0])
    assert helix.r2 == pytest.approx(1.0, abs=0.03)
    assert helix.r2_held_out == pytest.approx(1.0, abs=0.05)
    assert helix.circularity.tolist() == pytest.approx([1.0, 1.0], abs=0.15)
    assert float(helix.slope.norm()) == pytest.approx(0.05, rel=0.1)
    wrong = fit_helix(curve, [3.1, 29.0])
    assert wrong.r2 < 0.6 and wrong.r2_held_out < 0.6


def test_found_periods_are_a_turn_apart() -> None:
    """A bend is no crowd of almost equal waves."""
    bend = torch.linspace(0, 1, 40, dtype=torch.float64)[:, None].square() * noise(1, 5)
    turns = sorted(40 / period for period in find_periods(Curve.of_table(bend), 4))
    assert all(b - a >= 1 for a, b in itertools.pairwise(turns))
    with pytest.raises(InputError, match="a turn apart"):
        find_periods(Curve.of_table(bend), 2, [10.0, 10.1])


def test_helix_is_recovered_exactly_and_held_out_r2_is_that_of_a_loop() -> None:
    axes = orthonormal(5, 6)
    t = torch.arange(3, 28, dtype=torch.float64)
    angle = 2 * math.pi * t / 6.5
    exact = 4 + 0.2 * t[:, None] * axes[4] + 2 * angle.cos()[:, None] * axes[0]
    exact = exact + 2 * angle.sin()[:, None] * axes[1]
    curve = Curve.of_table(torch.cat([torch.zeros(3, 6, dtype=torch.float64), exact])).after(3)
    helix = fit_helix(curve, [6.5])
    assert (helix.r2, helix.r2_held_out) == pytest.approx((1.0, 1.0), abs=1e-10)
    torch.testing.assert_close(helix.cosine[0], 2 * axes[0])
    torch.testing.assert_close(helix.sine[0], 2 * axes[1])
    torch.testing.assert_close(helix.slope, 0.2 * axes[4])
    torch.testing.assert_close(helix.constant, torch.full((6,), 4.0, dtype=torch.float64))
    assert helix.circularity.tolist() == pytest.approx([1.0])

    noisy = exact + noise(25, 6)
    helix = fit_helix(Curve.of_table(torch.cat([exact[:3], noisy])).after(3), [6.5], linear=False)
    design = np.stack([np.ones(25), np.cos(angle.numpy()), np.sin(angle.numpy())], -1)
    y = noisy.numpy()
    total = ((y - y.mean(0)) ** 2).sum()
    assert helix.r2 == pytest.approx(1 - residual(list(design.T), y) / total)
    missed = 0.0
    folds = scattered(25).numpy()
    for i in range(5):
        out = folds == i
        weights = np.linalg.lstsq(design[~out], y[~out], rcond=None)[0]
        missed += ((y[out] - design[out] @ weights) ** 2).sum()
    assert helix.r2_held_out == pytest.approx(1 - missed / total)
    assert float(helix.slope.abs().max()) == 0


def test_a_line_that_swings_is_no_circle() -> None:
    t = torch.arange(24, dtype=torch.float64)[:, None]
    swing = (2 * math.pi * t / 8 + 0.7).cos() * noise(1, 4)
    assert fit_helix(Curve.of_table(swing), [8.0]).circularity.tolist() == pytest.approx(
        [0.0], abs=1e-10
    )


def test_circles_are_pairs_of_components() -> None:
    """Sizes differ, so that components come in pairs: the larger circle's, then the other's."""
    small, large = waves(60, [12.0], 8), 3 * waves(60, [20.0], 8, seed=1)
    scores = position_pca(Curve.of_table(small + large)).scores
    first, second, *rest = component_circles(scores, 4)
    assert {first.components, second.components} == {(0, 1), (2, 3)}
    by_pair = {circle.components: circle for circle in (first, second)}
    assert by_pair[0, 1].period == pytest.approx(20.0, rel=0.03)
    assert by_pair[2, 3].period == pytest.approx(12.0, rel=0.03)
    assert min(first.roundness, second.roundness) > 0.9
    assert len(rest) == 4 and max(circle.roundness for circle in rest) < 0.6
    in_step = torch.stack([scores[:, 0], -2 * scores[:, 0]], 1)
    assert component_circles(in_step)[0].roundness == pytest.approx(0.5, abs=0.05)


def test_roundness_is_that_of_a_loop() -> None:
    scores = noise(11, 2)
    found = component_circles(scores)[0]
    z = scores.numpy() - scores.numpy().mean(0)
    z = z / np.linalg.norm(z, axis=0)
    turning = z[:, 0] + 1j * z[:, 1]
    best = 0.0
    for sixteenths in range(16, 16 * 11 - 15):
        wave = np.exp(-2j * np.pi * sixteenths / 16 * np.arange(11) / 11)
        best = max(best, abs((turning * wave).sum()) ** 2 / (11 * 2))
    assert found.roundness == pytest.approx(best)


def refusals() -> list[tuple[object, str]]:
    curve = Curve.of_table(noise(12, 3))
    return [
        (lambda: periodogram(curve, []), "at least one"),
        (lambda: periodogram(curve, [1.9]), "two positions or more"),
        (lambda: periodogram(curve, [math.inf]), "number"),
        (lambda: periodogram(Curve.of_table(noise(4, 3)), [3.0]), "five or more"),
        (lambda: find_periods(curve, 4), "There are 9 of 12"),
        (lambda: find_periods(curve, 0), "n must be"),
        (lambda: fit_helix(curve, [3.0, 4.0, 5.0, 6.0]), "There are 9 of 12"),
        (lambda: even_periods(3), "n_positions"),
        (lambda: even_periods(8, 0), "per_turn"),
        (lambda: component_circles(noise(6, 3) * torch.tensor([1.0, 2, 0])), "must vary"),
        (lambda: component_circles(noise(6, 1)), "two or more"),
        (lambda: component_circles(noise(6, 3), 1), "n_components"),
    ]


@pytest.mark.parametrize(("call", "rule"), refusals())
def test_bad_input_is_refused(call: object, rule: str) -> None:
    assert callable(call)
    with pytest.raises(InputError, match=rule):
        call()


@pytest.mark.parametrize(("n", "per_turn"), [(50, 8), (47, 4), (9, 1)])
def test_periods_are_equally_far_apart_in_turns(n: int, per_turn: int) -> None:
    periods = even_periods(n, per_turn)
    steps = np.diff([n / period for period in periods])
    assert steps.tolist() == pytest.approx([-1 / per_turn] * len(steps))
    assert periods[-1] == n and 2 <= periods[0] <= 2 * n / (n - 1)


@pytest.mark.parametrize("period", [2.5, 3.3, 5.0, 101.7])
def test_no_wave_falls_between_the_periods_tried(period: float) -> None:
    """Over 512 positions the wave of period 3.3 is not seen at 3.33, which turns once more."""
    curve = curve_of(waves(512, [period], 4) + noise(32, 512, 4), 4)
    (found,) = find_periods(curve, 1)
    assert abs(512 / found - 512 / period) <= 1 / 16 + 0.02
    assert fit_helix(curve, [found]).r2 > 0.97 * fit_helix(curve, [period]).r2
    assert float(periodogram(curve, even_periods(512, 4)).max()) > 0.93


def test_held_out_positions_are_not_one_place_of_a_cycle() -> None:
    """Without every fifth position a curve that comes back every five would be known nowhere."""
    signal = waves(47, [5.0, 2.5, 10.0], 8) + 0.1 * noise(47, 8)
    for periods in ([5.0, 2.5, 10.0], [4.99, 2.49, 9.98]):
        helix = fit_helix(Curve.of_table(signal), periods)
        assert helix.r2 > 0.95 and helix.r2_held_out > helix.r2 - 0.03
