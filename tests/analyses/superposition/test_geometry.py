"""The geometry of uniform superposition: tables of polytopes made by hand, and of small runs."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
import torch

from analyses import AnalysisResult, run_analysis
from analyses.superposition.geometry_tables import REFERENCE, Trained, tables_of
from interp import InputError
from interp.toys.geometry import recognise_each
from interp.toys.polytopes import digon, pentagon, tegum_product, triangle

NAME = "superposition-geometry"
SMALL: dict[str, Any] = {
    "n_features": 12, "d_hidden": 4, "n_densities": 3, "more_densities": [], "steps": 20,
    "batch_size": 16,
}  # fmt: skip


def _padded(W: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    padded = torch.zeros(shape, dtype=torch.float64)
    padded[: W.shape[0], : W.shape[1]] = W
    return padded


@pytest.fixture(scope="module")
def made() -> dict[str, pd.DataFrame]:
    """Ten digons, four pentagons, and a mixture, in 10 dimensions with 24 features."""
    models = [
        tegum_product(*[digon()] * 10),
        tegum_product(*[pentagon()] * 4),
        tegum_product(*[triangle()] * 2, *[digon()] * 3),
    ]
    W = torch.stack([_padded(model, (10, 24)) for model in models])
    trained = Trained(
        density=torch.tensor([0.4, 0.2, 0.1], dtype=torch.float64),
        repeat=torch.zeros(3, dtype=torch.int64),
        seed=torch.arange(3),
        W=W,
        loss=torch.tensor([0.3, 0.2, 0.1]),
        geometries=recognise_each(W),
    )
    return tables_of(trained, half_width=0.005, flank=0.0125)


def test_plateaus_of_known_polytopes(made: dict[str, pd.DataFrame]) -> None:
    found = made["plateaus"].set_index(["label", "fraction"])
    expected = {
        ("0.4", "1/2"): 20, ("0.2", "2/5"): 20, ("0.1", "2/3"): 6, ("0.1", "1/2"): 6,
        ("all toys", "1/2"): 26, ("all toys", "2/5"): 20, ("all toys", "2/3"): 6,
    }  # fmt: skip
    for place, row in found.iterrows():
        assert row["within"] == expected.get(place, 0), place
        assert (row["below"], row["above"]) == (0, 0)
        assert row["stands_out"] == (row["within"] >= 10)
        assert row["of_shape"] == row["within"]


def test_features_at_a_fraction_by_accident_are_of_another_shape() -> None:
    """Lone pairs and triples whose lengths differ: at 2/5, and no pentagon."""
    # D of the first of a pair of lengths 1 and r is 1 / (1 + r²): r² = 3/2 makes it 2/5.
    pair = torch.tensor([[1.0, -(1.5**0.5)]], dtype=torch.float64)
    W = tegum_product(*[pair] * 10, triangle())
    trained = Trained(
        density=torch.tensor([0.3], dtype=torch.float64),
        repeat=torch.zeros(1, dtype=torch.int64),
        seed=torch.zeros(1, dtype=torch.int64),
        W=W.unsqueeze(0),
        loss=torch.zeros(1),
        geometries=recognise_each(W.unsqueeze(0)),
    )
    tables = tables_of(trained, half_width=0.005, flank=0.0125)
    table = tables["plateaus"].set_index(["label", "fraction"])
    for label in ("0.3", "all toys"):
        assert table.loc[(label, "2/5"), ["within", "of_shape", "stands_out"]].tolist() == [
            10, 0, True,
        ]  # fmt: skip
        assert table.loc[(label, "2/3"), ["within", "of_shape"]].tolist() == [3, 3]
    findings = tables["findings"].set_index("claim")
    row = findings.loc["features gather at other fractions"]
    assert not row["agrees"] and "0 of them in a pentagon" in row["here"]
    at = tables["features"]["at"].value_counts().to_dict()
    assert at == {"none": 10, "2/5": 10, "2/3": 3}


def test_tables_of_known_polytopes(made: dict[str, pd.DataFrame]) -> None:
    by_density = made["by-density"]
    assert by_density["represented"].tolist() == [20, 20, 12]
    # m / ‖W‖²: unit vectors, so m by their number.
    assert by_density["dimensions_per_feature"].tolist() == pytest.approx([0.5, 0.5, 10 / 12])
    assert by_density["mean_dimensionality"].tolist() == pytest.approx([0.5, 0.4, 7 / 12])
    assert by_density["sum_dimensionality"].tolist() == pytest.approx([10, 8, 7])
    assert by_density["reference"].isna().all()
    parts = made["parts"]
    found = dict(
        zip(zip(parts["density"], parts["shape"], strict=True), parts["parts"], strict=True)
    )
    assert found == {
        (0.4, "digon"): 10, (0.2, "pentagon"): 4, (0.1, "triangle"): 2, (0.1, "digon"): 3,
    }  # fmt: skip
    features = made["features"]
    assert (features["represented"] == (features["norm"] > 0.5)).all()
    there = features[features["represented"]]
    counts = there.groupby(["density", "at"]).size().to_dict()
    assert counts == {(0.4, "1/2"): 20, (0.2, "2/5"): 20, (0.1, "2/3"): 6, (0.1, "1/2"): 6}
    assert set(features.loc[~features["represented"], "at"]) == {"none"}
    for _, toy in features.groupby("density"):
        assert toy["dimensionality"].is_monotonic_decreasing
        assert sorted(toy["feature"]) == list(range(24))


def test_findings_of_known_polytopes(made: dict[str, pd.DataFrame]) -> None:
    findings = made["findings"].set_index("claim")
    agrees = findings["agrees"].to_dict()
    assert agrees == {
        "dimensions per feature stay at 1/2 over a range of densities": False,  # two of three
        "features gather at exactly 1/2": True,
        "features gather at other fractions": True,
        "the sparsest features get less than half a dimension each": False,
        "the parts of the interference graph are polytopes": True,
    }
    here = findings.loc["features gather at other fractions", "here"]
    assert "2/5 (20 at density 0.2, 20 of them in a pentagon)" in here


@pytest.fixture(scope="module")
def result() -> AnalysisResult:
    return run_analysis(NAME, **SMALL, n_seeds=2)


def test_a_run_has_a_toy_for_each_density_and_repeat(result: AnalysisResult) -> None:
    assert result.passed
    by_density = result.tables["by-density"]
    assert by_density["density"].tolist() == pytest.approx([1, 1, 20**-0.5, 20**-0.5, 0.05, 0.05])
    assert by_density["repeat"].tolist() == [0, 1] * 3
    assert by_density["seed"].tolist() == list(range(6))
    assert len(result.tables["features"]) == 6 * 12


def test_a_toy_can_be_trained_again_alone(result: AnalysisResult) -> None:
    """At its density and seed, without the others."""
    densities = [0.05, 0.04]
    alone = run_analysis(NAME, **SMALL, densities=densities, seed=5).tables["by-density"]
    last = result.tables["by-density"].iloc[-1]
    assert alone["density"].tolist() == densities and alone["seed"].tolist() == [5, 6]
    columns = ["dimensions_per_feature", "loss", "sum_dimensionality"]
    assert alone.loc[0, columns].tolist() == pytest.approx(last[columns].tolist(), rel=1e-5)


def test_the_reference_is_put_beside_its_own_set_up_alone() -> None:
    """Of 20 features in 200, whatever the training; untrained toys are far from it."""
    settings = {"n_features": 200, "d_hidden": 20, "steps": 1, "batch_size": 2}
    tables = run_analysis(NAME, **settings, more_densities=[0.22]).tables
    table = tables["by-density"]
    assert table["density"].is_monotonic_decreasing and len(table) == 21
    of_reference = table[table["density"] != 0.22]
    assert of_reference["reference"].tolist() == list(REFERENCE)
    assert table.loc[table["density"] == 0.22, "reference"].isna().all()
    table = of_reference
    off = table["dimensions_per_feature"] - table["reference"]
    assert table["difference"].tolist() == pytest.approx(off.tolist())
    row = tables["findings"].iloc[-1]
    assert "procedure" in row["claim"] and not row["agrees"]
    for other in ({"sparsest": 0.1}, {"n_features": 180}, {"n_densities": 19}):
        tables = run_analysis(NAME, **{**settings, **other}).tables
        assert tables["by-density"]["reference"].isna().all()


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"flank": 0.01}, "twice half_width"),
        ({"densities": [0.1, 0.1]}, "different"),
        ({"densities": [0.0, 0.1]}, "0 left out"),
        ({"densities": [0.5]}, "densities"),
        ({"more_densities": [1.5]}, "0 … 1"),
        ({"decay": "exponential"}, "decay"),
    ],
)
def test_what_makes_no_sense_is_refused(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match):
        run_analysis(NAME, **settings)
