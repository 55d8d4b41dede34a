"""The analysis of memorisation: against a plain loop, on planted polygons, and what it refuses."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

from analyses import AnalysisResult, run_analysis
from analyses.superposition.memorisation_findings import findings_table
from analyses.superposition.memorisation_tables import (
    Memorised,
    dimensionality_table,
    geometry_table,
    losses_table,
    vectors_tables,
)
from interp import InputError
from interp.toys import FiniteExamples, SparseFeatures, ToyModel, polytopes

NAME = "superposition-memorisation"
SMALL: dict[str, Any] = {
    "n_features": 20,
    "density": 0.2,
    "sizes": [8, 3, 30, 150],
    "n_seeds": 2,
    "steps": 40,
    "lr": 0.02,
    "batch_size": 32,
    "test_examples": 100,
    "device": "cpu",
}


@pytest.fixture(scope="module")
def result() -> AnalysisResult:
    return run_analysis(NAME, **SMALL)


def test_it_passes_and_its_tables_are_whole(result: AnalysisResult) -> None:
    assert result.passed
    tables = result.tables
    assert tables["losses"]["examples"].unique().tolist() == [3, 8, 30, 150]
    assert len(tables["losses"]) == 4 * 3
    assert len(tables["dimensionality"]) == 4 * 2 + 1
    assert len(tables["geometry"]) == 2 * (4 * 2 + 1)
    assert set(tables["findings"]) == {"claim", "paper", "here", "agrees"}
    features = tables["vectors"].query("kind == 'features'")
    assert (features.groupby("panel").size() == 20).all()
    total = tables["cells"].groupby("panel")["vectors"].sum()
    expected = tables["vectors"].groupby("panel").size()
    assert (total == expected[total.index]).all()


def test_losses_are_those_of_a_plain_loop(result: AnalysisResult) -> None:
    losses: dict[str, list[float]] = {"train": [], "test": []}
    for seed in (0, 1):
        x = FiniteExamples.of(SparseFeatures.of(1, 20, 0.2, unit_norm=True, seeds=seed), 8).x[0]
        W, b = _trained_alone(seed, 0.02, [x] * 40)
        losses["train"].append(float(_squares(W, b, x).sum(-1).mean()))
        losses["test"].append(float(_squares(W, b, _test_examples()).sum(-1).mean()))
    table = result.tables["losses"].query("examples == 8").set_index("data")
    for data, each in losses.items():
        assert table["loss"][data] == pytest.approx(sum(each) / 2, abs=1e-5)
        assert table["stderr"][data] == pytest.approx(abs(each[0] - each[1]) / 2, abs=1e-5)


def _test_examples() -> Tensor:
    return SparseFeatures.of(1, 20, 0.2, unit_norm=True, seeds=2).batch(0, 100).x[0]


def _trained_alone(seed: int, lr: float, batches: list[Tensor]) -> tuple[Tensor, Tensor]:
    """One model by torch's AdamW on these batches, with a warm-up and a cosine."""
    start = ToyModel(1, 20, 2, seeds=seed)
    W, b = (p.detach()[0].clone().requires_grad_() for p in (start.W, start.b))
    optimizer = torch.optim.AdamW([W, b], lr=lr, weight_decay=0.01)
    steps, warmup = len(batches), 2
    for step, x in enumerate(batches):
        progress = (step - warmup) / (steps - warmup)
        rate = (step + 1) / warmup if step < warmup else (1 + math.cos(math.pi * progress)) / 2
        optimizer.param_groups[0]["lr"] = lr * rate
        optimizer.zero_grad()
        _squares(W, b, x).mean().backward()
        optimizer.step()
    return W.detach(), b.detach()


def _squares(W: Tensor, b: Tensor, x: Tensor) -> Tensor:
    return (torch.relu(x @ W.T @ W + b) - x).square()


def test_endless_data_are_new_at_every_step_and_the_rate_lower(result: AnalysisResult) -> None:
    losses = []
    for seed in (0, 1):
        source = SparseFeatures.of(1, 20, 0.2, unit_norm=True, seeds=seed)
        W, b = _trained_alone(seed, 0.3 * 0.02, [source.batch(step, 32).x[0] for step in range(40)])
        losses.append(float(_squares(W, b, _test_examples()).sum(-1).mean()))
    (found,) = result.tables["losses"].query("data.str.contains('endless')")["loss"].unique()
    assert found == pytest.approx(sum(losses) / 2, abs=1e-5)


def test_more_hidden_dimensions_have_no_pictures() -> None:
    result = run_analysis(NAME, **SMALL | {"d_hidden": 3, "sizes": [3, 6], "steps": 3})
    assert result.passed
    assert {"losses", "dimensionality", "geometry", "findings"} == set(result.tables)
    assert result.tables["geometry"]["largest_gap_error"].isna().all()


def _model(size: int | None, corners: int, seed: int = 0, **losses: float) -> Memorised:
    """Examples on a polygon with all of them as corners, features on one of `corners`."""
    W = torch.zeros(2, 30, dtype=torch.float64)
    W[:, :corners] = polytopes.regular_polygon(corners)
    hidden = None if size is None else 1.5 * polytopes.regular_polygon(size).T
    return Memorised(size, seed, W, hidden, losses.get("train", math.nan), losses.get("test", 1.0))


def test_tables_of_polygons() -> None:
    found = [_model(5, 6), _model(40, 5)]
    dimensionality = dimensionality_table([*found, _model(None, 5)])
    wide = dimensionality.pivot(index="examples", columns="kind", values="typical")
    assert wide.loc[5].tolist() == pytest.approx([2 / 5, 2 / 6])
    assert wide.loc[40].tolist() == pytest.approx([2 / 40, 2 / 5])
    numbers = dimensionality.pivot(index="examples", columns="kind", values="effective_number")
    assert numbers.loc[40].tolist() == pytest.approx([40, 5])
    assert dimensionality["total"].tolist() == pytest.approx([2] * 5)
    geometry = geometry_table([*found, _model(None, 5)]).set_index(["trained_on", "kind"])
    assert geometry["shape"].to_dict() == {
        ("5", "examples"): "pentagon",
        ("5", "features"): "hexagon",
        ("40", "examples"): "more than can be named",
        ("40", "features"): "pentagon",
        ("endless", "features"): "pentagon",
    }
    assert geometry["represented"].tolist() == [5, 6, 40, 5, 5]
    assert geometry["largest_gap_error"].abs().max() < 1e-9


def test_a_bent_polygon_has_a_gap_error() -> None:
    model = _model(5, 5)
    turn = torch.tensor(10.0).deg2rad()
    assert model.hidden is not None
    x, y = model.hidden[2].clone()
    model.hidden[2] = torch.stack(
        [x * turn.cos() - y * turn.sin(), x * turn.sin() + y * turn.cos()]
    )
    table = geometry_table([model]).set_index("kind")
    assert table["largest_gap_error"]["examples"] == pytest.approx(10)
    assert table["largest_gap_error"]["features"] == pytest.approx(0, abs=1e-9)


def test_vectors_lie_in_their_cells() -> None:
    model = _model(3, 4)
    tables = vectors_tables([model], [_model(None, 5)])
    assert set(tables["vectors"]["panel"]) == {"3: examples", "3: features", "endless: features"}
    cells = tables["cells"].query("panel == '3: examples' and vectors > 0")
    vectors = tables["vectors"].query("panel == '3: examples'")
    assert len(cells) == len(vectors) == 3
    half = 1 / 21 + 0.005  # a cell's half width, and its middle's rounding
    for vector in vectors.itertuples():
        near = cells[
            (cells["x"] - vector.x).abs().le(half) & (cells["y"] - vector.y).abs().le(half)
        ]
        assert near["vectors"].tolist() == [1]
    features = tables["cells"].query("panel == '3: features'")
    (middle,) = features.query("x == 0 and y == 0").itertuples()
    assert (middle.vectors, middle.fullness) == (26, 1.0)


def _findings(test_losses: list[float], corners: int = 5) -> pd.DataFrame:
    sizes = (3, 5, 50, 500)
    train = (0.0, 0.05, 0.6, test_losses[-1] - 0.01)
    found = [
        _model(size, corners if size > 50 else 20, train=one, test=other)
        for size, one, other in zip(sizes, train, test_losses, strict=True)
    ]
    endless = [_model(None, 5, test=0.9)]
    tables = {
        "losses": losses_table(found, endless),
        "dimensionality": dimensionality_table([*found, *endless]),
        "geometry": geometry_table([*found, *endless]),
    }
    return findings_table(tables)


def test_findings_of_a_planted_double_descent() -> None:
    findings = _findings([1.0, 0.98, 2.5, 0.91])
    assert findings["agrees"].all(), findings
    assert "2.50 at T = 50" in _here(findings, "peak")
    assert "1 of 1 at T = 3, 1 of 1 at T = 5" in _here(findings, "few examples: the hidden")
    assert "features ahead from T = 50" in _here(findings, "goes over")


def test_findings_without_a_peak_or_a_polygon_do_not_agree() -> None:
    findings = _findings([1.5, 1.3, 1.1, 0.91], corners=30)
    assert not _agrees(findings, "peak")
    assert not _agrees(findings, "a few features are a regular polygon")
    assert not _agrees(_findings([0.2, 0.98, 2.5, 0.91]), "they are memorised")


def _agrees(findings: pd.DataFrame, words: str) -> bool:
    (row,) = findings[findings["claim"].str.contains(words, regex=False)].itertuples()
    return bool(row.agrees)


def _here(findings: pd.DataFrame, words: str) -> str:
    (row,) = findings[findings["claim"].str.contains(words, regex=False)].itertuples()
    return str(row.here)


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match="different numbers of at least 2"):
        run_analysis(NAME, sizes=[5, 5])
    with pytest.raises(InputError, match="different numbers of at least 2"):
        run_analysis(NAME, sizes=[1])
    with pytest.raises(InputError, match=r"raise the density \(0.001\)"):
        run_analysis(NAME, **SMALL | {"density": 0.001})
