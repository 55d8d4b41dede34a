"""Principal components and similarities beside numpy, loops, and planted curves."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from interp import HookedTransformerConfig, InputError
from interp.position_effects.curve import Curve, positional_power
from interp.position_effects.geometry import position_pca, position_similarity
from interp.position_effects.identities import sinusoidal_product
from interp.positions import SinusoidalPositions
from tests.interp.position_effects.planted import curve_of, noise, waves


@pytest.mark.parametrize(("n", "d"), [(9, 4), (5, 12)])
def test_components_are_those_of_the_covariance(n: int, d: int) -> None:
    table = noise(n, d) @ noise(d, d, seed=1)
    found = position_pca(Curve.of_table(table))
    values, vectors = np.linalg.eigh(np.cov(table.numpy(), rowvar=False, bias=True))
    kept = min(n - 1, d)
    assert found.variance.tolist() == pytest.approx(values[::-1][:kept].tolist())
    torch.testing.assert_close(found.reproducible, found.variance)
    for i in range(kept):
        cosine = float(found.directions[i] @ torch.from_numpy(vectors[:, ::-1][:, i].copy()))
        assert abs(cosine) == pytest.approx(1.0)
        assert float(found.scores[:, i].max()) == pytest.approx(
            float(found.scores[:, i].abs().max())
        )
    back = found.scores @ found.directions
    torch.testing.assert_close(back, table - table.mean(0))
    assert float(found.shares.sum()) == pytest.approx(1.0)
    assert found.effective_dimension == pytest.approx(
        float(found.variance.sum() ** 2 / found.variance.square().sum())
    )


def test_cross_validation_is_that_of_a_loop() -> None:
    x = waves(8, [8.0, 4.0], 6) + noise(10, 8, 6)
    curve = curve_of(x, 5)
    expected = np.zeros(6)
    for i in range(5):
        own = x[2 * i : 2 * i + 2].mean(0).numpy()
        others = np.delete(x.numpy(), [2 * i, 2 * i + 1], axis=0).mean(0)
        own, others = own - own.mean(0), others - others.mean(0)
        directions = np.linalg.svd(others)[2]
        expected += (others @ directions.T * (own @ directions.T)).mean(0) / 5
    assert position_pca(curve).reproducible.tolist() == pytest.approx(expected.tolist())


def test_planted_dimensions_are_counted_and_noise_is_not() -> None:
    """Two circles of equal size have four dimensions; the mean's noise fills thirty."""
    curve = curve_of(waves(40, [20.0, 8.0], 30) + 1.5 * noise(64, 40, 30), 8)
    found = position_pca(curve)
    assert found.effective_dimension == pytest.approx(4.0, rel=0.1)
    assert found.needed(0.9) == 4
    assert float(found.shares[:4].sum()) == pytest.approx(1.0, abs=0.1)
    assert abs(float(found.shares[4:].sum())) < 0.15
    raw = found.variance
    assert float(raw.sum().square() / raw.square().sum()) > 6
    # And on average.
    draws = [
        position_pca(curve_of(waves(40, [20.0, 8.0], 30) + 1.5 * noise(64, 40, 30, seed=i), 8))
        for i in range(100, 120)
    ]
    assert np.mean([each.effective_dimension for each in draws]) == pytest.approx(4.0, abs=0.15)
    assert math.isnan(position_pca(curve_of(noise(9, 6, 4), 3)).effective_dimension)
    assert found.positional == pytest.approx(positional_power(curve).positional)


def test_how_many_components_are_needed() -> None:
    found = position_pca(Curve.of_table(waves(16, [16.0, 4.0], 8)))
    assert [found.needed(share) for share in (0.2, 0.3, 0.75, 1.0)] == [1, 2, 3, 4]
    noisy = [position_pca(curve_of(noise(12, 6, 8, seed=seed), 4)) for seed in range(12)]
    hidden = [each for each in noisy if each.positional <= 0]
    assert hidden and all(each.needed(0.9) is None for each in hidden)
    with pytest.raises(InputError, match="share must"):
        found.needed(0.0)


@pytest.mark.parametrize("centred", [True, False])
def test_similarity_is_that_of_loops(centred: bool) -> None:
    x = waves(9, [5.0], 4, slope=0.1) + noise(12, 9, 4) + 2.0
    curve = curve_of(x, 3)
    found = position_similarity(curve, centred, longest=6)
    gram = curve.gram(centred)
    mean = curve.mean - curve.mean.mean(0) if centred else curve.mean
    within, products = 0.0, []
    for k in range(7):
        dots = [float(gram[t, t + k]) for t in range(9 - k)]
        cosines = [
            float(gram[t, t + k] / (mean[t].norm() * mean[t + k].norm())) for t in range(9 - k)
        ]
        assert float(found.dot[k]) == pytest.approx(np.mean(dots))
        assert float(found.dot_spread[k]) == pytest.approx(np.std(dots))
        assert float(found.cosine[k]) == pytest.approx(np.mean(cosines))
        assert float(found.cosine_spread[k]) == pytest.approx(np.std(cosines))
        assert float(found.correlation[k]) == pytest.approx(np.mean(dots) / float(found.dot[0]))
        if k:
            within += float(np.var(dots)) * len(dots)
            products += dots
    assert found.by_offset == pytest.approx(1 - within / (np.var(products) * len(products)))


@pytest.mark.parametrize("layout", ["interleaved", "halves"])
def test_sinusoidal_products_depend_on_the_distance_alone(layout: Any, assert_close: Any) -> None:
    cfg = HookedTransformerConfig(
        n_layers=0, d_model=32, n_ctx=8, n_heads=1, act_fn="relu", d_vocab=3, device="cpu",
        dtype=torch.float64, positional_embedding_type="sinusoidal", sinusoidal_layout=layout,
    )  # fmt: skip
    encoding = SinusoidalPositions(cfg)
    cpu = torch.device("cpu")
    found = position_similarity(Curve.of_table(encoding.table(100, cpu)[:100]), centred=False)
    frequencies = encoding.frequencies(cpu)
    assert_close(found.dot, sinusoidal_product(frequencies, found.offsets))
    assert float(found.dot_spread.max()) < 1e-10
    assert found.by_offset == pytest.approx(1.0, abs=1e-10)
    assert float(found.dot[0]) == pytest.approx(16.0)
    assert bool((found.dot[1:] < found.dot[0]).all())  # the fall-off around 0
    other = position_similarity(Curve.of_table(noise(100, 32)), centred=False)
    assert other.by_offset < 0.3


def test_noise_does_not_make_positions_alike_to_themselves() -> None:
    found = position_similarity(curve_of(noise(400, 12, 6), 20))
    assert abs(float(found.dot[0])) < 6 / 400 / 3  # the mean's own square would be 6 / 400


def test_bad_input_is_refused() -> None:
    curve = Curve.of_table(noise(5, 3))
    for longest in (5, -1):
        with pytest.raises(InputError, match="longest"):
            position_similarity(curve, longest=longest)
    assert math.isnan(position_similarity(curve, longest=0).by_offset)
