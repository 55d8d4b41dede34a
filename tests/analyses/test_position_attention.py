"""position-attention: its tables against the library, on every encoding, and what it refuses."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from analyses import AnalysisResult, run_analysis
from interp import HookedTransformer, InputError, load_model
from interp.positional import (
    attention_distances,
    bias_curves,
    explained_by_position,
    mean_patterns,
    offset_curves,
    position_means,
    position_rows,
    rotary_bands,
    score_part_statistics,
)
from interp.zoo import known
from interp.zoo.known.truth import KnownModel

MakeModel = Callable[..., HookedTransformer]
SMALL: dict[str, Any] = {"sequences": 6, "parts_rows": 3}
ALWAYS = {"heads", "distances", "score-parts", "offsets"}
OWN = {
    "standard": set(),
    "sinusoidal": set(),
    "shortformer": set(),
    "none": set(),
    "rotary": {"rotary", "rotary-curves"},
    "alibi": {"bias-curves", "bias-heads"},
    "relative_positional_bias": {"bias-curves", "bias-heads"},
}


@pytest.mark.parametrize("encoding", list(OWN))
def test_every_encoding(make_model: MakeModel, encoding: str) -> None:
    model = make_model(positional_embedding_type=encoding)
    result = run_analysis("position-attention", model, **SMALL)
    assert result.passed, result.checks
    assert set(result.tables) == ALWAYS | OWN[encoding]
    assert {chart.table for chart in result.figures.values()} <= set(result.tables)
    parts = set(result.tables["score-parts"]["part"])
    assert ("encoding" in parts) == bool(OWN[encoding] and encoding != "rotary")


@pytest.fixture(scope="module")
def rotary(make_model: MakeModel) -> tuple[HookedTransformer, AnalysisResult]:
    model = make_model(positional_embedding_type="rotary", rotary_dim=4, dtype="float64")
    result = run_analysis("position-attention", model, **SMALL, length=10, grand_mean="bias")
    assert result.passed, result.checks
    assert all(check.value < 1e-10 for check in result.checks)
    return model, result


def test_tables_are_the_librarys_numbers(rotary: tuple[HookedTransformer, AnalysisResult]) -> None:
    model, result = rotary
    tokens = position_rows(model, 6, 10).tokens
    assert result.provenance.tokens == tokens.tolist()
    patterns = mean_patterns(model, tokens)
    explained, distances = explained_by_position(patterns), attention_distances(patterns)
    first = patterns.first_mass()
    for row in result.tables["heads"].to_dict("records"):
        at = row["layer"], row["head"]
        assert row["label"] == "L{}H{}".format(*at)
        for name in ("offset", "key", "both", "position"):
            assert row[f"{name}_r2"] == pytest.approx(float(getattr(explained, name)[at]))
        assert row["first_token"] == pytest.approx(float(first[at]))
        assert row["even_first_token"] == pytest.approx(sum(1 / (t + 1) for t in range(1, 10)) / 9)
        even = sum(math.log(t + 1) for t in range(1, 10)) / 9
        assert row["entropy"] <= row["even_entropy"] == pytest.approx(even)
    for row in result.tables["distances"].to_dict("records"):
        at = row["layer"], row["head"]
        assert row["mean"] == pytest.approx(float(distances.mean()[at]))
        assert row["median"] == int(distances.quantile(0.5)[at])
        assert row["even_mean"] == pytest.approx(2.5)  # of half of 1 … 9
    offsets, curves = offset_curves(patterns)
    for row in result.tables["offsets"].to_dict("records"):
        at = row["layer"], row["head"], offsets.tolist().index(row["offset"])
        assert row["attention"] == pytest.approx(float(curves[at]))
    means = position_means(model, tokens, "blocks.*.hook_resid_pre")
    parts = score_part_statistics(model, tokens[:3], means, grand_mean="bias")
    for row in result.tables["score-parts"].to_dict("records"):
        at = row["layer"], row["head"], parts.names.index(row["part"])
        for name in ("share", "spread", "mean_abs", "pattern_change"):
            assert row[name] == pytest.approx(float(getattr(parts, name)[at]))
    bands = rotary_bands(model, tokens[:3])
    for row in result.tables["rotary"].to_dict("records"):
        at = row["layer"], row["head"], row["band"]
        assert row["frequency"] == pytest.approx(float(bands.frequencies[at[0], at[2]]))
        for name in ("share", "spread", "offset_r2", "amplitude"):
            assert row[name] == pytest.approx(float(getattr(bands, name)[at]))
    labels = result.tables["rotary"].query("layer == 0 and head == 0")["band_label"]
    assert labels.tolist() == ["6.3", "628", "still"]
    curve = bands.curves(torch.arange(10)).sum(2)[1, 2]
    shown = result.tables["rotary-curves"].query("label == 'L1H2'")["score"]
    assert shown.tolist() == pytest.approx((curve - curve.mean()).tolist())


def test_bias_tables(make_model: MakeModel) -> None:
    model = make_model(positional_embedding_type="alibi")
    tables = run_analysis("position-attention", model, **SMALL, length=12).tables
    curves = bias_curves(model, 12)
    assert curves.slopes is not None
    heads = tables["bias-heads"]
    assert heads["slope"].tolist() == pytest.approx(curves.slopes.tolist())
    assert heads["slope_from_scores"].tolist() == pytest.approx(curves.slopes.tolist(), abs=1e-6)
    assert heads["half_distance"].tolist() == curves.half_distance().tolist()
    score = tables["bias-curves"].query("head == 2")["score"]
    assert score.tolist() == pytest.approx(curves.curve[2].tolist())
    model = make_model(positional_embedding_type="relative_positional_bias")
    # Of 32 buckets, the nearest 16 offsets have one each.
    table = run_analysis("position-attention", model, **SMALL, length=16, rows="random").tables
    one = table["bias-curves"].query("head == 0")
    assert one["bucket"].tolist() == list(range(16))
    assert one["bucket_begins"].all()


def test_a_head_that_position_alone_drives() -> None:
    truth: KnownModel = known.previous_token(n_ctx=16)
    result = run_analysis("position-attention", truth.model, sequences=40, length=12, rows="random")
    assert result.passed, result.checks
    heads = result.tables["heads"].set_index("label")
    assert heads.loc["L0H0", "offset_r2"] > 0.99
    assert math.isnan(heads.loc["L0H1", "offset_r2"])  # it attends evenly
    parts = result.tables["score-parts"].set_index(["label", "part"])["share"]
    assert parts["L0H0", "position-position"] == pytest.approx(1.0, abs=1e-9)
    assert math.isnan(parts["L0H1", "position-position"])
    assert result.tables["distances"].set_index("label").loc["L0H0", "median"] == 1


def test_an_encoder_that_looks_ahead() -> None:
    model = load_model("zoo:brackets", device="cpu")
    result = run_analysis("position-attention", model, quick=True)
    assert result.passed, result.checks
    assert result.tables["offsets"]["offset"].min() < 0


def test_it_refuses_what_it_does_not_fit(make_model: MakeModel) -> None:
    for model, why in (
        (load_model("zoo:translation", device="cpu"), "it reads two texts"),
        (load_model("zoo:modular-addition", device="cpu"), "too few for offsets"),
        (make_model(n_layers=0), "it has no heads"),
    ):
        with pytest.raises(InputError, match=why):
            run_analysis("position-attention", model)
