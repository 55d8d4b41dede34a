"""One feature that differs: the branches against known solutions, tables against the library."""

from __future__ import annotations

import math

import pandas as pd
import pytest
import torch

from analyses import run_analysis
from analyses.superposition.perturb_branches import (
    STARTS,
    Setting,
    follow,
    kind_of,
    transition,
)
from interp import InputError
from interp.toys.exact_loss import exact_loss, feature_variance
from interp.toys.polytopes import digon, pentagon, tegum_product, triangle
from interp.toys.quadrature import Quadrature, expected_loss

NAME = "superposition-perturb"
SMALL = {"relative": [0.2, 0.3, 1.0], "n_seeds": 2, "steps": 30, "batch_size": 32, "points": 16}


@pytest.fixture(scope="module")
def setting() -> Setting:
    relative = torch.tensor([0.05, 0.2, 0.3, 1.0, 4.0], dtype=torch.float64)
    return Setting("density", 0.05, relative, Quadrature.of(5, 64))


def test_branches_are_the_solutions_that_they_are_named_after(setting: Setting) -> None:
    found = follow(setting)
    assert [tuple(kinds) for kinds in found.kinds] == [
        ("digons", "digons"), STARTS, STARTS, STARTS, ("pentagon", "pentagon"),
    ]  # fmt: skip
    assert float(found.gradient.max()) < 1e-6
    # Two digons and the mean for the fifth feature: the parts' own exact losses, added.
    fine = Quadrature.of(5, 4096)
    densities, importances = setting.of_features(setting.relative)
    for i, relative in enumerate(setting.relative.tolist()[:-1]):
        W, b = found.W[i, 1], found.b[i, 1]
        exact = float(exact_loss(W[:, 1:], b[1:], 0.05) + feature_variance(0.05 * relative)) / 5
        assert float(found.loss[i, 1]) == pytest.approx(exact, rel=0.02)  # 64 points a set
        loss = expected_loss(W, b, fine.weights(densities[i]), importances[i], fine)
        assert float(loss) / 5 == pytest.approx(exact, rel=1e-3)

    def angle(i: int) -> float:
        W = found.W[i, 0]
        cosines = (W[:, 0] @ W[:, 1:]) / (W[:, 0].norm() * W[:, 1:].norm(dim=0))
        return math.degrees(math.acos(float(cosines.max())))

    # Equal features, equal angles; a sparser one has less room, a denser one more.
    assert angle(3) == pytest.approx(72, abs=0.1)
    assert angle(1) < angle(2) < 72 < angle(4)


def test_slopes_are_those_of_the_losses(setting: Setting) -> None:
    """By the envelope theorem: a difference of losses of solutions, each descended to anew."""
    near = Setting("density", 0.05, torch.tensor([0.99, 1.01]).double(), setting.quadrature)
    ends, middle = follow(near), follow(setting)
    differences = (ends.loss[1] - ends.loss[0]) / 0.02
    assert middle.slope[3].tolist() == pytest.approx(differences.tolist(), rel=1e-3)


def test_losses_cross_where_they_are_equal(setting: Setting) -> None:
    found = transition(setting, follow(setting))
    assert found is not None and 0.2 < found.relative < 0.3
    losses = found.branches.loss[0].tolist()
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert float(found.branches.slope[0, 0]) < 0.6 * float(found.branches.slope[0, 1])
    # Between values far apart the gap is far from straight: the same crossing all the same.
    wide = Setting("density", 0.05, setting.relative[[0, 3]], setting.quadrature)
    wide.relative[0] = 0.13
    again = transition(wide, follow(wide))
    assert again is not None and again.relative == pytest.approx(found.relative, rel=2e-4)
    assert again.branches.loss[0, 0] == pytest.approx(float(again.branches.loss[0, 1]), rel=1e-6)
    above = Setting("density", 0.05, setting.relative[2:], setting.quadrature)
    assert transition(above, follow(above)) is None


def test_importance_is_varied_alike() -> None:
    relative = torch.tensor([0.1, 1.0], dtype=torch.float64)
    setting = Setting("importance", 0.05, relative, Quadrature.of(5, 16))
    density, importance = setting.of_features(relative)
    assert density.unique().tolist() == [0.05]
    assert importance.tolist() == [[0.1, 1, 1, 1, 1], [1.0, 1, 1, 1, 1]]
    found = follow(setting)
    assert found.kinds[0][0] == "digons" and tuple(found.kinds[1]) == STARTS
    # Without the first feature its importance times its variance is all that depends on it.
    slope = float(found.slope[1, 1])
    assert slope == pytest.approx(feature_variance(0.05) / 5, rel=1e-3)


def test_kinds_of_arrangements_made_by_hand() -> None:
    square, nothing = tegum_product(digon(), digon()), torch.zeros(2, 1, dtype=torch.float64)
    turn = torch.tensor([[0.6, -0.8], [0.8, 0.6]], dtype=torch.float64)
    models = [
        turn @ pentagon(),
        turn @ torch.cat([nothing, square], 1),
        torch.cat([square, nothing], 1),
        torch.cat([square, 0.8 * square[:, :1] + 0.3 * square[:, 2:3]], 1),
        torch.cat([triangle(), nothing, nothing], 1),
        # On its way out: the pentagon's order of angles, a third of the others' length.
        torch.cat([square.new_tensor([[0.24], [0.24]]), square], 1),
    ]
    assert kind_of(torch.stack(models)) == [
        "pentagon", "digons", "digons, another feature absent", "other", "other",
        "digons",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def result() -> object:
    return run_analysis(NAME, **SMALL)


def test_tables_agree_with_one_another(result: pytest.FixtureRequest) -> None:
    assert result.passed
    tables = result.tables
    models, by_value, solutions = (tables[k] for k in ("trained", "by-value", "solutions"))
    assert len(models) == 3 * 2 and len(solutions) == 3 * 2
    for row in by_value.itertuples():
        toys = models[models["relative"] == row.relative]
        assert row.best_loss == toys["loss"].min()
        assert row.pentagon_share == (toys["solution"] == "pentagon").mean()
        ended = solutions[(solutions["relative"] == row.relative) & solutions["persists"]]
        for kind in STARTS:
            (loss,) = ended.loc[ended["start"] == kind, "loss"]
            assert getattr(row, f"{kind}_loss") == loss
    # No toy does better than the better solution: both are minima.
    lowest = solutions.groupby("relative")["loss"].min()
    assert (by_value.set_index("relative")["best_loss"] >= lowest - 1e-9).all()
    assert tables["findings"]["agrees"].dtype == bool
    (row,) = tables["findings"][
        tables["findings"]["claim"].str.contains("first-order")
    ].itertuples()
    assert row.agrees and f"{tables['crossing']['relative'][0]:.3f}" in row.here


def test_directions_keep_lengths(result: pytest.FixtureRequest) -> None:
    rows = result.tables["directions"]
    assert len(rows) == 3 * 5
    varied = rows[rows["feature"] == "varied"]
    by_value = result.tables["by-value"]
    lengths = (varied["x"] ** 2 + varied["y"] ** 2) ** 0.5
    pd.testing.assert_series_equal(
        lengths.reset_index(drop=True), by_value["norm"], check_names=False, atol=1e-8
    )


def test_toys_of_one_seed_are_the_same_at_every_value(result: pytest.FixtureRequest) -> None:
    """Run alone at one of the values: what else is in the stack changes nothing."""
    settings = {**SMALL, "relative": [0.3, 1.0]}
    alone = run_analysis(NAME, **settings).tables["trained"]
    models = result.tables["trained"]
    both = models[models["relative"] > 0.25].reset_index(drop=True)
    assert alone["loss"].tolist() == pytest.approx(both["loss"].tolist(), abs=1e-6)


def test_equal_features_are_spoken_of_where_there_are_some(result: pytest.FixtureRequest) -> None:
    claim = "equal features make a regular pentagon"
    assert claim in set(result.tables["findings"]["claim"])
    unequal = run_analysis(NAME, **{**SMALL, "relative": [0.2, 0.9], "n_seeds": 1, "steps": 2})
    assert claim not in set(unequal.tables["findings"]["claim"])


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"relative": [1.0, 1.0]}, "different"),
        ({"relative": [0.0, 1.0]}, "above 0"),
        ({"relative": [1.0, 30.0]}, "at most 1"),
        ({"vary": "sparsity"}, "vary"),
    ],
)
def test_what_makes_no_sense_is_refused(settings: dict[str, object], match: str) -> None:
    with pytest.raises(InputError, match=match):
        run_analysis(NAME, **settings)
