"""`superposition-recovery` beside plain loops, and on toys whose dictionary is planted."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest
import torch

from analyses import AnalysisResult, run_analysis
from analyses.superposition.recovery_runs import (
    Hidden,
    RecoveryParams,
    enough,
    grown,
    hidden_layer,
    recovery,
)
from analyses.superposition.recovery_tables import findings_of, growth_table, toy_table
from interp import InputError
from interp.sae import Grown, SAEConfig, SAEScores, make_sae, score_sae
from interp.training import History

SMALL: dict[str, Any] = {
    "n_features": 10, "d_hidden": 5, "density": 0.08, "steps": 40, "sizes": [6, 16],
    "sae_steps": 60, "samples": 2048, "device": "cpu",
}  # fmt: skip


@pytest.fixture(scope="module")
def result() -> AnalysisResult:
    return run_analysis("superposition-recovery", **SMALL)


def test_tables_beside_plain_loops(result: AnalysisResult) -> None:
    assert result.passed
    params = RecoveryParams(**SMALL)
    hidden = hidden_layer(params)
    true = hidden.true.double().tolist()
    growth = result.tables["growth"]
    assert growth["kind"].tolist() == ["relu"] * 2 + ["topk"] * 2 + ["gated"] * 2
    features = result.tables["features"]
    for kind in params.kinds:
        for each in grown(params, hidden, kind):
            row = growth[(growth.kind == kind) & (growth.d_sae == each.d_sae)].iloc[0]
            with torch.no_grad():
                f = each.sae.encode(hidden.held_out)
                told = each.sae(hidden.held_out)
            alive = [u for u in range(each.d_sae) if (f[:, u] > 0).any()]
            cosine = [
                [_cosine(each.sae.W_dec[u].tolist(), feature) for feature in true] for u in alive
            ]
            nearest = [max(of_unit[i] for of_unit in cosine) for i in range(10)]
            kept = [i for i in range(10) if math.hypot(*true[i]) >= 0.5]
            assert row["cosine"] == pytest.approx(sum(nearest[i] for i in kept) / len(kept), 1e-5)
            assert row["cosine_all"] == pytest.approx(sum(nearest) / 10, 1e-5)
            assert row["found"] == pytest.approx(sum(nearest[i] >= 0.9 for i in kept) / len(kept))
            assert row["unit_cosine"] == pytest.approx(sum(map(max, cosine)) / len(alive), 1e-5)
            assert row["own_cosine"] <= row["cosine"] + 1e-6
            drawn = torch.Generator().manual_seed(0)
            random = torch.randn(each.d_sae, 5, generator=drawn, dtype=torch.float64).tolist()
            chance = [max(_cosine(w, true[i]) for w in random[: len(alive)]) for i in kept]
            assert row["chance"] == pytest.approx(sum(chance) / len(kept), 1e-5)
            assert row["dead"] == each.d_sae - len(alive)
            assert row["l0"] == pytest.approx(float((f > 0).sum() / len(f)))
            error = ((hidden.held_out - told) ** 2).sum()
            spread = ((hidden.held_out - hidden.held_out.mean(0)) ** 2).sum()
            assert row["fve"] == pytest.approx(float(1 - error / spread), abs=1e-5)
            if row["chosen"]:
                shown = features[features.kind == kind]
                assert shown["cosine"].tolist() == pytest.approx(nearest, abs=1e-5)
                for i, (unit, own) in enumerate(zip(shown.unit, shown.own_cosine, strict=True)):
                    if unit >= 0:
                        w = each.sae.W_dec[unit].tolist()
                        assert own == pytest.approx(_cosine(w, true[i]), abs=1e-5)
                own_units = shown.unit[shown.unit >= 0]
                assert own_units.is_unique and len(own_units) == min(10, len(alive))
                counts = result.tables["histogram"]
                assert counts[counts.kind == kind].features.sum() == len(kept)
    assert (growth.groupby("kind").chosen.sum() == 1).all()


def _cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))


def test_rows_are_of_the_toys_own_data() -> None:
    params = RecoveryParams(**{**SMALL, "toy": "random", "samples": 5000, "density": 0.3})
    hidden = hidden_layer(params)
    assert hidden.true.norm(dim=1).tolist() == pytest.approx([1.0] * 10, rel=1e-6)
    assert hidden.represented.all()
    assert hidden.pool.shape == (5000, 5) and hidden.held_out.shape == (8192, 5)
    # Features that are uniform when present: mean density / 2 of each, in both sets.
    for rows in (hidden.pool, hidden.held_out):
        expected = 0.15 * hidden.true.sum(0)
        error = (rows.mean(0) - expected).abs()
        assert (error < 5 * rows.std(0) / math.sqrt(len(rows))).all()
    assert float(hidden.present.double().mean()) == pytest.approx(0.3, abs=0.01)
    nothing = ~hidden.present.any(1)
    assert nothing.any() and not hidden.held_out[nothing].any()
    assert len(torch.cat([hidden.pool, hidden.held_out]).unique(dim=0)) > 12_000  # none twice


def _planted(represented: int) -> tuple[Hidden, Grown, list[int]]:
    """Orthogonal features, and a TopK dictionary of them in another order with a dead unit."""
    params = RecoveryParams(**{**SMALL, "n_features": 6, "d_hidden": 6, "toy": "random"})
    hidden = hidden_layer(params)
    with torch.no_grad():
        hidden.model.W[0] = torch.eye(6) * 2.0
        hidden.model.W[0, :, represented:] *= 0.1
    rows = hidden.data.batch(0, 3000).x
    held = hidden.model.hidden(rows)[0].detach()
    hidden = Hidden(hidden.model, hidden.data, hidden.loss, held, held, rows[0] > 0)
    order = [3, 0, 4, 1, 5, 2]
    sae = make_sae(SAEConfig(kind="topk", d_in=6, d_sae=7, k=6, aux_k=0, device="cpu"))
    with torch.no_grad():
        sae.W_dec[:6] = torch.eye(6)[order]
        sae.W_dec[6] = torch.ones(6) / 6**0.5
        sae.W_enc.copy_(sae.W_dec.T)
        sae.b_enc[6] = -100.0
    dictionary = Grown(7, sae, History(), score_sae(sae, held), True)
    return hidden, dictionary, order


def test_a_planted_dictionary_is_found_whole() -> None:
    hidden, dictionary, order = _planted(6)
    found = recovery(hidden, dictionary)
    assert torch.equal(found.nearest, torch.ones(6)) and torch.equal(found.units, torch.ones(6))
    assert found.matching.unit.tolist() == [order.index(i) for i in range(6)]
    assert found.detection.precision.tolist() == found.detection.recall.tolist() == [1.0] * 6
    table = growth_table({"topk": [dictionary]}, {"topk": [found]}, {"topk": 0}, hidden)
    row = table.iloc[0]
    assert (row["cosine"], row["own_cosine"], row["found"], row["unit_cosine"]) == (1, 1, 1, 1)
    assert row["dead"] == 1 and row["fve"] == pytest.approx(1.0)
    toy = toy_table(hidden, 0.5).iloc[0]
    assert (toy["represented"], toy["largest_cosine"], toy["dimensions_per_feature"]) == (
        6,
        0,
        0.25,
    )


def test_faint_features_count_in_all_only() -> None:
    hidden, dictionary, order = _planted(4)
    with torch.no_grad():  # the units of the faint ones die
        for i in (4, 5):
            dictionary.sae.b_enc[order.index(i)] = -100.0
    scores = score_sae(dictionary.sae, hidden.held_out)
    dictionary = Grown(7, dictionary.sae, History(), scores, True)
    found = recovery(hidden, dictionary)
    assert found.matching.unit.tolist()[4:] == [-1, -1]
    assert found.detection.recall[4:].isnan().all()
    row = growth_table({"topk": [dictionary]}, {"topk": [found]}, {"topk": 0}, hidden).iloc[0]
    assert row["cosine"] == 1 and row["cosine_all"] == pytest.approx(4 / 6)
    assert row["recall"] == 1 and row["dead"] == 3
    assert toy_table(hidden, 0.5).iloc[0]["represented"] == 4


def test_a_dictionary_without_living_units_finds_nothing() -> None:
    hidden, dictionary, _ = _planted(6)
    with torch.no_grad():
        dictionary.sae.b_enc.fill_(-100.0)
    scores = score_sae(dictionary.sae, hidden.held_out)
    found = recovery(hidden, Grown(7, dictionary.sae, History(), scores, False))
    assert found.matching.unit.tolist() == [-1] * 6 and (found.nearest == -1).all()


@pytest.mark.parametrize(
    ("explained", "wanted"),
    [([0.5], 0), ([0.5, 0.8, 0.9], 2), ([0.5, 0.8, 0.82], 1), ([0.5, 0.4, 0.9], 0)],
)
def test_which_size_is_enough(explained: list[float], wanted: int) -> None:
    sae = make_sae(SAEConfig(kind="topk", d_in=6, d_sae=7, k=1, device="cpu"))
    each = [
        Grown(7, sae, History(), SAEScores(9, 1.0, fve, 1.0, 0, 0, 7, torch.zeros(7)), False)
        for fve in explained
    ]
    assert enough(RecoveryParams(plateau=0.25), each) == wanted


def test_findings_are_read_off_the_growth() -> None:
    columns = ["kind", "d_sae", "chosen", "cosine", "own_cosine", "chance", "dead"]
    rows = [
        ("relu", 4, False, 0.5, 0.4, 0.3, 0),
        ("relu", 8, True, 0.95, 0.93, 0.4, 1),
        ("relu", 16, False, 0.96, 0.95, 0.5, 7),
        ("topk", 4, True, 0.8, 0.4, 0.3, 0),
        ("topk", 8, False, 0.91, 0.4, 0.3, 0),
        ("gated", 4, False, 0.89, 0.4, 0.3, 0),
        ("gated", 8, True, 0.9, 0.4, 0.3, 0),
    ]
    found = findings_of(pd.DataFrame(rows, columns=columns))
    assert found["agrees"].tolist() == [True, True, True, False, True, False, True, True]
    assert found["here"][0].startswith("0.950 with 8 units (0.400 by chance, 0.930 one to one), 1 ")
    assert [claim.split(":")[0] for claim in found["claim"]] == [
        *["relu"] * 3, *["topk"] * 3, *["gated"] * 2,
    ]  # fmt: skip


def test_sizes_have_room_for_k() -> None:
    assert RecoveryParams().all_sizes == [80, 160, 320, 640]
    assert RecoveryParams(density=0.5).all_sizes == [101, 202, 404, 808]
    assert RecoveryParams(sizes=[2, 8], k=3, kinds=["relu"]).all_sizes == [2, 8]


def test_growth_ends_at_the_plateau_unless_every_size_is_wanted() -> None:
    params = {**SMALL, "kinds": ["topk"], "sizes": [4, 5, 6], "sae_steps": 5, "plateau": 0.99}
    short = run_analysis("superposition-recovery", **params).tables["growth"]
    assert short.d_sae.tolist() == [4, 5] and short.chosen.tolist() == [True, False]
    every = run_analysis("superposition-recovery", **params, every_size=True).tables["growth"]
    assert every.d_sae.tolist() == [4, 5, 6] and every.chosen.tolist() == [True, False, False]


def test_the_quick_size_finds_the_features(result: AnalysisResult) -> None:
    quick = run_analysis("superposition-recovery", quick=True, kinds=["topk"], device="cpu")
    growth = quick.tables["growth"]
    assert quick.passed and set(quick.figures) == set(result.figures)
    assert growth[growth.chosen].cosine.item() > 0.9
    assert growth.cosine.iloc[0] < 0.85  # a dictionary that is too small does not


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"kinds": ["relu", "relu"]}, "kinds must be different"),
        ({"kinds": []}, "kinds"),
        ({"sizes": [8, 4]}, "sizes must be ascending"),
        ({"sizes": [0, 4]}, "sizes must be ascending"),
        ({"density": 0.0}, "density"),
        ({"k": 7}, r"as many units as may fire \(7\)\. Received sizes \[6, 16\]"),
        (
            {"n_features": 500, "d_hidden": 1, "steps": 1, "lr": 1e-9, "kinds": ["relu"]},
            "must represent features, with columns of norm 0.5 or more",
        ),
    ],
)
def test_bad_parameters(params: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        run_analysis("superposition-recovery", **{**SMALL, **params})
