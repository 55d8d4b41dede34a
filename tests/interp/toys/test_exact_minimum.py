"""Descents by the exact loss against minima that are known."""

from __future__ import annotations

import pytest
import torch

from interp.errors import InputError
from interp.toys.exact_loss import exact_loss, feature_variance
from interp.toys.exact_minimum import minimise_exactly

fp64 = torch.float64


def test_two_features_in_one_dimension() -> None:
    p = torch.tensor([0.02, 0.3, 0.3, 0.6], dtype=fp64)
    importance = torch.tensor([[1.0, 1.0], [1.0, 0.05], [0.05, 1.0], [1.0, 0.4]], dtype=fp64)
    found = minimise_exactly(p, importance, d_hidden=1)
    assert float(found.gradient.max()) <= 1e-6
    assert torch.equal(found.loss, found.losses.min(1).values)
    again = exact_loss(found.W, found.b, p[:, None], importance)
    assert float((again - found.loss).abs().max()) <= 1e-12
    # Very sparse: an antipodal pair, which costs p²/6 for each feature to leading order.
    W = found.W[0, 0]
    assert float(W[0] * W[1]) == pytest.approx(-1.0, abs=0.01)
    assert 0.98 < float(found.loss[0]) / (0.02**2 / 3) < 1.0
    # A feature of little importance is left out and costs its variance.
    for site, left_out in ((1, 1), (2, 0), (3, 1)):
        least = importance[site].min() * feature_variance(p[site])
        assert float((found.loss[site] - least).abs()) <= 1e-10
        assert float(found.W[site, 0, left_out].abs()) <= 1e-3
        assert float(found.W[site, 0, 1 - left_out].abs()) == pytest.approx(1.0, abs=1e-4)
        assert float(found.b[site, left_out]) == pytest.approx(float(p[site]) / 2, abs=1e-4)


def test_enough_dimensions_cost_nothing() -> None:
    found = minimise_exactly(torch.tensor([0.5], dtype=fp64), torch.ones(1, 2, dtype=fp64), 2, 4)
    assert float(found.loss) <= 1e-10
    assert float((found.W[0].T @ found.W[0] - torch.eye(2)).abs().max()) <= 1e-4


def test_seeds() -> None:
    p, importance = torch.tensor([0.4], dtype=fp64), torch.ones(1, 2, dtype=fp64)
    one, same, other = (minimise_exactly(p, importance, 1, 3, seed) for seed in (1, 1, 2))
    assert torch.equal(one.losses, same.losses)
    assert not torch.equal(one.losses, other.losses)


def test_bad_input() -> None:
    with pytest.raises(InputError, match=r"density must be \[site\] and importance"):
        minimise_exactly(torch.ones(2), torch.ones(1, 2), 1)
    with pytest.raises(InputError, match=r"at most 4 features. Received 5"):
        minimise_exactly(torch.ones(1), torch.ones(1, 5), 1)
    with pytest.raises(InputError, match="density must lie above 0"):
        minimise_exactly(torch.zeros(1), torch.ones(1, 2), 1)
    with pytest.raises(InputError, match="d_hidden must be a whole number"):
        minimise_exactly(torch.ones(1), torch.ones(1, 2), 0)
