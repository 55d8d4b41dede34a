"""Discriminants of growing rank beside scikit-learn's linear discriminant analysis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from interp.errors import InputError
from interp.probes import fit_low_rank

TINY = 1e-9


@pytest.mark.parametrize("even", [True, False])
def test_without_penalty_is_discriminant_analysis(planted: Callable[..., Any], even: bool) -> None:
    features, position, split = planted()
    ids = position if even else (position - 3).clamp(min=0)  # one class is four times as frequent
    curves = fit_low_rank(features, ids, split, [TINY], scaling="none")
    for site, curve in curves.items():
        if site == "line 2":
            continue  # a constant feature has no covariance to invert
        a, c = (features[site][rows].numpy() for rows in (split.train, split.test))
        y_a, y_c = (ids[rows].numpy() for rows in (split.train, split.test))
        full = LinearDiscriminantAnalysis(solver="eigen").fit(a, y_a)
        log_probs = full.predict_log_proba(c)
        log_loss = -log_probs[np.arange(len(y_c)), y_c].mean()
        assert curve.full["accuracy"].value == pytest.approx(full.score(c, y_c)), site
        assert curve.full["log_loss"].value == pytest.approx(log_loss, abs=1e-6), site
        expected = np.exp(log_probs) @ full.classes_
        assert curve.full["mae"].value == pytest.approx(np.abs(expected - y_c).mean(), abs=1e-6)
        for size, scores in zip(curve.sizes, curve.scores, strict=True):
            fit = LinearDiscriminantAnalysis(solver="eigen", n_components=size).fit(a, y_a)
            z, seen = fit.transform(c), fit.transform(a)
            means = np.stack([seen[y_a == k].mean(0) for k in fit.classes_])
            logits = np.log(fit.priors_) - ((z[:, None] - means) ** 2).sum(-1) / 2
            right = (logits.argmax(1) == y_c).mean()
            assert scores["accuracy"].value == pytest.approx(right), (site, size)
            # What they span is the same.
            theirs = np.linalg.qr(fit.scalings_[:, :size])[0]
            ours = curve.directions(size).numpy()
            assert np.linalg.svd(ours @ theirs)[1].min() >= 1 - 1e-6, (site, size)


def test_a_planted_rank_is_found(planted: Callable[..., Any]) -> None:
    # Directions tilt by the sampling error of covariances, 1 / √2400 for each dim here.
    _, position, split = planted(n_seq=400)
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(4000, 16, generator=draw, dtype=torch.float64)
    line, plane = torch.zeros(4000, 16).double(), torch.zeros(4000, 16).double()
    line[:, 3] = position * 8.0
    angle = position * (2 * torch.pi / 10)
    plane[:, 0], plane[:, 9] = 6 * angle.cos(), 6 * angle.sin()
    curves = fit_low_rank({"line": x + line, "plane": x + plane, "noise": x}, position, split)
    assert curves["line"].size_for("accuracy") == 1
    assert curves["plane"].size_for("accuracy") == 2
    assert curves["noise"].size_for("r2") is None
    noise = curves["noise"].full["accuracy"]
    assert noise.low <= 0.1 <= noise.high
    axis = curves["line"].directions(1)[0]
    assert abs(float(axis[3])) > 0.99
    assert curves["plane"].directions(2)[:, [0, 9]].square().sum() > 1.95


def test_a_site_does_not_depend_on_others(planted: Callable[..., Any]) -> None:
    features, position, split = planted()
    together = fit_low_rank(features, position, split)
    for site, curve in fit_low_rank(features, position, split, max_bytes=1).items():
        for a, b in zip(curve.scores, together[site].scores, strict=True):
            assert abs(a["log_loss"].value - b["log_loss"].value) <= 1e-9


def test_degenerate_sites(planted: Callable[..., Any]) -> None:
    _, position, split = planted(n_seq=6, n_pos=4)
    sites = {"wide": torch.randn(24, 60), "same": torch.ones(24, 3), "one": torch.randn(24, 1)}
    curves = fit_low_rank(sites, position, split)
    assert curves["same"].full["log_loss"].value == pytest.approx(np.log(4))
    assert curves["one"].sizes == (1,)
    assert all(np.isfinite(c.full["log_loss"].value) for c in curves.values())
    with pytest.raises(InputError, match="each of ranks"):
        fit_low_rank(sites, position, split, ranks=(1.5,))
    with pytest.raises(InputError, match="size must be at most 1"):
        curves["one"].directions(2)
