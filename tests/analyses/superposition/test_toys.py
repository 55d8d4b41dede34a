"""superposition-toys: its tables beside models trained by hand, its settings, who watches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from analyses import AnalysisResult, run_analysis
from analyses.superposition.toys import HELD_OUT, watched
from analyses.superposition.toys_tables import Toys
from interp.errors import InputError
from interp.toys import ReconstructionLoss, SparseFeatures, ToyModel, ToySettings, train

NAME = "superposition-toys"
SMALL: dict[str, Any] = {
    "n_features": 4, "d_hidden": 2, "densities": [0.1, 0.8], "n_seeds": 2, "steps": 60,
    "batch_size": 32, "n_snapshots": 4, "device": "cpu",
}  # fmt: skip


@pytest.fixture(scope="module")
def seen() -> list[Toys]:
    return []


@pytest.fixture(scope="module")
def result(seen: list[Toys]) -> AnalysisResult:
    with watched(seen.append):
        return run_analysis(NAME, **SMALL)


def _alone(density: float, seed: int) -> tuple[ToyModel, float]:
    """One toy, trained by itself, and its loss on the held-out examples."""
    models = ToyModel(1, 4, 2, seeds=seed)
    data = SparseFeatures.of(1, 4, density, seeds=seed)
    loss = ReconstructionLoss.of(1, 4, 0.9 ** torch.arange(4))
    settings = ToySettings(steps=60, batch_size=32, lr=1e-2, weight_decay=0.0, decay="cosine")
    train(models, data, loss, settings)
    batch = data.batch(60, HELD_OUT)
    with torch.no_grad():
        error = (models(batch.x) - batch.target).square().mean((0, 1))
    return models, float((error * 0.9 ** torch.arange(4)).mean())


def test_the_toys_are_those_trained_alone_and_the_best_is_shown(result: AnalysisResult) -> None:
    assert result.passed
    toys = result.tables["toys"]
    assert toys["density"].tolist() == [0.8, 0.8, 0.1, 0.1]
    for density in (0.8, 0.1):
        alone = [_alone(density, seed) for seed in (0, 1)]
        rows = toys[toys["density"] == density]
        assert rows["loss"].tolist() == pytest.approx([loss for _, loss in alone], rel=1e-4)
        best = min((0, 1), key=lambda k: alone[k][1])
        assert rows["best"].tolist() == [k == best for k in (0, 1)]
        weights = result.tables["weights"]
        last = weights[(weights["density"] == density) & (weights["step"] == 60)]
        found = last.pivot(index="hidden", columns="feature", values="weight").to_numpy()
        W = alone[best][0].W.detach()[0]
        assert found == pytest.approx(W.numpy(), abs=1e-5)
        assert last["weight_out"].tolist() == last["weight"].tolist()
        row = result.tables["by-density"].set_index("density").loc[density]
        assert (row["seed"], row["toys"]) == (best, 2)
        assert row["worst_loss"] == rows["loss"].max()


def test_measures_over_training_are_those_of_the_weights(result: AnalysisResult) -> None:
    weights, features = result.tables["weights"], result.tables["features"]
    steps = [0, 15, 30, 45, 60]
    assert sorted(weights["step"].unique()) == steps
    for (density, step), rows in weights.groupby(["density", "step"]):
        W = rows.pivot(index="hidden", columns="feature", values="weight").to_numpy()
        gram = W.T @ W
        here = features[(features["density"] == density) & (features["step"] == step)]
        norms = gram.diagonal()
        assert here["norm"].to_numpy() ** 2 == pytest.approx(norms, abs=1e-10)
        others = (gram**2).sum(1) / norms - norms
        assert here["superposition"].to_numpy() == pytest.approx(others, abs=1e-10)
        assert here["dimensionality"].to_numpy() == pytest.approx(
            norms / (norms + others), abs=1e-10
        )
        assert here["importance"].tolist() == pytest.approx([0.9**i for i in range(4)])
        if step == 60:
            of_density = result.tables["gram"][result.tables["gram"]["density"] == density]
            table = of_density.pivot(index="feature", columns="other", values="product")
            assert table.to_numpy() == pytest.approx(gram, abs=1e-10)
    losses = result.tables["losses"]
    assert losses["condition"].unique().tolist() == ["1-S = 0.8", "1-S = 0.1"]
    assert (losses["worst_loss"] >= losses["loss"]).all()
    last = losses[losses["step"] == 60]["loss"].tolist()
    assert last == result.tables["by-density"]["loss"].tolist()


def test_a_watcher_sees_every_snapshot(result: AnalysisResult, seen: list[Toys]) -> None:
    assert [toys.steps for toys in seen] == [[0], [15], [30], [45], [60]]
    weights = result.tables["weights"]
    last = weights[weights["step"] == 60]
    best = seen[-1].W[-1, seen[-1].best]
    assert best.flatten().tolist() == last["weight"].tolist()
    count = len(seen)
    run_analysis(NAME, **{**SMALL, "steps": 5, "n_snapshots": 1})
    assert len(seen) == count  # nobody watches any more


def test_a_path_back_of_its_own(make_absolute: pd.DataFrame) -> None:
    weights = make_absolute
    assert (weights["weight"] != weights["weight_out"]).all()


@pytest.fixture
def make_absolute() -> pd.DataFrame:
    settings = {"hidden": "relu", "tied": False, "values": "signed", "target": "absolute"}
    result = run_analysis(NAME, **SMALL, **settings)
    assert result.passed
    rows = result.tables["weights"]
    last = rows[(rows["step"] == 60) & (rows["density"] == 0.8)]
    W = last.pivot(index="hidden", columns="feature", values="weight").to_numpy()
    back = last.pivot(index="feature", columns="hidden", values="weight_out").to_numpy()
    gram = result.tables["gram"]
    found = gram[gram["density"] == 0.8].pivot(index="feature", columns="other", values="product")
    assert found.to_numpy() == pytest.approx(back @ np.maximum(W, 0), abs=1e-10)
    return last


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_snapshots": 61}, "n_snapshots must be at most steps"),
        ({"correlation": 1.0, "n_features": 5}, "multiple of group_size"),
        ({"target": "absolute"}, "for signed values only"),
        ({"densities": [0.1, 0.1]}, "densities must be different numbers"),
        ({"lr": 1e30, "steps": 20}, "training must stay finite"),
        ({"correlation": -1.0, "densities": [0.8]}, "exclude"),
    ],
)
def test_settings_that_do_not_agree_are_told(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        run_analysis(NAME, **{**SMALL, **settings})


def test_the_five_features_of_the_paper() -> None:
    """Sparse ones become a pentagon, denser ones two digons."""
    result = run_analysis(NAME, densities=[0.3, 0.05], n_seeds=3, steps=500, lr=3e-2, device="cpu")
    rows = result.tables["by-density"]
    assert rows["geometry"].tolist() == ["2 digons", "pentagon"]
