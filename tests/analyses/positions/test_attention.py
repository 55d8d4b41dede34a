"""position-attention: its tables against the library, on every encoding, and what it refuses."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
import torch

from analyses import AnalysisResult, run_analysis
from analyses.positions import attention as position_attention
from interp import HookedTransformer, InputError, load_model
from interp.position_effects import (
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
ALWAYS = {"heads", "distances", "distance-distribution", "score-parts", "offsets"}
OWN = {
    "standard": set(),
    "sinusoidal": set(),
    "shortformer": set(),
    "none": set(),
    "rotary": {"rotary", "rotary-heads", "rotary-curves"},
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
    spread = result.tables["distance-distribution"]
    for (layer, head), of in spread.groupby(["layer", "head"]):
        assert of["distance"].tolist() == list(range(10))
        assert of["attention"].tolist() == pytest.approx(distances.mass[layer, head].tolist())
        assert of["even_attention"].tolist() == pytest.approx(distances.even_mass[layer].tolist())
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
    for row in result.tables["rotary-heads"].to_dict("records"):
        # Of wavelengths 6.3 and 628, in rows of 10 tokens, and what does not turn.
        names = ["fast_share", "slow_share", "still_share"]
        shares = bands.share[row["layer"], row["head"]].tolist()
        assert [row[name] for name in names] == pytest.approx(shares)
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


@pytest.mark.parametrize("encoding", ["none", "rotary"])
@pytest.mark.parametrize("apart", [0.0, 1e-6, 1e-2, 1e-1])
def test_tokens_that_hardly_differ(make_model: MakeModel, encoding: str, apart: float) -> None:
    """What is left of the scores' variance is rounding, or close to it."""
    model = make_model(positional_embedding_type=encoding, normalization_type=None)
    with torch.no_grad():
        model.W_E.copy_(1 + apart * model.W_E)
        for block in model.blocks:
            block.attn.W_Q.mul_(10)
            block.attn.b_Q.fill_(10)
            block.attn.b_K.fill_(10)
    result = run_analysis("position-attention", model, **SMALL, length=12)
    assert result.passed, result.checks
    shares = result.tables["score-parts"].query("layer == 0")["share"]
    assert shares.isna().all() == (encoding == "none" and apart < 1e-5)


def test_long_rows_run_in_smaller_batches(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(dtype="float64", positional_embedding_type="rotary")
    whole = run_analysis("position-attention", model, **SMALL)
    monkeypatch.setattr(position_attention, "ENTRIES", 1)
    parted = run_analysis("position-attention", model, **SMALL)
    assert parted.passed, parted.checks
    for name, table in whole.tables.items():
        pd.testing.assert_frame_equal(table, parted.tables[name], rtol=1e-9, atol=1e-12)


def test_learned_sinks(make_model: MakeModel) -> None:
    model = make_model(positional_embedding_type="rotary", attn_sinks=True, dtype="float64")
    with torch.no_grad():
        for block in model.blocks:
            block.attn.sinks.copy_(torch.tensor([-30.0, 0.0, 1.0, 30.0]))
    result = run_analysis("position-attention", model, **SMALL, length=12)
    assert result.passed, result.checks
    tokens = position_rows(model, 6, 12).tokens
    _, cache = model.run_with_cache(tokens, names_filter="blocks.1.attn.hook_pattern")
    taken = 1 - cache["pattern", 1][:, :, 1:].sum(-1).mean((0, 2))
    found = result.tables["heads"].query("layer == 1")["learned_sink"].tolist()
    assert found == pytest.approx(taken.tolist(), abs=1e-12)
    assert found[0] < 1e-6 < 0.999 < found[3]
    assert (
        "learned_sink"
        not in run_analysis(
            "position-attention", make_model(positional_embedding_type="rotary"), **SMALL
        ).tables["heads"]
    )


def test_it_refuses_what_it_does_not_fit(make_model: MakeModel) -> None:
    for model, why in (
        (load_model("zoo:translation", device="cpu"), "it reads two texts"),
        (load_model("zoo:modular-addition", device="cpu"), "too few for offsets"),
        (make_model(n_layers=0), "it has no heads"),
    ):
        with pytest.raises(InputError, match=why):
            run_analysis("position-attention", model)
