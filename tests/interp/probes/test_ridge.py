"""Ridge beside scikit-learn's, and what must not change a site's result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from interp.errors import InputError
from interp.probes import Split, fit_ridge, fit_ridges, log_grid, probe_from_dict, split_by_group
from interp.probes.ridge import gram_matrix

ALPHAS = (1e-3, 1.0, 1e3)


def _by_hand(x: Tensor, y: Tensor, split: Split, alphas: Any, scaled: bool) -> tuple[Any, ...]:
    """scikit-learn's, of each α: the best, validation losses, weights, intercept, prediction."""
    a, b, c = (x[rows].double().numpy() for rows in (split.train, split.validation, split.test))
    scaler = StandardScaler(with_std=scaled).fit(a)
    targets = y.double().numpy()
    fits = [Ridge(alpha=alpha).fit(scaler.transform(a), targets[split.train]) for alpha in alphas]
    losses = [
        ((f.predict(scaler.transform(b)) - targets[split.validation]) ** 2).mean() for f in fits
    ]
    best = fits[int(np.argmin(losses))]
    weight = (
        best.coef_.T / (scaler.scale_ if y.ndim == 1 else scaler.scale_[:, None])
        if scaled
        else best.coef_.T
    )
    bias = best.intercept_ - scaler.mean_ @ weight
    return alphas[int(np.argmin(losses))], losses, weight, bias, best.predict(scaler.transform(c))


@pytest.mark.parametrize("scaling", ["feature", "none"])
@pytest.mark.parametrize("n_outputs", [0, 3])
def test_agrees_with_scikit_learn(
    planted: Callable[..., Any], assert_close: Any, scaling: str, n_outputs: int
) -> None:
    features, position, split = planted()
    y = position if not n_outputs else torch.stack([position, position**2, position % 2], 1)
    for site, fit in fit_ridge(features, y, split, ALPHAS, scaling=scaling).items():
        x = features[site]
        alpha, losses, weight, bias, guessed = _by_hand(x, y, split, ALPHAS, scaling == "feature")
        assert fit.chosen == alpha, site
        assert_close(torch.tensor(list(fit.validation.values())), torch.tensor(losses), site)
        assert_close(fit.weight.reshape(weight.shape), torch.tensor(weight), site)
        assert_close(fit.bias, torch.tensor(bias).double().reshape(-1), site)
        assert_close(fit.predict(x[split.test]), torch.tensor(guessed), site)


def test_agrees_with_scikit_learn_in_fp32(planted: Callable[..., Any]) -> None:
    """Features in fp32, those of large mean among them: scikit-learn in fp64 on the same ones."""
    features, position, split = planted(dtype=torch.float32)
    features["far"] = features["line"] + 3e3
    for site, fit in fit_ridge(features, position, split, ALPHAS).items():
        _, _, weight, _, guessed = _by_hand(features[site], position, split, ALPHAS, True)
        assert np.abs(fit.weight[:, 0].numpy() - weight).max() <= 1e-8, site
        assert np.abs(fit.predict(features[site][split.test]).numpy() - guessed).max() <= 1e-8, site


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 9), st.integers(4, 8), st.integers(1, 5), st.integers(1, 3), st.integers(0, 99)
)
def test_normal_equations_hold(dim: int, n_seq: int, n_pos: int, n_out: int, seed: int) -> None:
    """Also with fewer samples than dims."""
    draw = torch.Generator().manual_seed(seed)
    n = n_seq * n_pos
    x = torch.randn(n, dim, generator=draw, dtype=torch.float64)
    y = torch.randn(n, n_out, generator=draw, dtype=torch.float64)
    split = split_by_group(torch.arange(n) // n_pos, seed=seed)
    for scaling in ("site", "none"):
        fit = fit_ridge({"x": x}, y, split, [0.3], scaling=scaling)["x"]
        a = x[split.train]
        left = y[split.train] - fit.predict(a)
        scale = fit.scale[:, None]
        residual = (a - a.mean(0)).mT @ left / scale - 0.3 * fit.weight * scale
        # Of one sample alone nothing varies, and every weight is 0.
        residual = residual.where(scale.isfinite(), 0.0)
        assert residual.abs().max() <= 1e-10
        assert left.mean(0).abs().max() <= 1e-10  # the intercept is not penalised


def test_a_site_does_not_depend_on_others(planted: Callable[..., Any], assert_close: Any) -> None:
    features, position, split = planted()
    together = fit_ridge(features, position, split)
    assert list(together) == list(features)
    chunked = fit_ridge(dict(reversed(features.items())), position, split, max_bytes=1)
    for site, x in features.items():
        alone = fit_ridge({site: x}, position, split)[site]
        for other in (together[site], chunked[site]):
            assert other.chosen == alone.chosen
            assert_close(other.weight, alone.weight, site)
            for name, score in alone.scores.items():
                for end in ("value", "low", "high"):
                    assert abs(getattr(other[name], end) - getattr(score, end)) <= 1e-10


def test_rotations_leave_a_fit_scaled_by_site(planted: Callable[..., Any]) -> None:
    features, position, split = planted()
    x = features["means"] * torch.logspace(0, 2, 20, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(20, 20, dtype=torch.float64))[0]
    fits = fit_ridge({"a": x, "b": x @ turn}, position, split, scaling="site")
    guessed = [fits["a"].predict(x), fits["b"].predict(x @ turn)]
    assert (guessed[0] - guessed[1]).abs().max() <= 1e-8
    fits = fit_ridge({"a": x, "b": x @ turn}, position, split, [1e3], scaling="feature")
    assert (fits["a"].predict(x) - fits["b"].predict(x @ turn)).abs().max() > 1e-3


def test_planted_position_is_found_and_noise_is_not(planted: Callable[..., Any]) -> None:
    features, position, split = planted()
    fits = fit_ridge(features, position, split)
    assert fits["means"]["r2"].value > 0.9
    noise = fits["noise"]
    assert noise["r2"].low <= 0.02
    assert noise["r2"].value < 0.05
    assert noise["accuracy"].low <= 0.1 <= noise["accuracy"].high  # of ten positions
    shuffled = position.view(-1, 10)
    order = torch.rand(shuffled.shape, generator=torch.Generator().manual_seed(5)).argsort(1)
    for fit in fit_ridge(features, shuffled.gather(1, order).flatten(), split).values():
        assert fit["r2"].value <= 0.05


def test_directions_span_the_weights(planted: Callable[..., Any], assert_close: Any) -> None:
    features, position, split = planted()
    hot = torch.nn.functional.one_hot(position)
    for site, fit in fit_ridge(features, hot, split).items():
        basis = fit.directions
        # Indicators sum to 1, so their weights to 0: nine of them are apart, and no more than dims.
        expected = min(9, int((fit.scale < torch.inf).sum()))
        assert basis.shape == (expected, features[site].shape[1]), site
        assert_close(basis @ basis.mT, torch.eye(expected, dtype=torch.float64), site)
        assert_close(basis.mT @ (basis @ fit.weight), fit.weight, site)
        x = features[site][split.test]
        removed = x - (x @ basis.mT) @ basis
        assert_close(fit.predict(removed), fit.bias.expand(len(x), -1), site, tolerance=1e-8)


def test_probes_survive_being_tensors(planted: Callable[..., Any]) -> None:
    features, position, split = planted()
    fit = fit_ridge(features, position, split)["few"]
    again = probe_from_dict(fit.probe.to_dict())
    x = features["few"]
    assert torch.equal(again.predict(x), fit.predict(x))
    assert fit.predict(x).shape == position.shape
    assert fit.predict(x.view(40, 10, 5)).shape == (40, 10)


def test_constant_features_and_targets(planted: Callable[..., Any]) -> None:
    features, position, split = planted(dtype=torch.float32)
    fit = fit_ridge(features, position, split)["line 2"]
    assert float(fit.weight[3]) == 0
    assert float(fit.scale[3]) == torch.inf
    constant = fit_ridge({"x": torch.full((400, 3), 0.3)}, position, split)["x"]
    assert constant.weight.abs().max() == 0
    assert constant.directions.shape == (0, 3)
    assert constant["r2"].value <= 0
    fit = fit_ridge(features, torch.full_like(position, 4), split)["few"]
    assert np.isnan(fit["r2"].value)
    assert fit["accuracy"].value == 1
    assert fit["mae"].value <= 1e-12


def test_blocks_of_the_gram_matrix(assert_close: Any) -> None:
    for dim in (3, 255, 256, 400):
        x = torch.randn(2, 7, dim, dtype=torch.float64)
        assert_close(gram_matrix(x), torch.einsum("sni,snj->sij", x, x), str(dim))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("part", ["train", "test"])
def test_what_is_not_finite_is_named(planted: Callable[..., Any], value: float, part: str) -> None:
    features, position, split = planted()
    features["means"][getattr(split, part)[0], 2] = value
    with pytest.raises(InputError, match="Received NaN or infinity at 'means'"):
        fit_ridge(features, position, split)


def test_a_sum_that_overflows_is_no_fault(planted: Callable[..., Any]) -> None:
    features, position, split = planted(dtype=torch.float32)
    assert fit_ridge({"x": features["line"] * 1e36}, position, split)["x"]["r2"].value > 0.1


def test_bad_input_is_refused(planted: Callable[..., Any]) -> None:
    features, position, split = planted()
    bad: list[tuple[str, Any, dict[str, Any]]] = [
        ("at least one site", {}, {}),
        (r"\[sample, dim\].*'a'", {"a": torch.zeros(400)}, {}),
        ("row for each of the 400 samples. Received 399 at 'a'", {"a": torch.zeros(399, 2)}, {}),
        ("each of alphas", features, {"alphas": [0.0]}),
        ("alphas must hold at least one", features, {"alphas": []}),
        ("alphas must differ", features, {"alphas": [1, 1.0]}),
        ("scaling must be one of", features, {"scaling": "whiten"}),
        ("dtype must be one of", features, {"dtype": torch.float16}),
        ("max_bytes", features, {"max_bytes": 0}),
    ]
    for rule, given_features, options in bad:
        with pytest.raises(InputError, match=rule):
            fit_ridge(given_features, position, split, **options)
    with pytest.raises(InputError, match="targets must be"):
        fit_ridge(features, position[:-1], split)
    with pytest.raises(InputError, match="targets must be finite"):
        fit_ridge(features, position / 0.0, split)
    x = features["line"]
    with pytest.raises(InputError, match=r"alpha must be large enough.*1e-300 at 'twice'"):
        fit_ridge({"twice": torch.cat([x, x], 1)}, position, split, [1e-300, 1.0])
    with pytest.raises(InputError, match="reads 12 features"):
        fit_ridge(features, position, split)["line"].predict(x[:, :3])


def test_grids() -> None:
    assert log_grid(0.1, 10, 3) == pytest.approx((0.1, 1.0, 10.0))
    for low, high, n in ((0, 1, 3), (1, 1, 3), (1, 2, 1)):
        with pytest.raises(InputError):
            log_grid(low, high, n)


def test_several_targets_are_fitted_as_each_alone(
    planted: Callable[..., Any], assert_close: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    features, position, split = planted()
    order = torch.randperm(400, generator=torch.Generator().manual_seed(2))
    targets = {
        "position": position,
        "noise": position[order],
        "two": torch.stack([position**2, -position], 1),
        "column": position[:, None],
    }
    made: list[int] = []

    def counted(x: Tensor) -> Tensor:
        made.append(len(x))
        return gram_matrix(x)

    monkeypatch.setattr("interp.probes.ridge.gram_matrix", counted)
    together = fit_ridges(features, targets, split)
    assert sum(made) == len(features), "one Gram matrix a site"
    assert list(together) == list(targets)
    for name, y in targets.items():
        alone = fit_ridge(features, y, split)
        assert list(together[name]) == list(features)
        for site, fit in alone.items():
            other = together[name][site]
            assert (other.site, other.chosen) == (site, fit.chosen)
            assert list(other.validation) == list(fit.validation)
            losses = [torch.tensor(list(f.validation.values())) for f in (other, fit)]
            assert_close(*losses, f"{name} {site}")
            assert_close(other.weight, fit.weight, f"{name} {site}")
            assert other.predict(features[site]).shape == y.shape
            for score, found in fit.scores.items():
                assert abs(other[score].low - found.low) <= 1e-10
    chosen = [{fits[site].chosen for fits in together.values()} for site in features]
    assert max(len(some) for some in chosen) > 1, "each target has an α of its own"
    with pytest.raises(InputError, match="targets must hold at least one"):
        fit_ridges(features, {}, split)
