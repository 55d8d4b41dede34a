"""The phase diagrams' theory against free descents, mirror images and the paper; linear models."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor

from interp.errors import InputError
from interp.probes.lbfgs import minimise
from interp.toys.exact_loss import exact_loss, feature_variance
from interp.toys.exact_minimum import minimise_exactly
from interp.toys.polytopes import pentagon, triangle
from interp.toys.theory import (
    REGIONS,
    MinimumLossRegions,
    classify,
    linear_minimum,
    minimum_loss_regions,
    principal_components_loss,
)

fp64 = torch.float64
_DENSITIES = (0.02, 0.2, 0.45, 0.7, 1.0)
_IMPORTANCES = (0.12, 0.4, 0.8, 1.0, 1.9, 5.0)


@cache
def _regions(n_features: int) -> MinimumLossRegions:
    return minimum_loss_regions(_DENSITIES, _IMPORTANCES, n_features, n_features - 1)


def _sites(regions: MinimumLossRegions) -> tuple[Tensor, Tensor]:
    """Density and importance of each feature at each point of the grid."""
    n_features = regions.W.shape[-1]
    p, extra = torch.meshgrid(regions.densities, regions.relative_importances, indexing="ij")
    importance = torch.ones(p.numel(), n_features, dtype=fp64)
    importance[:, -1] = extra.flatten()
    return p.flatten(), importance


@pytest.mark.parametrize("n_features", [2, 3])
def test_solutions_have_the_losses_and_the_fates_that_are_said(
    n_features: int, assert_close: Callable[..., None]
) -> None:
    regions = _regions(n_features)
    p, importance = _sites(regions)
    losses = exact_loss(regions.W.flatten(0, 1), regions.b.flatten(0, 1), p[:, None], importance)
    assert_close(losses, regions.losses.amin(0).flatten())
    for region in range(3):
        of_region = [k for k, one in enumerate(regions.candidate_regions) if one == region]
        others = [k for k, one in enumerate(regions.candidate_regions) if one != region]
        here = regions.region == region
        margin = (regions.losses[others].amin(0) - regions.losses[of_region].amin(0))[here]
        assert_close(margin, regions.margin[here])
        assert bool((margin >= 0).all())
    clear = regions.relative_margin > 0.01
    assert int(clear.sum()) >= 25
    assert torch.equal(classify(regions.W)[clear], regions.region[clear])


@pytest.mark.parametrize("n_features", [2, 3])
def test_free_descents_find_nothing_better(n_features: int) -> None:
    regions = _regions(n_features)
    p, importance = _sites(regions)
    if n_features == 3:  # dear: a few points, of each fate, and the triangle's
        chosen = torch.tensor([1, 10, 18, 21])
        p, importance = p[chosen], importance[chosen]
    else:
        chosen = torch.arange(len(p))
    free = minimise_exactly(p, importance, n_features - 1, n_starts=6)
    least = regions.losses.amin(0).flatten()[chosen]
    assert float(((free.loss - least) / least).abs().max()) <= 1e-6
    clear = regions.relative_margin.flatten()[chosen] > 0.01
    assert torch.equal(classify(free.W)[clear], regions.region.flatten()[chosen][clear])
    if n_features == 3:
        assert set(regions.region.flatten()[chosen].tolist()) == {0, 1, 2}
        best = regions.candidates[int(regions.losses[:, 3, 3].argmin())]
        assert best == "all three in a plane, extra feature superposed"  # dense and alike


def test_flat_and_steep_triangles() -> None:
    """Where the extra feature is all but alone, or barely there, parts alone cost more."""
    regions = minimum_loss_regions([0.62, 0.8], [0.95, 1.25], 3, 2)
    for density, extra, fate in ((0, 1, "dedicated"), (1, 0, "not represented")):
        p, importance = (x[density * 2 + extra, None] for x in _sites(regions))
        free = minimise_exactly(p, importance, 2, n_starts=4)
        losses = regions.losses[:, density, extra]
        assert float((free.loss - losses.min()).abs() / free.loss) <= 1e-6
        best = regions.candidates[int(losses.argmin())]
        assert best == f"all three in a plane, extra feature {fate}"
        assert REGIONS[int(regions.region[density, extra])] == fate
        assert REGIONS[int(classify(free.W))] == fate
        assert float(losses.min()) < 0.996 * float(losses[:4].min())


def test_what_the_paper_shows() -> None:
    two, three = _regions(2), _regions(3)
    # Sparse: superposition, unless (n = 3) the extra feature counts more than the others.
    assert [REGIONS[k] for k in two.region[0]] == ["superposed"] * 6
    assert [REGIONS[k] for k in three.region[0]][:3] == ["superposed"] * 3
    assert [REGIONS[k] for k in three.region[0]][4:] == ["dedicated"] * 2
    # Dense: the more important ones win.
    for regions in (two, three):
        assert [REGIONS[k] for k in regions.region[4]][:3] == ["not represented"] * 3
        assert [REGIONS[k] for k in regions.region[4]][4:] == ["dedicated"] * 2
        # A feature that is not represented costs its importance times its variance.
        dense = regions.relative_importances * feature_variance(1.0)
        assert float((regions.losses[0, 4] - dense)[:3].abs().max()) <= 1e-10


def test_a_mirrored_grid_and_another_order(assert_close: Callable[..., None]) -> None:
    """(1, I) and (1, 1/I) are one problem; the theory uses that, so it is tried the long way."""
    regions = minimum_loss_regions([0.6, 0.15], [4.0, 0.25, 0.7])
    mirrored = minimum_loss_regions([0.15, 0.6], [0.25, 4.0, 1 / 0.7])
    scale = regions.relative_importances
    assert_close(regions.losses, mirrored.losses.flip(0, 1) * scale, tolerance=1e-9)
    assert torch.equal(regions.region, 2 - mirrored.region.flip(0))


def test_classify() -> None:
    def fate(W: list[list[float]] | Tensor, **options: float) -> str:
        return REGIONS[int(classify(torch.as_tensor(W), **options))]  # type: ignore[arg-type]

    assert fate([[1.0, 0.3]]) == "not represented"
    assert fate([[1.0, -0.7]]) == "superposed"
    assert fate([[0.3, 1.0]]) == "dedicated"
    assert fate([[0.3, 1.0]], feature=0) == "not represented"
    assert fate([[1.0, 0.3]], represented=0.2) == "superposed"
    assert fate([[0.0, 0.0]]) == "not represented"
    assert fate([[1.0, 0.0, 0.0], [0.0, 0.1, 0.4]]) == "not represented"
    assert fate(triangle()) == "superposed"
    assert fate(pentagon()) == "superposed"
    assert fate([[1.0, -1.0, 0.0], [0.0, 0.0, 1.0]]) == "dedicated"
    assert fate([[1.0, 0.0, 0.0], [0.0, 1.0, -0.9]]) == "superposed"
    both = torch.tensor([[[1.0, 0.3]], [[1.0, -0.7]]])
    assert classify(both).tolist() == [0, 1]
    assert classify(both * 7).tolist() == [0, 1]


def test_linear_models(assert_close: Callable[..., None]) -> None:
    """The best of several descents is what the top features give."""
    importance = 0.7 ** torch.arange(6, dtype=fp64)[torch.tensor([3, 0, 5, 1, 4, 2])]
    variance = torch.as_tensor(feature_variance(torch.full((6,), 0.3, dtype=fp64)))
    found = linear_minimum(importance, variance, 2)
    assert found.features.tolist() == [1, 3]
    assert_close(found.loss, sum((0.7**i for i in range(2, 6)), 0.0) * variance[0])

    def loss(x: Tensor, _: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = x.detach().requires_grad_()
        W = x.unflatten(-1, (2, 6))
        error = torch.eye(6, dtype=fp64) - W.mT @ W
        value = (importance * (error.square() @ variance)).sum(-1)
        (gradient,) = torch.autograd.grad(value.sum(), x)
        return value.detach(), gradient, gradient.abs().amax(-1)

    generator = torch.Generator().manual_seed(0)
    starts = torch.randn(8, 1, 12, dtype=fp64, generator=generator) * 0.4
    ended = minimise(loss, starts, tol=1e-8, max_iter=300).point
    assert_close(loss(ended, ended)[0].min(), found.loss)


def test_principal_components(assert_close: Callable[..., None]) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 5, dtype=fp64, generator=generator) @ torch.randn(5, 5, dtype=fp64)
    x = x - x.mean(0)
    covariance = x.T @ x / 40
    for m in (1, 3, 5, 7):
        V = torch.linalg.svd(x)[2][:m]
        expected = (x - x @ V.T @ V).square().sum(1).mean()
        assert_close(principal_components_loss(covariance, m), expected)
    diagonal = torch.tensor([0.5, 2.0, 1.0], dtype=fp64)
    linear = linear_minimum(torch.ones(3, dtype=fp64), diagonal, 2).loss
    assert_close(principal_components_loss(diagonal.diag(), 2), linear)


def test_bad_input() -> None:
    for densities in ([], [0.0], [1.5], [math.nan]):
        with pytest.raises(InputError, match="densities must be one or more numbers"):
            minimum_loss_regions(densities, [1.0])
    with pytest.raises(InputError, match="relative_importances must be"):
        minimum_loss_regions([0.5], [math.inf])
    with pytest.raises(InputError, match="2 features in 1 dimension and of 3 in 2"):
        minimum_loss_regions([0.5], [1.0], 4, 2)
    with pytest.raises(InputError, match="represented must be below 1"):
        minimum_loss_regions([0.5], [1.0], represented=1.5)
    with pytest.raises(InputError, match="feature must be one of 2"):
        classify(torch.ones(1, 2), feature=2)
    with pytest.raises(InputError, match="W must be finite numbers"):
        classify(torch.tensor([[1.0, math.nan]]))
    with pytest.raises(InputError, match="d_hidden must be a whole number"):
        linear_minimum(torch.ones(2), torch.ones(2), 0)
