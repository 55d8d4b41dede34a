"""Greedy selection beside a plain loop that fits every candidate with scikit-learn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge, orthogonal_mp
from sklearn.metrics import r2_score

from interp.errors import InputError
from interp.probes import Split, fit_ridge, fit_sparse


def _objective(x: np.ndarray, y: np.ndarray, alpha: float) -> float:
    fit = Ridge(alpha=alpha).fit(x, y)
    return float(((fit.predict(x).reshape(y.shape) - y) ** 2).sum() + alpha * (fit.coef_**2).sum())


@pytest.mark.parametrize("n_outputs", [1, 2])
def test_every_step_is_the_best_of_all_candidates(
    planted: Callable[..., Any], n_outputs: int
) -> None:
    features, position, split = planted()
    targets = torch.stack([position, (position - 4) ** 2], 1)[:, :n_outputs]
    curves = fit_sparse(features, targets, split, [5.0], sizes=(1, 2, 3, 4), scaling="none")
    for site in ("line", "means", "few"):
        x, y = features[site].numpy(), targets.numpy()
        curve = curves[site]
        taken: list[int] = []
        for k in range(4):
            free = [j for j in range(x.shape[1]) if j not in taken]
            values = [_objective(x[split.train][:, [*taken, j]], y[split.train], 5.0) for j in free]
            taken.append(free[int(np.argmin(values))])
            fit = Ridge(alpha=5.0).fit(x[split.train][:, taken], y[split.train])
            guessed = fit.predict(x[split.test][:, taken]).reshape(-1, n_outputs)
            r2 = r2_score(y[split.test], guessed, multioutput="variance_weighted")
            assert curve.scores[k]["r2"].value == pytest.approx(r2, abs=1e-10), (site, k)
        assert curve.dims is not None
        assert curve.dims.tolist() == taken, site


def test_all_dims_are_the_full_ridge(planted: Callable[..., Any]) -> None:
    features, position, split = planted()
    full = fit_ridge(features, position, split)
    for site, curve in fit_sparse(features, position, split).items():
        assert curve.sizes[-1] == features[site].shape[1]
        assert curve.alpha == full[site].chosen
        for scores in (curve.full, curve.scores[-1]):
            for name, score in scores.items():
                assert score.value == pytest.approx(full[site][name].value, abs=1e-9), site


def test_orthogonal_features_are_taken_as_by_matching_pursuit() -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.linalg.qr(torch.randn(90, 9, generator=draw, dtype=torch.float64))[0] * 9
    y = x @ torch.tensor([0, 5, 0, 0, 3, 0, 1, 0, 0.0]).double()
    groups = torch.arange(90) // 3
    split = Split(torch.arange(60), torch.arange(60, 75), torch.arange(75, 90), groups)
    curve = fit_sparse({"x": x}, y, split, [1e-9], sizes=(1, 2, 3), scaling="none")["x"]
    a = (x[:60] - x[:60].mean(0)).numpy()
    weights = orthogonal_mp(a, (y[:60] - y[:60].mean()).numpy(), n_nonzero_coefs=3)
    assert curve.dims is not None
    assert set(curve.dims.tolist()) == set(np.flatnonzero(weights)) == {1, 4, 6}
    assert curve.size_for("r2", 0.999999) == 3


def test_planted_dims_are_found_and_noise_reaches_nothing(planted: Callable[..., Any]) -> None:
    features, position, split = planted()
    x = features["noise"].clone()
    x[:, 7] += position
    x[:, 2] -= 5 * position
    curves = fit_sparse({"x": x, "noise": features["noise"]}, position, split)
    assert curves["x"].dims is not None
    assert curves["x"].dims[0] == 2
    assert curves["x"].size_for() == 1
    noise = curves["noise"]
    assert noise.size_for() is None
    # Accuracy is above 0 by chance: 0.1 of ten positions, which is nothing to reach.
    assert noise.size_for("accuracy") is not None
    assert noise.size_for("accuracy", chance=0.1) is None
    assert curves["x"].size_for("accuracy", chance=0.1) is not None
    assert torch.equal(curves["x"].directions(2).abs() > 0.5, curves["x"].basis[:2] > 0.5)


def test_degenerate_sites(planted: Callable[..., Any]) -> None:
    _, position, split = planted(n_seq=5, n_pos=4)
    x = torch.randn(20, 3, dtype=torch.float64)
    sites = {"twice": torch.cat([x, x], 1), "wide": torch.randn(20, 50), "same": torch.ones(20, 3)}
    for curve in fit_sparse(sites, position, split, [1e-8, 1.0]).values():
        assert curve.dims is not None
        assert curve.dims.unique().numel() == curve.dims.numel()
        assert all(np.isfinite(score["mae"].value) for score in curve.scores)
    with pytest.raises(InputError, match="each of sizes"):
        fit_sparse(sites, position, split, sizes=(0,))
    with pytest.raises(InputError, match="score must be one of"):
        curve.size_for("f1")


def test_a_site_does_not_depend_on_others(planted: Callable[..., Any]) -> None:
    features, position, split = planted()
    together = fit_sparse(features, position, split)
    for site, curve in fit_sparse(features, position, split, max_bytes=1).items():
        assert torch.equal(curve.dims, together[site].dims)
        for a, b in zip(curve.scores, together[site].scores, strict=True):
            assert abs(a["r2"].value - b["r2"].value) <= 1e-10
