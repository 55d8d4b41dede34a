"""superposition-importance: its tables on planted toys, and what a quick run finds."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from analyses import AnalysisResult, run_analysis
from analyses.superposition.importance_tables import Trained, figures, tables_of
from interp.charts.panels import LABEL_LIMIT
from interp.errors import InputError

fp64 = torch.float64

# n = 4, m = 2: one column a feature.
TOP = [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]
MIXED = [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, -1.0, 0.0]]  # 0 alone, 1 and 2 share
DIGONS = [[1.0, 0.0, 0.0, -1.0], [0.0, 1.0, -1.0, 0.0]]
TURNED = [[1.0, -1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]  # the less important one alone


def _planted(sparser: list[list[float]] = MIXED, linear_loss: float = 0.1) -> Trained:
    """A linear toy, then ReLU toys: two dense ones and two sparser ones."""
    relu = [TURNED, TOP, sparser, DIGONS]
    W = torch.tensor([TOP, TOP, TOP, *relu], dtype=fp64)
    count = len(W)
    nothing = torch.zeros(count, dtype=fp64)
    return Trained(
        ratio=0.7,
        is_linear=torch.arange(count) < 3,
        density=torch.tensor([1.0, 0.3, 0.1, 1.0, 1.0, 0.3, 0.1], dtype=fp64),
        seed=torch.tensor([0, 0, 0, 0, 1, 0, 0]),
        importance=0.7 ** torch.arange(4, dtype=fp64),
        W=W,
        loss=torch.tensor([0.1, 0.1, 0.1, 0.2, 0.1, 0.1, 0.1], dtype=fp64),
        stderr=nothing,
        linear_loss=nothing + linear_loss,
        linear_optimum=nothing + 0.0999,
    )


def test_the_best_toys_are_measured() -> None:
    tables = tables_of([_planted()])
    best = tables["by-density"]
    assert best["toy"].tolist() == [
        "linear, 1-S = 1", "linear, 1-S = 0.3", "linear, 1-S = 0.1",
        "ReLU, 1-S = 1", "ReLU, 1-S = 0.3", "ReLU, 1-S = 0.1",
    ]  # fmt: skip
    assert best["seed"].tolist() == [0, 0, 0, 1, 0, 0]
    assert best["represented"].tolist() == [2, 2, 2, 2, 3, 4]
    assert best["alone"].tolist() == [2, 2, 2, 2, 1, 0]
    assert best["is_top"].tolist() == [True] * 4 + [False] * 2
    assert best["mean_superposition"].tolist() == pytest.approx([0, 0, 0, 0, 2 / 3, 1])
    assert best["dimensions_per_feature"].tolist() == pytest.approx([1, 1, 1, 1, 2 / 3, 0.5])
    assert best["exact_loss"].isna().tolist() == [False] * 3 + [True] * 3
    assert tables["findings"]["agrees"].all()
    features = tables["features"].query("toy == 'ReLU, 1-S = 0.3'")
    assert features["norm"].tolist() == pytest.approx([1, 1, 1, 0])
    assert features["superposition"].tolist() == pytest.approx([0, 1, 1, 0])
    assert features["importance"].tolist() == pytest.approx([1, 0.7, 0.49, 0.343])
    gram = tables["gram"].query("toy == 'ReLU, 1-S = 0.3'")
    by_place = gram.set_index(["feature", "other"])["product"]
    assert (by_place[1, 2], by_place[2, 1], by_place[0, 0], by_place[0, 1]) == (-1, -1, 1, 0)
    assert tables["gram"]["toy"].nunique() == 4  # one linear toy


def test_findings_disagree_where_toys_do() -> None:
    agrees = tables_of([_planted(sparser=TURNED)])["findings"]["agrees"].tolist()
    assert agrees == [True, True, True, True, False]
    agrees = tables_of([_planted(linear_loss=0.11)])["findings"]["agrees"].tolist()
    assert agrees == [True, False, True, True, True]
    wrong = _planted()
    wrong.W[1] = wrong.W[1].flip(-1)
    wrong.W[4] = torch.tensor(DIGONS, dtype=fp64)
    agrees = tables_of([wrong])["findings"]["agrees"].tolist()
    assert agrees[:4] == [False, True, False, False]


def test_nothing_is_said_of_dense_features_where_there_are_none() -> None:
    dense = "n=4 m=2: dense, the ReLU model is like the linear one"
    assert dense in tables_of([_planted()])["findings"]["claim"].tolist()
    sparser = _planted()
    sparser.density[sparser.density == 1] = 0.9
    assert dense not in tables_of([sparser])["findings"]["claim"].tolist()


def test_rows_of_heatmaps_have_names_that_are_not_cut_short() -> None:
    planted = _planted()
    planted.density[[2, 6]] = 0.003
    tables = tables_of([planted])
    named = [chart for chart in figures(tables).values() if chart.table == "features"]
    assert len(named) == 2
    for chart in named:
        names = tables["features"][chart.y].unique()
        assert names.tolist() == [
            "linear, 1", "linear, 0.3", "linear, 0.003", "ReLU, 1", "ReLU, 0.3", "ReLU, 0.003",
        ]  # fmt: skip
        assert max(map(len, names)) <= LABEL_LIMIT
        assert chart.y_text is None, "its spaces would be drawn as those of tokens"


@pytest.fixture(scope="module")
def quick() -> AnalysisResult:
    return run_analysis("superposition-importance", quick=True)


def test_a_quick_run_shows_the_papers_figure(quick: AnalysisResult) -> None:
    assert quick.passed, quick.checks
    findings = quick.tables["findings"].set_index("claim")["agrees"]
    assert findings.iloc[:4].all(), findings
    represented = quick.tables["by-density"].set_index(["model", "density"])["represented"]
    assert (represented["linear"] == 5).all()
    assert represented["ReLU", 1.0] == 5
    assert represented["ReLU", 0.01] >= 10  # at least two a dimension


def test_exact_losses_of_linear_toys_are_those_of_examples(quick: AnalysisResult) -> None:
    linear = quick.tables["by-density"].query("model == 'linear'")
    error = (linear["loss"] - linear["exact_loss"]).abs() / linear["stderr"]
    assert error.max() < 5
    assert (linear["exact_loss"] >= linear["linear_optimum"]).all()
    # Importance times variance of the features that have no dimension.
    expected = [
        sum(0.7**i * (p / 3 - p * p / 4) for i in range(5, 20)) / 20 for p in linear["density"]
    ]
    assert linear["linear_optimum"].tolist() == pytest.approx(expected)


def test_tables_tell_of_the_same_weights(quick: AnalysisResult) -> None:
    gram = quick.tables["gram"]
    features = quick.tables["features"]
    features = features[features["toy"].isin(gram["toy"])].set_index(["toy", "feature"])
    own = gram[gram["feature"] == gram["other"]].set_index(["toy", "feature"])["product"]
    pd.testing.assert_series_equal(
        (features["norm"] ** 2).sort_index(), own.sort_index(), check_names=False
    )
    rest = gram[gram["feature"] != gram["other"]]
    squares = (rest["product"] ** 2).groupby([rest["toy"], rest["feature"]]).sum()
    shared = (features["superposition"] * features["norm"] ** 2).sort_index()
    assert shared.tolist() == pytest.approx(squares.sort_index().tolist(), abs=1e-9)


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"d_hidden": [5]}, "as many entries each"),
        ({"n_features": [20, 20], "d_hidden": [5, 5]}, "set-ups must differ"),
        ({"n_features": [20, 20]}, "d_hidden must be at least 1 and below n_features"),
        ({"ratio": [0.7, 1.0]}, "ratio must lie between 0 and 1"),
        ({"densities": [2.0]}, "densities must be different numbers above 0"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, object], rule: str) -> None:
    with pytest.raises(InputError, match=rule):
        run_analysis("superposition-importance", **settings)
