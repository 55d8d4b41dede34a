"""Squares without noise, beside all pairs of folds, formulas of statistics, and planted parts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp import HookedTransformer, InputError
from interp.position_effects.curve import Curve, independent, positional_power
from interp.position_effects.means import position_means
from tests.interp.position_effects.planted import curve_of, noise, waves


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 6), st.integers(1, 5), st.integers(1, 4), st.booleans())
def test_products_are_those_of_all_pairs_of_folds(k: int, n: int, d: int, centred: bool) -> None:
    x = noise(3 * k, n, d, seed=k + n)
    curve = curve_of(x, k)
    folds = [fold - fold.mean(0) if centred else fold for fold in curve.folds]
    expected = torch.zeros(n, n, dtype=torch.float64)
    for a, b in itertools.permutations(range(k), 2):
        expected += folds[a] @ folds[b].T / (k * (k - 1))
    torch.testing.assert_close(curve.gram(centred), expected, rtol=0, atol=1e-12)
    linear = noise(3, n, seed=9)
    rows = torch.zeros(3, dtype=torch.float64)
    for a, b in itertools.permutations(range(k), 2):
        products = (linear @ curve.folds[a]) * (linear @ curve.folds[b])
        rows += products.sum(-1) / (k * (k - 1))
    found = curve.squares(lambda y: linear @ y)
    torch.testing.assert_close(found, rows, rtol=0, atol=1e-12)


def test_with_a_fold_for_each_sequence_it_is_the_usual_correction() -> None:
    """Raw squares less the variance of the mean's noise: content / n, less what centring takes."""
    n = 9
    x = noise(n, 7, 4) + noise(n, 1, 4, seed=1) + waves(7, [3.0], 4)
    power = positional_power(curve_of(x, n))
    raw = (x.mean(0) - x.mean((0, 1))).square().sum(-1).mean()
    content = x.var(0).sum(-1).mean()
    kept_along = x.mean(1).var(0).sum()  # a sequence's own mean, which centring takes out
    correction = (content - kept_along) / n
    assert power.noise == pytest.approx(float(correction), abs=1e-12)
    assert power.positional == pytest.approx(float(raw - correction), abs=1e-12)
    assert power.content == pytest.approx(float(content), abs=1e-12)
    share = float((raw - correction) / (raw - correction + content))
    assert power.share == pytest.approx(share, abs=1e-12)


@pytest.mark.parametrize(
    ("size", "low", "high"), [(1.0, 0.8, 1.25), (0.2, 0.9, 1.7), (0, 1.2, 1.9)]
)
def test_a_planted_share_is_found_and_its_error_is_right(
    size: float, low: float, high: float
) -> None:
    """Over 150 draws: no bias, and a standard error that is the spread of the draws.

    Without any position it is √(2 · 7 / 6) = 1.53 times that.
    """
    signal = size * waves(12, [4.0, 12.0], 6)
    positional = float((signal - signal.mean(0)).square().sum(-1).mean())
    truth = positional / (positional + 6.0)  # noise of variance 1 in six entries
    found = [positional_power(curve_of(signal + noise(24, 12, 6, seed=i), 8)) for i in range(150)]
    shares = torch.tensor([power.share for power in found])
    spread = float(shares.std())
    assert abs(float(shares.mean()) - truth) < 4 * spread / math.sqrt(150)
    typical = math.sqrt(sum(power.stderr**2 for power in found) / 150)
    assert low < typical / spread < high
    # What would be said without the correction is more by content / n.
    raw = float(torch.tensor([power.positional + power.noise for power in found]).mean())
    assert raw - positional == pytest.approx(6 * 11 / 12 / 24, rel=0.1, abs=0.06 * size)


def test_jackknife_is_that_of_a_loop() -> None:
    x = waves(6, [3.0], 4) + noise(15, 6, 4)
    curve = curve_of(x, 5)
    content = float(curve.content_power.mean())
    shares = []
    for i in range(5):
        kept = [fold for j, fold in enumerate(curve.folds) if j != i]
        products = [
            float(((a - a.mean(0)) * (b - b.mean(0))).sum(-1).mean())
            for a, b in itertools.combinations(kept, 2)
        ]
        mean = sum(products) / len(products)
        shares.append(mean / (mean + content))
    middle = sum(shares) / 5
    expected = math.sqrt(4 / 5 * sum((share - middle) ** 2 for share in shares))
    assert positional_power(curve).stderr == pytest.approx(expected, abs=1e-12)
    assert math.isnan(positional_power(curve_of(x, 2)).stderr)


@pytest.mark.parametrize("direction", ["bidirectional", "causal"])
def test_a_model_without_positions(
    direction: str, make_model: Callable[..., HookedTransformer]
) -> None:
    """Nothing where every token sees all others; something once a causal mask tells places apart.

    At the embedding there is nothing either way (after the first layer of a causal model: Haviv et
    al. 2022).
    """
    model = make_model(
        positional_embedding_type="none", attention_dir=direction, n_ctx=32, d_model=24
    )
    tokens = torch.randint(31, (512, 24), generator=torch.Generator().manual_seed(0))
    names = ["blocks.0.hook_resid_pre", "blocks.1.hook_resid_post"]
    means = position_means(model, tokens, names, batch_size=256, folds=8)
    for name in names:
        power = positional_power(means.curve(name))
        nothing = direction == "bidirectional" or "pre" in name
        assert (abs(power.share) < 4 * power.stderr) == nothing, (name, power)
        # Without the correction there would seem to be position everywhere.
        assert power.positional + power.noise > 0.3 * power.content / 512
    assert power.noise > 0


def test_a_table_has_no_noise() -> None:
    table = waves(10, [5.0], 4)
    power = positional_power(Curve.of_table(table))
    expected = float((table - table.mean(0)).square().sum(-1).mean())
    assert (power.share, power.stderr, power.content) == (1.0, 0.0, 0.0)
    assert power.positional == pytest.approx(expected, abs=1e-12)
    assert abs(power.noise) < 1e-12


def test_leading_positions_can_be_left_out() -> None:
    x = noise(8, 6, 3)
    curve, cut = curve_of(x, 4), curve_of(x[:, 2:], 4)
    after = curve.after(2)
    assert after.positions.tolist() == [2, 3, 4, 5]
    assert after.after(3).positions.tolist() == [3, 4, 5]
    torch.testing.assert_close(after.mean, cut.mean)
    torch.testing.assert_close(after.gram(), cut.gram())
    assert positional_power(after).share == pytest.approx(positional_power(cut).share)
    for first in (5, 9, -1):
        with pytest.raises(InputError):
            curve.after(first)
    with pytest.raises(InputError, match="at least 2"):
        after.after(1)


def test_halves_are_disjoint_and_weighted_by_their_sequences() -> None:
    x = noise(7, 4, 3)  # folds of 1, 2, 2, 2
    curve = curve_of(x, 4)
    assert curve.sizes == (1, 2, 2, 2)
    even, odd = curve.halves()
    torch.testing.assert_close(even, x[[0, 3, 4]].mean(0))
    torch.testing.assert_close(odd, x[[1, 2, 5, 6]].mean(0))
    torch.testing.assert_close(curve.without_fold(2).mean, x[[0, 1, 2, 5, 6]].mean(0))


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match="two or more"):
        independent(torch.ones(1, 3), lambda x: x.square())
    for table in (torch.ones(3), torch.ones(3, 2, dtype=torch.long), torch.ones(0, 2)):
        with pytest.raises(InputError, match=r"\[pos, d\]"):
            Curve.of_table(table)


def test_rows_in_another_order() -> None:
    curve = curve_of(noise(8, 6, 3), 4).after(1)
    mixed = curve.in_order(torch.tensor([3, 0, 4]))
    assert torch.equal(mixed.mean, curve.mean[[3, 0, 4]])
    assert torch.equal(mixed.folds, curve.folds[:, [3, 0, 4]])
    assert torch.equal(mixed.content_power, curve.content_power[[3, 0, 4]])
    assert (mixed.first, mixed.sizes) == (1, curve.sizes)
    for order in ([5], [-1], []):
        with pytest.raises(InputError, match="order must hold rows in 0 … 4"):
            curve.in_order(torch.tensor(order, dtype=torch.long))
