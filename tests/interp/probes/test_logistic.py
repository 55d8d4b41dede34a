"""Logistic regression beside scikit-learn's, fitted to tight tolerances."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from interp.errors import InputError
from interp.probes import ConvergenceError, fit_logistic, probe_from_dict, split_by_group
from interp.probes.lbfgs import Minimum

CS = (1e-3, 0.1, 3.0)


@pytest.mark.parametrize("n_classes", [2, 3, 10])
def test_agrees_with_scikit_learn(planted: Callable[..., Any], n_classes: int) -> None:
    features, position, split = planted()
    ids = position * n_classes // 10 * 3 + 5  # ids are neither from 0 on nor without gaps
    for site, fit in fit_logistic(features, ids, split, CS, tol=1e-9).items():
        a, b, c = (features[site][r].numpy() for r in (split.train, split.validation, split.test))
        scaler = StandardScaler().fit(a)
        y = ids.numpy()
        losses = []
        for C in CS:
            other = LogisticRegression(C=C, tol=1e-9, max_iter=10**5, solver="newton-cg")
            other.fit(scaler.transform(a), y[split.train])
            at = np.searchsorted(other.classes_, y[split.validation])
            log_probs = other.predict_log_proba(scaler.transform(b))
            losses.append(-log_probs[np.arange(len(at)), at].mean())
            if fit.chosen == C:
                weight = other.coef_.T / scaler.scale_[:, None]
                assert np.abs(fit.weight.numpy() - weight).max() <= 1e-5, site
                probs = other.predict_proba(scaler.transform(c))
                found = fit.probe.log_probs(features[site][split.test]).exp().numpy()
                assert np.abs(found - probs).max() <= 1e-5, site
                guessed = other.predict(scaler.transform(c))
                assert (fit.predict(features[site][split.test]).numpy() == guessed).all()
                assert fit["accuracy"].value == pytest.approx((guessed == y[split.test]).mean())
        assert list(fit.validation.values()) == pytest.approx(losses, abs=1e-6), site
        assert fit.chosen == CS[int(np.argmin(losses))], site


def test_default_tolerance_is_enough(planted: Callable[..., Any]) -> None:
    """Of probabilities, within 1e-4 (and far from it) of those fitted as far as fp64 goes."""
    features, position, split = planted()
    for ids in (position // 5, position):
        loose = fit_logistic(features, ids, split, [1.0])
        tight = fit_logistic(features, ids, split, [1.0], tol=1e-11)
        for site, x in features.items():
            probs = [fits[site].probe.log_probs(x).exp() for fits in (loose, tight)]
            assert (probs[0] - probs[1]).abs().max() <= 1e-5, site


@pytest.mark.parametrize("n_classes", [2, 5])
def test_the_gradient_is_zero(planted: Callable[..., Any], n_classes: int) -> None:
    """Of J as its formula says, by autograd, features unscaled."""
    features, position, split = planted()
    ids = position * n_classes // 10
    fit = fit_logistic(features, ids, split, [0.2], scaling="none", tol=1e-10)["means"]
    x, y = features["means"][split.train], ids[split.train]
    weight, bias = fit.weight.clone().requires_grad_(), fit.bias.clone().requires_grad_()
    logits = x @ weight + bias
    if n_classes == 2:
        logits = torch.cat([torch.zeros_like(logits), logits], 1)
    loss = torch.nn.functional.cross_entropy(logits, y, reduction="sum")
    J = 0.2 * loss + weight.square().sum() / 2
    gradients = torch.autograd.grad(J / (0.2 * len(y)), (weight, bias))
    mean = x.mean(0)[:, None]  # the criterion is of centred features
    assert (gradients[0] - mean * gradients[1]).abs().max() <= 1e-9
    assert gradients[1].abs().max() <= 1e-9
    if n_classes > 2:
        assert abs(float(fit.bias.sum() + (x.mean(0) @ fit.weight).sum())) <= 1e-6


def test_a_site_does_not_depend_on_others(planted: Callable[..., Any]) -> None:
    features, position, split = planted()
    options: dict[str, Any] = {"Cs": CS[:2], "tol": 1e-10}
    together = fit_logistic(features, position // 3, split, **options)
    chunked = fit_logistic(features, position // 3, split, **options, max_bytes=1)
    for site, x in features.items():
        alone = fit_logistic({site: x}, position // 3, split, **options)[site]
        for other in (together[site], chunked[site]):
            assert other.chosen == alone.chosen
            assert (other.weight - alone.weight).abs().max() <= 1e-10, site
            assert abs(other["log_loss"].value - alone["log_loss"].value) <= 1e-10


def test_separable_classes_have_an_end(planted: Callable[..., Any]) -> None:
    """The penalty gives them one; it takes more steps, and too few are an error."""
    features, position, split = planted()
    x = torch.cat([features["noise"], (position > 4).double()[:, None]], 1)
    fit = fit_logistic({"x": x}, (position > 4).long(), split, [1e4])["x"]
    assert fit["accuracy"].value == 1
    with pytest.raises(ConvergenceError, match=r"'x' with C = 10000 .* after 2 steps"):
        fit_logistic({"x": x}, (position > 4).long(), split, [1e4], max_iter=2)


def test_certain_and_ill_conditioned_classes_need_few_steps() -> None:
    """The bound on the Hessian alone takes 183: it is far off where all samples are certain."""
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)
    n, dim = 400, 60
    x = (draw(n, dim) * torch.logspace(0, -2, dim, dtype=torch.float64)) @ draw(dim, dim) + 3
    y = (x @ draw(dim) > 0).long()
    split = split_by_group(torch.arange(n))
    fit = fit_logistic({"x": x}, y, split, [100.0], tol=1e-10, max_iter=60)["x"]
    scaler = StandardScaler().fit(x[split.train].numpy())
    scaled = scaler.transform(x.numpy())
    other = LogisticRegression(C=100.0, tol=1e-12, max_iter=10**5, solver="newton-cg")
    other.fit(scaled[split.train], y[split.train].numpy())
    found = fit.probe.log_probs(x).exp()[:, 1].numpy()
    assert np.abs(found - other.predict_proba(scaled)[:, 1]).max() <= 1e-7
    with pytest.raises(ConvergenceError, match="'x' with C = 100 has a gradient"):
        fit_logistic({"x": x}, y, split, [100.0], max_iter=21)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_steps_that_rounding_ends_are_told(
    planted: Callable[..., Any], n_classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no step descends any more, not after the Hessian of two classes either."""
    features, position, split = planted()
    starts = []

    def stuck(evaluate: Any, start: Any, tol: float, max_iter: int) -> Minimum:
        starts.append(max_iter)
        return Minimum(start.clone(), torch.ones(start.shape[:2]), 3 if len(starts) == 1 else 0)

    monkeypatch.setattr("interp.probes.logistic.minimise", stuck)
    with pytest.raises(ConvergenceError, match="after 3 steps"):
        fit_logistic(features, position * n_classes // 10, split, [1.0], max_iter=10)
    assert starts == ([10, 7] if n_classes == 2 else [10])


def test_noise_is_at_chance_and_probes_survive(planted: Callable[..., Any]) -> None:
    features, position, split = planted()
    fits = fit_logistic(features, position, split)
    noise = fits["noise"]["accuracy"]
    assert noise.low <= 0.1 <= noise.high
    assert fits["means"]["accuracy"].value > 0.9
    assert fits["means"]["r2"].value > 0.9
    again = probe_from_dict(fits["means"].probe.to_dict())
    assert torch.equal(again.predict(features["means"]), fits["means"].predict(features["means"]))
    assert fits["means"].directions.shape == (9, 20)  # softmax outputs sum to a constant
    plain = fit_logistic(features, position // 5, split, numeric=False)["few"]
    assert np.isnan(plain["r2"].value)
    assert plain.directions.shape == (1, 5)


def test_degenerate_features(planted: Callable[..., Any]) -> None:
    _, position, split = planted(n_seq=6, n_pos=4)
    ids = position % 2
    fits = fit_logistic({"same": torch.ones(24, 3), "wide": torch.randn(24, 60)}, ids, split)
    assert fits["same"].weight.abs().max() == 0
    assert fits["same"]["log_loss"].value == pytest.approx(np.log(2))


def test_bad_input_is_refused(planted: Callable[..., Any]) -> None:
    features, position, split = planted()
    with pytest.raises(InputError, match="classes must be whole numbers"):
        fit_logistic(features, position.double(), split)
    with pytest.raises(InputError, match="at least two classes"):
        fit_logistic(features, torch.zeros_like(position), split)
    odd = position.clone()
    odd[split.test[0]] = 77
    with pytest.raises(InputError, match=r"test has classes that training has not: \[77\]"):
        fit_logistic(features, odd, split)
    for name, value in {"Cs": [-1.0], "tol": 0.0, "max_iter": 0, "scaling": "x"}.items():
        with pytest.raises(InputError, match=name):
            fit_logistic(features, position, split, **{name: value})
    bad = {**features, "bad": torch.full((400, 2), torch.nan)}
    with pytest.raises(InputError, match="'bad'"):
        fit_logistic(bad, position, split)
    few = split_by_group(torch.arange(400))
    assert fit_logistic(features, position // 5, few)["line"].site == "line"
