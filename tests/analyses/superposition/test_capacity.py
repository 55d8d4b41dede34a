"""The analysis of capacities: tables against loops over weights, checks, what it refuses."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
import torch

from analyses import AnalysisResult, run_analysis
from analyses.superposition import capacity as analysis
from analyses.superposition.capacity_findings import findings_of
from analyses.superposition.capacity_tables import (
    Allotted,
    Phase,
    blocks_table,
    capacities_table,
    marginals_table,
    phase_table,
    state_of,
    totals_table,
)
from interp import InputError
from interp.toys import polytopes
from interp.toys.allocation import optimal_allocation
from interp.toys.quadratic import kurtosis_of, quadratic_losses

NAME = "superposition-capacity"
SMALL: dict[str, Any] = {
    "n_features": 4,
    "d_hidden": 2,
    "densities": [0.2, 1.0],
    "n_seeds": 2,
    "phase_points": 3,
    "steps": 40,
    "batch_size": 64,
    "lr": 0.02,
    "device": "cpu",
}


@pytest.fixture(scope="module")
def result() -> AnalysisResult:
    return run_analysis(NAME, **SMALL)


def test_it_passes_and_its_tables_are_whole(result: AnalysisResult) -> None:
    assert result.passed
    tables = result.tables
    assert len(tables["capacities"]) == 2 * 4 * 3  # densities, features, panels
    assert len(tables["totals"]) == 2 * 2 * 2  # models, densities, seeds
    assert len(tables["marginals"]) == 2 * 4
    assert len(tables["phase"]) == 3 * 3 * 2
    assert set(tables["findings"]) == {"claim", "expected", "here", "agrees"}
    assert tables["capacities"]["density"].iloc[0] == 1.0, "densest first"


def test_the_best_seed_is_shown_and_nothing_beats_the_optimum(result: AnalysisResult) -> None:
    totals, capacities = result.tables["totals"], result.tables["capacities"]
    trained = capacities[capacities["source"] == "trained"]
    for (model, density), group in totals.groupby(["model", "density"]):
        (best,) = group[group["is_best"]].itertuples()
        assert best.loss == group["loss"].min()
        shown = trained[(trained["model"] == model) & (trained["density"] == density)]
        assert shown["capacity"].sum() == pytest.approx(best.total_capacity, abs=1e-12)
        assert (shown["state"] == "polysemantic").sum() == best.polysemantic
        assert best.ignored + best.polysemantic + best.monosemantic == 4
        assert best.total_capacity <= 2 + 1e-10
    quadratic = totals[totals["model"] == "quadratic"]
    assert (quadratic["excess"] >= -1e-10).all()
    assert totals.loc[totals["model"] == "relu", "least_loss"].isna().all()


def test_optimal_capacities_are_the_library_s(result: AnalysisResult) -> None:
    capacities = result.tables["capacities"]
    v = 0.7 ** (torch.arange(4, dtype=torch.float64) / 2)
    for density in (0.2, 1.0):
        rows = capacities[(capacities["source"] == "optimal") & (capacities["density"] == density)]
        best = optimal_allocation(v, kurtosis_of(density), 2)
        assert rows["capacity"].tolist() == best.capacity.tolist()
        assert rows["importance"].tolist() == pytest.approx(v.square().tolist())


def test_the_phase_diagram_is_of_importances(result: AnalysisResult) -> None:
    optimal = result.tables["phase"].query("source == 'optimal'")
    assert optimal["density"].unique().tolist() == pytest.approx([1, 0.02**0.5, 0.02], abs=1e-4)
    assert optimal["relative_importance"].unique().tolist() == pytest.approx([0.1, 1, 10])
    for row in optimal.itertuples():
        v = torch.tensor([1.0, math.sqrt(row.relative_importance)], dtype=torch.float64)
        best = optimal_allocation(v, row.kurtosis, 1)
        assert row.capacity == pytest.approx(float(best.capacity[1]), abs=1e-9)
        assert row.excess >= -1e-10


def test_a_seed_gives_what_it_gives_without_the_other(result: AnalysisResult) -> None:
    alone = run_analysis(NAME, **SMALL | {"n_seeds": 1, "densities": [0.2]})
    together = result.tables["totals"].query("seed == 0 and density == 0.2")
    alone_by_model = alone.tables["totals"].set_index("model")
    for row in together.itertuples():
        one = alone_by_model.loc[row.model]
        assert one["total_capacity"] == pytest.approx(row.total_capacity, abs=1e-5)
        if row.model == "quadratic":
            assert one["loss"] == pytest.approx(row.loss, rel=1e-5)


def test_training_lowers_the_loss(result: AnalysisResult) -> None:
    begun = run_analysis(NAME, **SMALL | {"steps": 1, "lr": 1e-9, "densities": [0.2]})
    trained = result.tables["totals"].query("density == 0.2 and is_best")
    for row in begun.tables["totals"].query("is_best").itertuples():
        (after,) = trained[trained["model"] == row.model].itertuples()
        assert after.loss < 0.8 * row.loss


def _planted(model: str = "quadratic") -> Allotted:
    """A digon beside a feature of its own and one that is nothing; a worse seed of noise."""
    W = torch.zeros(2, 2, 4, dtype=torch.float64)
    W[0, :, :3] = polytopes.tegum_product(polytopes.digon(), torch.ones(1, 1).double())
    W[1] = torch.randn(2, 4, generator=torch.Generator().manual_seed(0)).double()
    importance = torch.tensor([1.0, 1.0, 1.0, 0.1], dtype=torch.float64)
    density = torch.full((2,), 0.1, dtype=torch.float64)
    v = importance.sqrt().expand(2, -1)
    return Allotted(
        model,
        density,
        torch.tensor([0, 1]),
        importance,
        W,
        quadratic_losses(W, v, kurtosis_of(density)).sum(-1),
        optimal_allocation(v, kurtosis_of(density), 2),
    )


def test_tables_of_known_weights() -> None:
    planted = _planted()
    assert planted.chosen == [0]
    capacities = capacities_table([planted]).query("source == 'trained'")
    assert capacities["capacity"].tolist() == pytest.approx([0.5, 0.5, 1.0, 0.0], abs=1e-12)
    assert capacities["state"].tolist() == ["polysemantic"] * 2 + ["monosemantic", "ignored"]
    totals = totals_table([planted]).query("is_best").iloc[0]
    assert totals["total_capacity"] == pytest.approx(2)
    assert (totals["ignored"], totals["polysemantic"], totals["monosemantic"]) == (1, 2, 1)
    # By hand: the digon's features disturb each other, 2 · 1 each; the ignored one costs 17 v².
    assert totals["loss"] == pytest.approx(2 + 2 + 17 * 0.1)
    blocks = blocks_table([planted])
    assert blocks["shape"].tolist() == ["digon", "monosemantic"]
    assert blocks["features"].tolist() == ["0 1", "2"]
    assert blocks["dimensions"].tolist() == [1, 1]
    assert blocks["efficiency"].tolist() == pytest.approx([1, 1])
    marginals = marginals_table(planted)
    for row in marginals.itertuples():
        v = math.sqrt(planted.importance[row.feature])
        expected = 2 * (17 * v / (2 + 15 * row.capacity)) ** 2
        assert row.marginal_benefit == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize(
    ("capacity", "state"),
    [(0.0, "ignored"), (0.049, "ignored"), (0.05, "polysemantic"), (0.95, "polysemantic"),
     (0.951, "monosemantic"), (1.0, "monosemantic")],
)  # fmt: skip
def test_states(capacity: float, state: str) -> None:
    assert state_of(capacity) == state


def test_points_beside_a_boundary_or_tied_are_not_clear() -> None:
    density = torch.tensor([1.0, 0.8, 0.1], dtype=torch.float64)  # kurtosis 1.8, 2.25, 18
    relative = torch.tensor([0.1, 0.3, 1.0, 3.0, 10.0], dtype=torch.float64)
    optimal = torch.tensor([[0, 0, 0, 1, 1], [0, 0, 0, 1, 1], [0.5] * 5], dtype=torch.float64)
    loss = torch.ones(3, 5, dtype=torch.float64)
    table = phase_table(Phase(density, relative, optimal, optimal, loss, loss))
    clear = table.query("source == 'optimal'")["is_clear"].to_numpy().reshape(3, 5)
    assert clear.tolist() == [[True, True, False, False, True], [False] * 5, [False] * 5]


def test_findings_say_when_they_do_not_agree(result: AnalysisResult) -> None:
    tables = dict(result.tables)
    phase = tables["phase"].copy()
    trained = phase["source"] == "trained"
    phase.loc[trained, "capacity"] = 1 - phase.loc[trained, "capacity"]
    phase["state"] = phase["capacity"].map(state_of)
    phase["is_clear"] = True
    capacities = tables["capacities"].copy()
    capacities.loc[capacities["source"] == "trained", "capacity"] = 0.5
    wrong = findings_of(tables | {"phase": phase, "capacities": capacities}, 2)
    assert not _row(wrong, "phase diagram")["agrees"]
    assert not _row(wrong, "optimal capacities (quadratic toy, kurtosis above 3)")["agrees"]
    right = phase.assign(capacity=0.5, state="polysemantic")
    assert _row(findings_of(tables | {"phase": right}, 2), "phase diagram")["agrees"]


def _theory(densities: tuple[float, ...], model: str = "quadratic") -> dict[str, pd.DataFrame]:
    """Tables of trained capacities that are the optimal ones, of 12 features in 3 dimensions."""
    rows, totals, blocks = [], [], []
    v = 0.7 ** (torch.arange(12, dtype=torch.float64) / 2)
    for density in densities:
        held = optimal_allocation(v, kurtosis_of(density), 3).capacity.tolist()
        states = [state_of(each) for each in held]
        for source in ("optimal", "trained"):
            for feature, (each, state) in enumerate(zip(held, states, strict=True)):
                rows.append((model, density, feature, source, each, state))
        kurtosis, shared = float(kurtosis_of(density)), states.count("polysemantic")
        totals.append((model, density, kurtosis, True, shared, 3.0))
        blocks.append((model, max(shared, 1), 1.0))
    names = ["model", "density", "feature", "source", "capacity", "state"]
    return {
        "capacities": pd.DataFrame(rows, columns=names),
        "totals": pd.DataFrame(
            totals,
            columns=["model", "density", "kurtosis", "is_best", "polysemantic", "total_capacity"],
        ),
        "blocks": pd.DataFrame(blocks, columns=["model", "n_features", "efficiency"]),
    }


def test_findings_of_the_optimum_agree(result: AnalysisResult) -> None:
    densities = (1.0, 0.4, 0.3, 0.1, 0.02)
    tables = dict(result.tables) | _theory(densities)
    findings = findings_of(tables, 3)
    assert _row(findings, "more important features")["agrees"]
    assert _row(findings, "whole dimension")["agrees"]
    # All capacities are whole or none at 1, and at 0.1 and 0.02 not even the first one is whole.
    assert _row(findings, "whole dimension")["expected"] == "at densities 0.3, 0.4 (the optimum)"
    assert _row(findings, "polysemanticity grows")["agrees"]
    capacities = tables["capacities"].copy()
    flat = (capacities["source"] == "trained") & (capacities["density"] == 0.4)
    capacities.loc[flat, "state"] = "polysemantic"
    capacities.loc[flat & (capacities["feature"] == 3), "capacity"] = 1.0
    wrong = findings_of(tables | {"capacities": capacities}, 3)
    assert not _row(wrong, "more important features")["agrees"]
    assert not _row(wrong, "whole dimension")["agrees"]
    assert _row(wrong, "whole dimension")["here"] == "at 0.3"


def test_what_no_density_can_show_has_no_row(result: AnalysisResult) -> None:
    claims = findings_of(dict(result.tables) | _theory((1.0, 0.8)), 3)["claim"]
    words = "more important|whole dimension|polysemanticity grows|block sizes|above 3"
    assert not claims.str.contains(words, regex=True).any(), claims.tolist()


def _row(findings: pd.DataFrame, words: str) -> pd.Series:
    (found,) = (row for _, row in findings.iterrows() if words in row["claim"])
    return found


def test_checks_see_a_fault() -> None:
    planted = _planted()
    best = planted.best
    assert best is not None
    nothing = torch.zeros(1, 1, dtype=torch.float64)
    phase = Phase(nothing[0], nothing[0], nothing, nothing, nothing, nothing)
    assert all(each.passed for each in analysis._checks(planted, planted, phase))
    too_high = replace(best, loss=planted.loss + 1e-6)
    found = analysis._checks(replace(planted, best=too_high), planted, phase)
    assert [each.passed for each in found] == [True, True, False]
    found = analysis._checks(planted, planted, replace(phase, least_loss=nothing + 1))
    assert [each.passed for each in found] == [True, True, False]


def test_a_wrong_loss_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*args: Any) -> torch.Tensor:
        return quadratic_losses(*args) * (1 + 1e-8)

    planted = _planted()
    nothing = torch.zeros(1, 1, dtype=torch.float64)
    monkeypatch.setattr(analysis, "quadratic_losses", wrong)
    phase = Phase(nothing[0], nothing[0], nothing, nothing, nothing, nothing)
    assert not analysis._checks(planted, planted, phase)[0].passed


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match=r"densities must be different numbers"):
        run_analysis(NAME, densities=[0.1, 0.1])
    with pytest.raises(InputError, match=r"densities must be different numbers"):
        run_analysis(NAME, densities=[0.0])
    with pytest.raises(InputError, match=r"less than n_features \(5\).* got 5"):
        run_analysis(NAME, n_features=5)
