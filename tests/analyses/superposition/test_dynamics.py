"""Superposition over training: histories made by hand, and a small run."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
import torch

from analyses import AnalysisResult, run_analysis
from analyses.superposition.dynamics_tables import History, tables_of
from interp import InputError
from interp.toys import SparseFeatures, ToyModel
from interp.toys.measures import feature_dimensionality
from interp.toys.polytopes import octahedron

NAME = "superposition-dynamics"
SMALL: dict[str, Any] = {
    "n_features": 8, "d_hidden": 3, "n_seeds": 2, "steps": 40, "batch_size": 16, "n_snapshots": 10,
}  # fmt: skip


def _with(norm: float) -> torch.Tensor:
    """Two features in one dimension: antipodes, the second this long."""
    return torch.tensor([[1.0, -norm]], dtype=torch.float64)


@pytest.fixture(scope="module")
def made() -> dict[str, pd.DataFrame]:
    """One toy whose second feature comes in from step 500 to 800, one that does in the burn-in."""
    norms = [0.0] * 6 + [0.3, 0.7, 1.0] + [1.0] * 12
    moving, still = (
        torch.stack([_with(n) for n in norms]),
        torch.stack([_with(0.2)] + [_with(1.0)] * 20),
    )
    fall = torch.tensor([0.9] * 6 + [0.8, 0.5, 0.4] + [0.4] * 12, dtype=torch.float64)
    many = History(
        steps=[100 * k for k in range(21)],
        seeds=[3, 4],
        W=torch.stack([moving, still], 1),
        loss=torch.stack([fall, torch.linspace(0.5, 0.4, 21).double()], 1),
    )
    return tables_of(many, _sets(), burn_in=0.1, least=0.1, moving=0.01)


def _sets() -> History:
    """Sets on the axes, as two orthogonal directions, less so, and as an antiprism."""
    axes = torch.eye(3, dtype=torch.float64).repeat(1, 2)
    apart = torch.zeros(3, 6, dtype=torch.float64)
    apart[0, :3], apart[1, 3:] = 1.0, 1.0
    faces = octahedron()[:, [0, 2, 4, 1, 3, 5]]  # a face, then the antipodes of its corners
    steps = [0, 10, 20, 30]
    W = torch.stack([0.1 * axes, apart, 0.5 * apart + 0.5 * faces, faces]).unsqueeze(1)
    loss = torch.tensor([[4.0], [3.0], [2.0], [1.0]], dtype=torch.float64)
    return History(steps=steps, seeds=[3], W=W, loss=loss)


def test_a_jump_that_was_made_is_found(made: dict[str, pd.DataFrame]) -> None:
    jumps = made["jumps"]
    # D of both: 1 / (1 + n²) and n² / (1 + n²). The first feature makes room as the second comes.
    assert jumps["seed"].tolist() == [3, 3]
    assert sorted(jumps["feature"]) == [0, 1]
    assert set(jumps["first_step"]) == {500} and set(jumps["last_step"]) == {800}
    assert sorted(jumps["before"]) == pytest.approx([0, 1])
    assert jumps["after"].tolist() == pytest.approx([0.5, 0.5])
    assert jumps["at_level"].all()
    assert jumps["loss_fall"].tolist() == pytest.approx([0.5, 0.5])


def test_falls_within_and_without_jumps(made: dict[str, pd.DataFrame]) -> None:
    moving, still = (row for _, row in made["toys"].iterrows())
    assert (moving["jumps"], still["jumps"]) == (2, 0)
    # After the burn-in of 200 steps there are 1,800, 300 of them in the jump.
    assert moving["share_of_steps"] == pytest.approx(300 / 1800)
    assert moving["fall_in_jumps"] == pytest.approx(0.5)
    assert moving["fall_elsewhere"] == pytest.approx(0.0)
    assert moving["rate_in_jumps"] == pytest.approx(0.5 / 0.3)
    assert moving["rate_elsewhere"] == pytest.approx(0.0, abs=1e-12)
    assert still["rate_elsewhere"] == pytest.approx(0.05)
    assert pd.isna(still["fall_in_jumps"]) and pd.isna(still["rate_in_jumps"])
    assert still["fall_elsewhere"] == pytest.approx(0.09)
    assert set(made["loss"]["seed"]) == {3}, "the toy with the larger fall is drawn"
    assert made["loss"]["step"].min() == 200
    shown = made["dimensionality"]
    last = shown[shown["step"] == 2000]
    findings = made["findings"].set_index("claim")
    assert findings["agrees"].tolist() == [True, True, True, True, True, True]
    assert "in 1 of 1 toys" in findings.loc["it falls faster in jumps than between them", "here"]
    assert last["dimensionality"].tolist() == pytest.approx([0.5, 0.5])


def test_stages_of_two_sets(made: dict[str, pd.DataFrame]) -> None:
    stages = made["stages"].set_index("stage")
    assert stages.loc["one direction a set", "step"] == 10
    assert stages.loc["sets open", "step"] == 20
    assert stages.loc["3 digons", "loss"] == 1.0
    assert stages["antiprism"].all() and set(stages["ends_as"]) == {"octahedron"}
    sets = made["sets"].set_index("step")
    assert sets.loc[10, "within_sets"] == pytest.approx(1) and sets.loc[30, "within_sets"] == 0
    assert sets.loc[10, "opposite"] == pytest.approx(0)
    assert sets.loc[30, "opposite"] == pytest.approx(-1) and sets.loc[30, "digons"] == 3
    assert sets.loc[10, ["singular_1", "singular_2", "singular_3"]].tolist() == pytest.approx(
        [3**0.5, 3**0.5, 0]
    )


def test_a_face_whose_corners_share_a_partner_is_no_antiprism() -> None:
    sets = _sets()
    # Two antipodes within a set: still an octahedron, whose sets are no opposite faces.
    W = sets.W.clone()
    W[-1, 0] = octahedron()
    other = History(sets.steps, sets.seeds, W, sets.loss)
    still = torch.stack([_with(1.0)] * 3).unsqueeze(1)
    many = History([0, 1, 2], [0], still, torch.ones(3, 1).double())
    stages = tables_of(many, other, burn_in=0.0, least=0.1, moving=0.01)["stages"]
    assert set(stages["ends_as"]) == {"octahedron"} and not stages["antiprism"].any()


def test_a_digon_counts_from_when_it_stays() -> None:
    """One of random first weights is no stage of learning."""
    sets = _sets()
    W = sets.W.clone()
    W[0, 0] = 0.1 * octahedron()[:, [0, 2, 4, 1, 3, 5]]
    still = torch.stack([_with(1.0)] * 3).unsqueeze(1)
    many = History([0, 1, 2], [0], still, torch.ones(3, 1).double())
    early = History(sets.steps, sets.seeds, W, sets.loss)
    tables = tables_of(many, early, burn_in=0.0, least=0.1, moving=0.01)
    assert tables["sets"].set_index("step").loc[0, "digons"] == 3
    stages = tables["stages"].set_index("stage")["step"]
    assert stages["3 digons"] == stages["1 digon"] == 30


def test_a_jump_must_end_at_a_level_of_its_own_toy() -> None:
    """A digon whose second feature stops where its dimensionality is 2/5 for a while."""
    part = (0.4 / 0.6) ** 0.5  # n² / (1 + n²) = 2/5
    norms = [0.0, 0.0, part, part, part, 1.0, 1.0]
    W = torch.stack([_with(n) for n in norms]).unsqueeze(1)
    many = History([10 * k for k in range(7)], [0], W, torch.ones(7, 1).double())
    jumps = tables_of(many, _sets(), burn_in=0.0, least=0.05, moving=0.01)["jumps"]
    second = jumps[jumps["feature"] == 1]
    assert second["after"].tolist() == pytest.approx([0.4, 0.5])
    assert second["at_level"].tolist() == [False, True]


@pytest.fixture(scope="module")
def result() -> AnalysisResult:
    return run_analysis(NAME, **SMALL)


def test_a_run_looks_at_every_snapshot(result: AnalysisResult) -> None:
    assert result.passed
    sets = result.tables["sets"]
    assert sets["step"].unique().tolist() == list(range(0, 41, 4))
    assert sets.groupby("seed").size().to_dict() == {0: 11, 1: 11}
    assert len(result.tables["toys"]) == 2
    # What is not drawn from a batch is the same to the digit from run to run.
    again = run_analysis(NAME, **SMALL).tables["toys"]
    pd.testing.assert_frame_equal(result.tables["toys"], again)


def test_the_first_loss_is_that_of_the_first_weights(result: AnalysisResult) -> None:
    """By the formula, on the examples that follow the last of training."""
    data = SparseFeatures.of(2, 6, 0.1, correlation=0.9, group_size=3)
    models = ToyModel(2, 6, 3, init_scale=0.1)
    sets = result.tables["sets"]
    x = data.batch(SMALL["steps"], 4096).x
    for seed in (0, 1):
        W = models.W[seed].detach()
        error = x[seed] - (x[seed] @ W.T @ W).clamp(min=0)
        first = sets[(sets["seed"] == seed) & (sets["step"] == 0)]["loss"].item()
        assert first == pytest.approx(float(error.square().mean()), rel=1e-5)
        of_toy = sets[sets["seed"] == seed]["loss"]
        assert of_toy.nunique() == len(of_toy)


def test_a_toy_does_not_know_of_the_others(result: AnalysisResult) -> None:
    alone = run_analysis(NAME, **{**SMALL, "n_seeds": 1, "seed": 1})
    sets = result.tables["sets"]
    both = sets[sets["seed"] == 1].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone.tables["sets"], both, rtol=1e-4, atol=1e-6)


def test_dimensionalities_are_drawn_as_they_are() -> None:
    W = torch.randn(3, 1, 4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    many = History([0, 10, 20], [7], W, torch.ones(3, 1, dtype=torch.float64))
    table = tables_of(many, _sets(), burn_in=0.5, least=0.1, moving=0.01)["dimensionality"]
    D = feature_dimensionality(W)
    for row in table.itertuples():
        assert row.dimensionality == float(D[row.step // 10, 0, int(row.feature)])
    assert sorted(table["step"].unique()) == [10, 20]


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"steps": 20, "n_snapshots": 21}, "at most steps"),
        ({"n_snapshots": 5}, "n_snapshots"),
        ({"correlation": -0.5}, "correlation"),
    ],
)
def test_what_makes_no_sense_is_refused(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match):
        run_analysis(NAME, **settings)


def test_weights_of_the_toys_that_are_drawn(made: dict[str, pd.DataFrame]) -> None:
    table = made["weights"]
    many = table[table["toys"] == "many features"]
    assert many["seed"].unique().tolist() == [3]  # the one with the jump
    late = many[many["step"] == 700].set_index("feature")
    assert late["weight"].tolist() == [1.0, -0.7] and late["loss"].tolist() == [0.5, 0.5]
    assert len(many) == 21 * 2
    sets = table[table["toys"] == "two sets of three"]
    last = sets[sets["step"] == 30].pivot(index="hidden", columns="feature", values="weight")
    assert last.to_numpy().tolist() == octahedron()[:, [0, 2, 4, 1, 3, 5]].tolist()
    assert sets[sets["step"] == 10]["loss"].unique().tolist() == [3.0]
