"""MLP probes beside a plain loop with autograd and torch's Adam."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from interp.errors import InputError
from interp.probes import MLPTraining, fit_mlp, fit_ridge, probe_from_dict

SHORT = MLPTraining(hidden=8, max_epochs=6, patience=3, batch_size=50)


@pytest.mark.parametrize("classify", [False, True])
def test_agrees_with_a_plain_loop(planted: Callable[..., Any], classify: bool) -> None:
    features, position, split = planted()
    options: dict[str, Any] = {"classify": classify, "training": SHORT, "dtype": torch.float64}
    fits = fit_mlp(features, position, split, **options)
    for site in ("means", "noise"):
        x = features[site]
        a = x[split.train]
        x = (x - a.mean(0)) / a.std(0, correction=0)
        y = position.double()
        centre, unit = y[split.train].mean(), y[split.train].std(correction=0)
        targets = position if classify else ((y - centre) / unit)[:, None]
        loss = nn.functional.cross_entropy if classify else nn.functional.mse_loss
        dim, n_out = x.shape[1], 10 if classify else 1
        drawn: dict[str, Any] = {
            "generator": torch.Generator().manual_seed(0),
            "dtype": torch.float64,
        }
        net = nn.Sequential(nn.Linear(dim, 8), nn.ReLU(), nn.Linear(8, n_out)).double()
        with torch.no_grad():
            net[0].weight.copy_((torch.randn(dim, 8, **drawn) * (2 / dim) ** 0.5).T)
            net[2].weight.copy_((torch.randn(8, n_out, **drawn) / 8**0.5).T)
            net[0].bias.zero_()
            net[2].bias.zero_()
        adam = torch.optim.Adam(net.parameters(), lr=SHORT.lr)
        draw = torch.Generator().manual_seed(1)
        losses, outputs = [], []
        for _ in range(SHORT.max_epochs):
            for rows in torch.randperm(len(a), generator=draw).split(50):
                adam.zero_grad()
                at = split.train[rows]
                loss(net(x[at]), targets[at]).backward()
                adam.step()
            with torch.no_grad():
                held = split.validation
                losses.append(float(loss(net(x[held]), targets[held])))
                outputs.append(net(x))
        fit = fits[site]
        found = list(fit.validation.values())
        assert found == pytest.approx(losses[: len(found)], abs=1e-10), site
        best = int(torch.tensor(losses[: len(found)]).argmin())
        assert fit.chosen == best + 1
        expected = outputs[best] if classify else outputs[best] * unit + centre
        decision = fit.probe.decision(features[site])
        assert (decision - expected).abs().max() <= 1e-9, site


def test_reads_what_no_linear_probe_can(planted: Callable[..., Any]) -> None:
    split = planted(n_seq=60)[2]
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(600, 4, generator=draw)
    y = (x[:, 0] * x[:, 1] > 0).long()
    training = MLPTraining(hidden=32, max_epochs=60, batch_size=64, lr=1e-2)
    fit = fit_mlp({"x": x}, y, split, classify=True, training=training)["x"]
    assert fit["accuracy"].value > 0.85
    assert fit_ridge({"x": x}, y, split)["x"]["r2"].value < 0.1
    again = probe_from_dict(fit.probe.to_dict())
    assert torch.equal(again.predict(x), fit.predict(x))
    with pytest.raises(InputError, match="no one weight"):
        _ = fit.directions


def test_a_site_does_not_depend_on_others(planted: Callable[..., Any]) -> None:
    features, position, split = planted()
    options: dict[str, Any] = {"training": SHORT, "dtype": torch.float64}
    together = fit_mlp(features, position, split, **options)
    for site, x in features.items():
        alone = fit_mlp({site: x}, position, split, **options)[site]
        assert alone.chosen == together[site].chosen
        assert (alone.predict(x) - together[site].predict(x)).abs().max() <= 1e-9, site


def test_stops_early_and_noise_is_at_chance(planted: Callable[..., Any]) -> None:
    features, position, split = planted()
    training = MLPTraining(patience=3)
    fits = fit_mlp(features, position, split, training=training)
    noise = fits["noise"]
    assert noise["r2"].low < 0.02
    assert len(noise.validation) == noise.chosen + 3 < training.max_epochs
    assert min(noise.validation.values()) == noise.validation[noise.chosen]
    assert fits["means"]["r2"].value > 0.9
    two = fit_mlp(features, torch.stack([position, -position], 1), split, training=SHORT)
    assert two["few"].predict(features["few"]).shape == (400, 2)


def test_bad_input_is_refused(planted: Callable[..., Any]) -> None:
    features, position, split = planted()
    for fields in ({"hidden": 0}, {"lr": -1.0}, {"patience": 0}, {"seed": -1}):
        with pytest.raises(InputError):
            MLPTraining(**fields)
    with pytest.raises(InputError, match="classes must be"):
        fit_mlp(features, position.double(), split, classify=True)
    with pytest.raises(InputError, match="'few' diverged"):
        fit_mlp({"few": features["few"]}, position, split, training=MLPTraining(lr=1e30))
    same = fit_mlp({"same": torch.ones(400, 3)}, position, split, training=SHORT)["same"]
    assert same["r2"].value <= 0.05
