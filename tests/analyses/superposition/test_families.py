"""Toys read back from tables: the same weights that the result was made from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from analyses import AnalysisResult, run_analysis
from analyses.superposition.families import families_of, has_toys, phase_toy
from analyses.superposition.toys import watched
from analyses.superposition.toys_tables import Toys
from interp.errors import InputError
from interp.toys.measures import feature_dimensionality

TINY: dict[str, Any] = {"steps": 20, "batch_size": 16, "device": "cpu"}


@pytest.fixture(scope="module")
def dynamics() -> AnalysisResult:
    return run_analysis(
        "superposition-dynamics",
        **TINY, n_features=6, d_hidden=2, n_seeds=2, n_snapshots=10, density=0.3, set_density=0.2,
    )  # fmt: skip


def test_toys_of_ones_own() -> None:
    seen: list[Toys] = []
    with watched(seen.append):
        result = run_analysis(
            "superposition-toys", **TINY, n_features=4, densities=[0.5, 0.1], n_snapshots=2,
            hidden="relu", tied=False, n_seeds=2,
        )  # fmt: skip
    (family,) = families_of(result)
    assert (family.densities, family.steps) == ((0.5, 0.1), (0, 10, 20))
    best = seen[-1].best
    for k, toys in enumerate(seen):
        assert torch.equal(family.W[:, k], toys.W[-1, best])
        assert family.W_out is not None and toys.W_out is not None
        assert torch.equal(family.W_out[:, k], toys.W_out[-1, best])
        assert family.b is not None and torch.equal(family.b[:, k], toys.b[-1, best])
        assert family.loss is not None and torch.equal(family.loss[:, k], toys.loss[-1, best])
    assert family.hidden == "relu"
    assert family.importance.tolist() == pytest.approx([0.9**i for i in range(4)])


def test_toys_of_the_first_figure() -> None:
    result = run_analysis("superposition-intro", **TINY, densities=[1.0, 0.1], n_seeds=2)
    families = families_of(result)
    assert [family.name for family in families] == ["importance 0.9^i", "all features alike"]
    directions = result.tables["directions"]
    for family, ratio in zip(families, (0.9, 1.0), strict=True):
        assert family.densities == (1.0, 0.1)
        for k, density in enumerate(family.densities):
            toy = (directions["toy"] == f"1-S = {density:g}") & (directions["ratio"] == ratio)
            expected = torch.tensor(directions[toy][["x", "y"]].to_numpy()).mT
            assert float((family.W[k, 0] - expected).abs().max()) < 1e-10


def test_toys_over_time(dynamics: AnalysisResult) -> None:
    many, sets = families_of(dynamics)
    assert many.densities == (0.3,) and sets.densities == (0.2,)
    assert many.W.shape == (1, 11, 2, 6) and sets.W.shape == (1, 11, 3, 6)
    table = dynamics.tables["dimensionality"]
    seed = int(table["seed"].iloc[0])
    assert f"seed {seed}" in many.name
    D = feature_dimensionality(many.W[0])
    for row in table.itertuples():
        at = many.steps.index(row.step)
        assert float(D[at, int(row.feature)]) == pytest.approx(row.dimensionality, abs=1e-10)
    first = dynamics.tables["sets"]
    first = first[first["seed"] == 0]
    assert sets.loss is not None and sets.loss[0].tolist() == first["loss"].tolist()


def test_points_of_a_phase_diagram() -> None:
    result = run_analysis("superposition-phase", **TINY, n_features=[2], grid=3, n_seeds=2)
    points = result.tables["points"]
    for row in points.itertuples():
        for trained, norm in ((True, row.best_norm), (False, row.norm)):
            W = phase_toy(result, "n=2 m=1", row.row, row.column, trained)
            assert W.shape == (1, 2)
            assert float(W[:, -1].norm()) == pytest.approx(norm, abs=1e-10)
    with pytest.raises(InputError, match="no toy there"):
        phase_toy(result, "n=2 m=1", 3, 0)


def test_what_has_no_weights_is_told(dynamics: AnalysisResult) -> None:
    assert has_toys("superposition-dynamics") and not has_toys("superposition-phase")
    with pytest.raises(InputError, match="not by 'superposition-abs'"):
        families_of(replace(dynamics, name="superposition-abs"))
    older = {name: table for name, table in dynamics.tables.items() if name != "weights"}
    with pytest.raises(InputError, match="no table 'weights'"):
        families_of(replace(dynamics, tables=older))
    weights = dynamics.tables["weights"]
    cut = weights[weights["feature"] + weights["step"] > 0].reset_index(drop=True)
    with pytest.raises(InputError, match="a row is needed for each"):
        families_of(replace(dynamics, tables=dynamics.tables | {"weights": cut}))
