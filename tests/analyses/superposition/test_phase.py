"""superposition-phase: the counting on planted toys, and toys beside the theory."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch

from analyses import AnalysisResult, run_analysis
from analyses.superposition import phase
from analyses.superposition.phase import _exact, _theory_is_least
from analyses.superposition.phase_tables import Diagram, tables_of
from interp.errors import InputError
from interp.toys import ToyModel
from interp.toys.exact_loss import exact_loss
from interp.toys.theory import REGIONS, MinimumLossRegions, minimum_loss_regions

fp64 = torch.float64
MARGIN = 0.05
FATES = {0: [[1.0, 0.0]], 1: [[1.0, -1.0]], 2: [[0.0, 1.0]]}  # W of n = 2, m = 1


@cache
def _theory() -> MinimumLossRegions:
    return minimum_loss_regions([1.0, 0.2], [0.2, 0.9, 4.0])


def _planted(wrong: tuple[int, int] | None = None) -> Diagram:
    """Two toys a point: the second is the better one and as the theory has it, but for one point.

    There the better one has another fate.
    """
    theory = _theory()
    fates = torch.stack([(theory.region + 1) % 3, theory.region], -1)
    if wrong is not None:
        fates[wrong] = fates[wrong].flip(0)
    W = torch.tensor([FATES[k] for k in fates.flatten().tolist()], dtype=fp64)
    least = theory.losses.amin(0)
    return Diagram(
        theory=theory,
        W=W.unflatten(0, tuple(fates.shape)),
        losses=torch.stack([1.5 * least, 1.25 * least], -1),
        represented=0.5,
    )


def test_the_best_toy_of_each_point_counts() -> None:
    tables = tables_of([_planted()], MARGIN)
    points = tables["points"]
    assert points["density"].tolist() == [1.0] * 3 + [0.2] * 3
    assert points["relative_importance"].tolist() == [0.2, 0.9, 4.0] * 2
    assert points["best_region"].tolist() == _theory().region.flatten().tolist()
    assert points["agrees"].all()
    assert (points["share"] == 0.5).all()
    assert points["excess"].tolist() == pytest.approx([0.25] * 6)
    agreement = tables["agreement"].set_index("points")
    assert (agreement["agreement"] == 1.0).all()
    assert (agreement["single_toy_agreement"] == 0.5).all()
    assert tables["findings"]["agrees"].iloc[0]
    maps = tables["maps"]
    assert len(maps) == 12
    assert maps["source"].unique().tolist() == ["n=2 m=1, theory", "n=2 m=1, best toy"]


def test_a_disagreement_counts_only_away_from_boundaries() -> None:
    away = _theory().relative_margin >= MARGIN
    assert int(away.sum()) == 5
    near = tuple((~away).nonzero()[0].tolist())  # between equal dense features fates are equal
    assert near == (0, 1)
    by_boundary = tables_of([_planted(wrong=(0, 1))], MARGIN)
    assert by_boundary["agreement"]["agreement"].tolist() == pytest.approx([5 / 6, 1.0])
    assert by_boundary["findings"]["agrees"].iloc[0]
    elsewhere = tables_of([_planted(wrong=(1, 0))], MARGIN)
    assert elsewhere["agreement"]["agreement"].tolist() == pytest.approx([5 / 6, 4 / 5])
    assert not elsewhere["findings"]["agrees"].iloc[0]
    regions = elsewhere["regions"]
    of_all = regions[regions["points"] == "all"].set_index("theory")[list(REGIONS)]
    theory = int(_theory().region[1, 0])
    taken_for = (theory + 1) % 3
    assert of_all.loc[REGIONS[theory], REGIONS[taken_for]] == 1
    assert int(of_all.to_numpy().sum()) == 6
    assert int(of_all.to_numpy().trace()) == 5


def test_without_a_point_away_from_boundaries_there_is_no_share() -> None:
    row = tables_of([_planted()], 1.0)["findings"].iloc[0]
    assert row["here"] == "no points with a margin of 1; 100.0% of all 6"
    assert not row["agrees"]


def test_a_toy_below_the_theory_is_caught() -> None:
    diagram = _planted()
    assert _theory_is_least(diagram).passed
    losses = diagram.losses.clone()
    losses[1, 2, 0] = 0.99 * diagram.theory.losses.amin(0)[1, 2]
    better = Diagram(diagram.theory, diagram.W, losses, 0.5)
    assert _theory_is_least(better).value == pytest.approx(0.01)
    assert not _theory_is_least(better).passed
    findings = [
        tables_of([each], MARGIN)["findings"]["agrees"].iloc[1] for each in (diagram, better)
    ]
    assert findings == [True, False]


def test_losses_are_exact_however_many_at_once(
    assert_close: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    models = ToyModel(5, 2, 1)
    density = torch.linspace(0.1, 1, 5, dtype=fp64)
    importance = torch.linspace(0.5, 2, 10, dtype=fp64).view(5, 2)
    monkeypatch.setattr(phase, "MODELS_AT_ONCE", 2)
    found = _exact(models, density, importance)
    W, b = models.W.detach().double(), models.b.detach().double()
    each = [exact_loss(W[i], b[i], density[i, None], importance[i]) for i in range(5)]
    assert_close(found, torch.stack(each))


@pytest.fixture(scope="module")
def quick() -> AnalysisResult:
    return run_analysis("superposition-phase", quick=True)


def test_toys_become_what_the_theory_says(quick: AnalysisResult) -> None:
    assert quick.passed, quick.checks
    away = quick.tables["agreement"].query("points == 'away from boundaries'").iloc[0]
    assert away["count"] >= 30
    assert away["agreement"] >= 0.9
    assert quick.tables["findings"]["agrees"].all()
    points = quick.tables["points"]
    assert points["away"].tolist() == (points["margin"] >= MARGIN).tolist()
    assert (points["excess"] > -1e-6).all()
    assert points["excess"].median() < 0.01


def test_three_features_in_two_dimensions() -> None:
    settings = {"n_features": [3], "grid": 2, "n_seeds": 6, "steps": 300, "batch_size": 64}
    result = run_analysis("superposition-phase", lr=0.03, compiled=False, **settings)
    assert result.passed
    points = result.tables["points"]
    # Corners: dense and sparse, a tenth and ten times as important.
    assert points["region_name"].tolist() == [
        "not represented", "dedicated", "superposed", "dedicated",
    ]  # fmt: skip
    assert points["agrees"].all()


@pytest.mark.parametrize("n_features", [[2, 2], [4], []])
def test_sizes_without_a_theory_are_refused(n_features: list[int]) -> None:
    with pytest.raises(InputError, match="n_features"):
        run_analysis("superposition-phase", n_features=n_features)


def test_weights_of_each_point_are_those_of_the_theory_and_of_the_best_toy() -> None:
    planted = _planted()
    table = tables_of([planted], MARGIN)["weights"]
    assert table["size"].unique().tolist() == ["n=2 m=1"]
    points = table.set_index(["source", "row", "column", "hidden", "feature"])["weight"]
    for row in range(2):
        for column in range(3):
            best = planted.W[row, column, 1]  # the second toy is the better one
            for feature in range(2):
                place = (row, column, 0, feature)
                assert points["best toy", *place] == float(best[0, feature])
                assert points["theory", *place] == float(planted.theory.W[row, column, 0, feature])
