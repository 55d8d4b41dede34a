"""The analysis of memorisation: against a plain loop, on planted polygons, and what it refuses."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

from analyses import AnalysisResult, run_analysis
from analyses.superposition import memorisation, memorisation_tables
from analyses.superposition.memorisation_findings import findings_of
from analyses.superposition.memorisation_tables import (
    Memorised,
    dimensionality_table,
    geometry_table,
    losses_table,
    vectors_table,
)
from interp import InputError
from interp.toys import FiniteExamples, SparseFeatures, ToyModel, polytopes
from interp.toys.measures import example_dimensionality

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
    claims = " ".join(result.tables["findings"]["claim"])
    assert "gon" not in claims, "of polygons nothing is said that was not looked at"


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


def test_vectors_are_those_of_the_models_the_longest_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = _model(3, 4)
    model.W[:, 20] = torch.tensor([3.0, -4.0])
    table = vectors_table([model], [_model(None, 5)]).set_index("panel")
    assert table.groupby(level=0).size().to_dict() == {
        "3: examples": 3,
        "3: features": 30,
        "endless: features": 30,
    }
    features = table.loc["3: features"].reset_index()
    assert features.loc[0, ["index", "x", "y"]].tolist() == pytest.approx([20, 0.6, -0.8])
    assert model.hidden is not None
    for index, x, y in table.loc["3: examples", ["index", "x", "y"]].to_numpy().tolist():
        assert [x, y] == pytest.approx((model.hidden[int(index)] / 1.5).tolist())
    monkeypatch.setattr(memorisation_tables, "DRAWN", 2)
    few = vectors_table([model], [_model(None, 5)]).set_index("panel").loc["3: features"]
    assert few["index"].tolist() == [20, 0]


def _findings(
    test_losses: list[float],
    corners: int = 5,
    sizes: tuple[int, ...] = (3, 5, 50, 500),
    endless: float = 0.9,
) -> pd.DataFrame:
    train = (0.0, 0.05, 0.6, test_losses[-1] - 0.01)
    found = [
        _model(size, corners if size > 50 else 20, train=one, test=other)
        for size, one, other in zip(sizes, train, test_losses, strict=True)
    ]
    return _found(found, [_model(None, 5, test=endless)])


def _found(found: list[Memorised], endless: list[Memorised]) -> pd.DataFrame:
    tables = {
        "losses": losses_table(found, endless),
        "dimensionality": dimensionality_table([*found, *endless]),
        "geometry": geometry_table([*found, *endless]),
    }
    return findings_of(tables, 2)


def test_findings_of_a_planted_double_descent() -> None:
    findings = _findings([1.0, 0.98, 2.5, 0.91])
    assert findings["agrees"].all(), findings
    assert len(findings) == 7
    assert "2.50 at T = 50" in _here(findings, "has a peak")
    assert "1 of 1 at T = 3, 1 of 1 at T = 5" in _here(findings, "few examples: the hidden")
    assert "features ahead from T = 50 on" in _here(findings, "goes over")
    # Of 50 corners and 20: 2 / 50 and 2 / 20.
    assert "examples 0.04 (0.67 at T = 3), features 0.10 (0.40 at T = 500)" in _here(
        findings, "at the peak neither"
    )


def test_findings_without_a_peak_or_a_polygon_do_not_agree() -> None:
    findings = _findings([1.5, 1.3, 1.1, 0.91], corners=30)
    assert not _agrees(findings, "has a peak")
    assert "least before none tried" in _here(findings, "has a peak")
    assert not _agrees(findings, "a few features are a regular polygon")
    assert not _agrees(_findings([0.2, 0.98, 2.5, 0.91]), "are memorised")


def test_losses_that_meet_far_from_those_of_endless_data_do_not_agree() -> None:
    assert not _agrees(_findings([1.0, 0.98, 2.5, 0.91], endless=0.7), "of endless data")


def test_what_no_size_can_show_has_no_row() -> None:
    """Neither few examples, nor sizes on both sides of the peak, were tried."""
    claims = _findings([2.5, 1.5, 1.2, 0.91], sizes=(20, 50, 100, 500))["claim"]
    assert not claims.str.contains("few examples|neither examples", regex=True).any()
    one = _found([_model(500, 5, train=0.9, test=0.91)], [_model(None, 5, test=0.9)])
    assert not one["claim"].str.contains("peak|goes over", regex=True).any()


def test_features_are_ahead_from_where_they_stay_so() -> None:
    found = [_model(size, k, train=0.5) for size, k in ((3, 20), (10, 5), (20, 30), (80, 5))]
    findings = _found(found, [_model(None, 5)])
    assert "features ahead from T = 80 on" in _here(findings, "goes over")


def test_the_check_of_dimensionalities_sees_large_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    found, params = [_model(300, 5)], memorisation.MemorisationParams()
    assert all(each.passed for each in memorisation._checks(found, params))

    def wrong(hidden: Tensor) -> Tensor:
        return example_dimensionality(hidden) * 1.01

    monkeypatch.setattr(memorisation, "example_dimensionality", wrong)
    assert [each.passed for each in memorisation._checks(found, params)] == [False, False]


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
