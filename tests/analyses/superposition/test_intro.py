"""superposition-intro: its tables on planted toys, its losses, and what a quick run finds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pandas as pd
import pytest
import torch

from analyses import AnalysisResult, run_analysis
from analyses.superposition.intro import _expected, _parts_check
from analyses.superposition.intro_tables import Trained, tables_of
from interp.errors import InputError
from interp.toys.exact_loss import exact_loss
from interp.toys.geometry import recognise_each

fp64 = torch.float64


def _spokes(*degrees: float | None) -> torch.Tensor:
    """Unit columns at these angles; None is a column of zeros."""
    columns = [
        (0.0, 0.0) if d is None else (math.cos(math.radians(d)), math.sin(math.radians(d)))
        for d in degrees
    ]
    return torch.tensor(columns, dtype=fp64).T


PAIR = _spokes(10, 100, None, None, None)
DIGONS = _spokes(0, 90, 180, 270, None)
PENTAGON = _spokes(0, 144, 72, 290, 216)  # one of them off by 2 degrees
OTHER = _spokes(0, 30, 90, 180, 270)


def _planted(*toys: tuple[float, torch.Tensor, float]) -> Trained:
    """Toys of importance 0.9^i, each with its density, weights and loss."""
    W = torch.stack([each for _, each, _ in toys])
    importance = 0.9 ** torch.arange(5, dtype=fp64)
    return Trained(
        ratio=torch.full((len(toys),), 0.9, dtype=fp64),
        density=torch.tensor([density for density, _, _ in toys], dtype=fp64),
        seed=torch.arange(len(toys)),
        importance=importance.expand(len(toys), 5),
        W=W,
        b=torch.zeros(len(toys), 5, dtype=fp64),
        loss=torch.tensor([loss for _, _, loss in toys], dtype=fp64),
        geometries=recognise_each(W),
    )


def test_the_best_toy_of_each_density_is_told() -> None:
    tables = tables_of(
        _planted(
            (1.0, OTHER, 0.3),
            (1.0, PAIR, 0.2),
            (0.2, DIGONS, 0.1),
            (0.2, DIGONS, 0.4),
            (0.1, PENTAGON, 0.05),
            (0.1, DIGONS, 0.06),
        )
    )
    rows = tables["by-condition"]
    assert rows["density"].tolist() == [1.0, 0.2, 0.1]
    assert rows["geometry"].tolist() == ["2 monosemantic features", "2 digons", "pentagon"]
    assert rows["features"].tolist() == ["0 1", "0 1 2 3", "0 1 2 3 4"]
    assert rows["represented"].tolist() == [2, 4, 5]
    assert rows["share"].tolist() == [0.5, 1.0, 0.5]
    assert rows["loss"].tolist() == [0.2, 0.1, 0.05]
    assert rows["worst_loss"].tolist() == [0.3, 0.4, 0.06]
    assert rows["least_gap_degrees"].tolist() == pytest.approx([90.0, 90.0, 70.0])
    assert rows["largest_gap_degrees"].tolist() == pytest.approx([270.0, 90.0, 74.0])
    findings = tables["findings"]
    assert findings["agrees"].all()
    assert "within 2.0° of 72°" in findings["here"].iloc[2]
    features = tables["features"]
    digon = features[features["density"] == 0.2]
    assert digon["norm"].tolist() == pytest.approx([1, 1, 1, 1, 0])
    assert digon["superposition"].tolist() == pytest.approx([1, 1, 1, 1, 0])
    assert digon["dimensionality"].tolist() == pytest.approx([0.5] * 4 + [0.0])


def test_findings_disagree_where_toys_do() -> None:
    wrong = _spokes(10, None, 100, None, None)  # not the most important ones
    tables = tables_of(_planted((1.0, wrong, 0.2), (0.1, OTHER, 0.1)))
    assert tables["findings"]["agrees"].tolist() == [False, False, False]


def test_dense_features_are_only_told_of_where_there_are_some() -> None:
    findings = tables_of(_planted((0.9, PAIR, 0.2), (0.1, PENTAGON, 0.1)))["findings"]
    assert not findings["claim"].str.contains("dense features").any()


def test_the_sparsest_toy_is_told_by_what_it_is() -> None:
    """Pentagons elsewhere do not make it one: its angles are not a pentagon's."""
    findings = tables_of(_planted((0.2, PENTAGON, 0.1), (0.1, DIGONS, 0.1)))["findings"]
    row = findings.iloc[-1]
    assert row["here"] == "pentagon at 1-S = 0.2; at 0.1 2 digons"
    assert not row["agrees"]


def test_a_feature_in_two_parts_or_in_none_is_caught() -> None:
    whole = recognise_each(torch.stack([PAIR, PENTAGON]))
    assert _parts_check(whole, 5).passed
    pair, pentagon = whole
    part = pair.parts[0]
    twice = replace(part, features=pair.parts[1].features)  # as many as before
    check = _parts_check([pentagon, replace(pair, parts=(twice, *pair.parts[1:]))], 5)
    assert (check.passed, check.value) == (False, 2.0)


def test_the_expected_loss_is_a_mean_over_features(assert_close: Callable[..., None]) -> None:
    importance = torch.tensor([[1.0, 0.5, 0.25, 0.1]], dtype=fp64).expand(2, 4)
    density = torch.tensor([0.3, 0.05], dtype=fp64)
    W = torch.stack([_spokes(0, 85, 180, 265), torch.zeros(2, 4, dtype=fp64)])
    b = torch.tensor([[-0.1, 0.05, 0.1, 0.0], [0.0] * 4], dtype=fp64)
    found = _expected(W, b, density, importance)
    exact = exact_loss(W, b, density[:, None], importance) / 4
    # Points stand for the cubes of present features to less than a thousandth of the loss.
    assert float((found / exact - 1).abs().max()) < 2e-3
    assert_close(found[1], density[1] / 3 * importance[1].mean(), tolerance=1e-5)


@pytest.fixture(scope="module")
def quick() -> AnalysisResult:
    return run_analysis("superposition-intro", quick=True)


def test_a_quick_run_shows_the_papers_figure(quick: AnalysisResult) -> None:
    assert quick.passed, quick.checks
    findings = quick.tables["findings"]
    assert findings["agrees"].all(), findings
    sparse = quick.tables["by-condition"].query("density == 0.02")
    assert (sparse["geometry"] == "pentagon").all()
    assert sparse["least_gap_degrees"].min() > 67
    assert sparse["largest_gap_degrees"].max() < 77


def test_tables_tell_of_the_same_weights(quick: AnalysisResult) -> None:
    features, gram = quick.tables["features"], quick.tables["gram"]
    keys = ["ratio", "density", "feature"]
    own = gram[gram["feature"] == gram["other"]].set_index(keys)["product"]
    norms = features.set_index(keys)["norm"]
    pd.testing.assert_series_equal(norms**2, own, check_names=False)
    angles = features.set_index(keys)["angle_degrees"]
    for _, row in gram[gram["density"] == 0.02].iterrows():
        one, other = ((row["ratio"], row["density"], row[name]) for name in ("feature", "other"))
        cosine = math.cos(math.radians(angles[one] - angles[other]))
        assert row["product"] == pytest.approx(norms[one] * norms[other] * cosine, abs=1e-9)
    tips = quick.tables["directions"].query("feature == '3'")
    of_three = features[features["feature"] == 3]
    assert (tips["x"] ** 2 + tips["y"] ** 2).tolist() == pytest.approx(
        (of_three["norm"] ** 2).tolist()
    )


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"densities": [0.5, 0.0]}, "densities must be different numbers above 0"),
        ({"densities": [0.5, 0.50000001]}, "densities must be different numbers above 0"),
        ({"ratios": [1.1]}, "ratios must be different numbers above 0"),
        ({"n_features": 9}, "n_features"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, object], rule: str) -> None:
    with pytest.raises(InputError, match=rule):
        run_analysis("superposition-intro", **settings)
