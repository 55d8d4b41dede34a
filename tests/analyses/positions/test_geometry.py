"""`position-geometry`: what it says of models whose positions are known."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest
import torch

from analyses import AnalysisResult, run_analysis
from interp import HookedTransformer, InputError, load_model
from interp.config import PositionalEmbeddingType


@pytest.fixture(scope="module")
def results(
    make_model: Callable[..., HookedTransformer],
) -> Callable[..., tuple[HookedTransformer, AnalysisResult]]:
    @functools.cache
    def run(encoding: str, **fields: Any) -> tuple[HookedTransformer, AnalysisResult]:
        model = make_model(positional_embedding_type=encoding, n_ctx=40, d_vocab=50, **fields)
        return model, run_analysis("position-geometry", model, sequences=64, length=33)

    return run


def row(table: pd.DataFrame, **where: Any) -> pd.Series:
    for column, value in where.items():
        table = table[table[column] == value]
    assert len(table) == 1
    return table.iloc[0]


@pytest.mark.parametrize("encoding", get_args(PositionalEmbeddingType))
def test_every_encoding(encoding: str, results: Callable[..., Any]) -> None:
    model, result = results(encoding)
    assert result.passed, result.checks
    variance = result.tables["variance"]
    has_table = encoding in ("standard", "sinusoidal", "shortformer")
    assert ("encoding" in set(variance["site"])) == has_table
    if has_table:
        table = row(variance, site="encoding")
        assert (table["share"], table["stderr"], table["verdict"]) == (1.0, 0.0, "position")
    at_embedding = row(variance, site="blocks.0.hook_resid_pre")
    seen = encoding in ("standard", "sinusoidal")
    assert (at_embedding["verdict"] == "position") == seen
    assert (at_embedding["share"] > 3 * at_embedding["stderr"]) == seen
    assert ("identities" in result.tables) == (encoding not in ("standard", "shortformer"))
    # What shows no position has no geometry.
    known = set(variance[variance["verdict"] == "position"]["site"])
    for name in {"components", "spectrum", "helix", "similarity", "shift", "angles"} & set(
        result.tables
    ):
        assert set(result.tables[name]["site"]) == known
    assert ("components" in result.tables) == bool(known)
    assert model.watched_hooks() == (set(), set())


def test_no_positions_and_no_mask_leave_nothing(results: Callable[..., Any]) -> None:
    _, result = results("none", architecture="encoder", head="mlm")
    assert set(result.tables["variance"]["verdict"]) == {"no more than noise"}
    assert set(result.figures) == {"variance"}
    assert float(result.tables["variance"]["share"].abs().max()) < 0.02


def test_shares_are_those_of_all_rows(results: Callable[..., Any]) -> None:
    """Beside a loop over pairs of groups, from the rows that the result says it read."""
    model, result = results("standard")
    tokens = torch.tensor(result.provenance.tokens)
    name = "blocks.1.hook_resid_pre"
    first = int(model.cfg.default_prepend_bos and bool((tokens[:, 0] == tokens[0, 0]).all()))
    x = model.run_with_cache(tokens, names_filter=name)[1][name].double().numpy()[:, first:]
    folds = [x[8 * i : 8 * i + 8].mean(0) for i in range(8)]
    folds = [fold - fold.mean(0) for fold in folds]
    products = [(folds[i] * folds[j]).sum(-1).mean() for i in range(8) for j in range(8) if i != j]
    content = x.var(0, ddof=1).sum(-1).mean()
    found = row(result.tables["variance"], site=name)
    assert found["positional"] == pytest.approx(np.mean(products), rel=1e-4)
    assert found["content"] == pytest.approx(content, rel=1e-4)
    share = np.mean(products) / (np.mean(products) + content)
    assert found["share"] == pytest.approx(share, rel=1e-4)


def test_of_a_sinusoidal_table_all_is_known(results: Callable[..., Any]) -> None:
    _, result = results("sinusoidal")
    shift = result.tables["shift"]
    exact = shift[shift["site"] == "encoding"]
    assert exact["r2_closed_form"].tolist() == pytest.approx([1.0] * len(exact))
    assert shift[shift["site"] != "encoding"]["r2_closed_form"].isna().all()
    assert (exact["r2"] > exact["r2_no_shift"]).all()
    assert (exact["r2"] > exact["r2_shuffled"]).all()
    similarity = result.tables["similarity"]
    as_it_is = similarity[similarity["label"] == "encoding, as it is"]
    assert as_it_is["dot"].tolist() == pytest.approx(as_it_is["closed_form"].tolist(), abs=1e-5)
    assert float(as_it_is["dot_spread"].max()) < 1e-5
    assert as_it_is["explained_by_offset"].iloc[0] == pytest.approx(1.0)
    angles = result.tables["angles"]
    pair = row(angles, site="encoding", other="blocks.0.hook_resid_pre")
    assert pair["overlap"] > 0.9 > pair["random_overlap_95"]
    assert (
        pair["overlap"] == row(angles, site="blocks.0.hook_resid_pre", other="encoding")["overlap"]
    )
    own = row(angles, site="encoding", other="encoding")
    assert own["overlap"] == 1.0
    # Noise keeps a site from overlapping with itself as much as it would.
    noisy = row(angles, site="blocks.0.hook_resid_pre", other="blocks.0.hook_resid_pre")
    assert noisy["overlap"] < pair["overlap"] < 1


def test_spectra_and_components_are_shares(results: Callable[..., Any]) -> None:
    _, result = results("sinusoidal")
    spectrum, helix = result.tables["spectrum"], result.tables["helix"]
    for site in set(spectrum["site"]):
        together = spectrum[spectrum["site"] == site]["share"].sum()
        assert together + row(helix, site=site)["line"] == pytest.approx(1.0)
    components = result.tables["components"]
    table = components[components["site"] == "encoding"]
    assert table["share"].is_monotonic_decreasing
    assert table["together"].tolist() == pytest.approx(table["share"].cumsum().tolist())
    trajectory = result.tables["trajectory"]
    one = trajectory[
        (trajectory["site"] == "encoding") & (trajectory["component"] == "component 1")
    ]
    assert float((one["score"] ** 2).mean()) == pytest.approx(table["variance_with_noise"].iloc[0])


def test_any_site_also_of_heads(make_model: Callable[..., HookedTransformer]) -> None:
    model = make_model(positional_embedding_type="sinusoidal", n_ctx=40, n_key_value_heads=2)
    sites = ["blocks.*.attn.hook_k", "blocks.1.hook_mlp_out"]
    result = run_analysis("position-geometry", model, length=30, sites=sites, first=3, rank=3)
    assert result.passed
    names = result.tables["variance"]["site"].tolist()
    heads = [f"blocks.{i}.attn.hook_k[{head}]" for i in range(2) for head in range(2)]
    assert names == ["encoding", *heads[:2], *heads[2:], "blocks.1.hook_mlp_out"]
    trajectory = result.tables["trajectory"]
    assert trajectory["position"].min() == 3 and trajectory["position"].max() == 29
    angles = result.tables["angles"]
    assert not ((angles["site"] == "encoding") & (angles["other"] == heads[0])).any()
    assert ((angles["site"] == heads[1]) & (angles["other"] == heads[0])).any()


def test_offsets_too_far_are_left(make_model: Callable[..., HookedTransformer]) -> None:
    model = make_model(n_ctx=40)
    result = run_analysis("position-geometry", model, length=20, offsets=[1, 2, 19, 50], rank=3)
    assert set(result.tables["shift"]["offset"]) == {1, 2}


def test_position_zero_is_left_out_where_it_is_bos() -> None:
    result = run_analysis(
        "position-geometry", load_model("zoo:induction", device="cpu"), quick=True
    )
    assert result.tables["trajectory"]["position"].min() == 1
    assert not math.isnan(result.tables["variance"]["share"].iloc[0])


def test_bad_input_is_refused(make_model: Callable[..., HookedTransformer]) -> None:
    model = make_model(n_ctx=40)
    refused: list[tuple[dict[str, Any], str]] = [
        ({"length": 12}, "16 positions or more"),
        ({"length": 20, "first": 10}, "16 positions or more"),
        ({"sequences": 6}, "no more than sequences"),
        ({"offsets": []}, "at least 1"),
        ({"offsets": [0]}, "at least 1"),
        ({"offsets": [1, 1]}, "no two the same"),
        ({"sites": ["nowhere"]}, "nowhere"),
        ({"folds": 3}, "folds"),
    ]
    for params, rule in refused:
        with pytest.raises(InputError, match=rule):
            run_analysis("position-geometry", model, **params)
    both = make_model(architecture="encoder-decoder")
    with pytest.raises(InputError, match="two stacks"):
        run_analysis("position-geometry", both)
    with pytest.raises(InputError, match="too few"):
        run_analysis("position-geometry", make_model(n_ctx=8))


def test_the_task_that_counts_by_five_has_its_cycle_in_its_table() -> None:
    """The learned table of `count` comes back every five positions, and a map moves it on."""
    model = load_model("zoo:count-learned", device="cpu")
    result = run_analysis("position-geometry", model)
    helix = row(result.tables["helix"], site="blocks.1.hook_resid_pre")
    assert any(float(x) == pytest.approx(5, rel=0.02) for x in helix["periods"].split(", "))
    assert helix["r2_held_out"] > 0.5 > helix["r2_shuffled"]
    shift = row(result.tables["shift"], site="blocks.1.hook_resid_pre", offset=1)
    assert shift["r2"] > 0.7 > shift["r2_no_shift"] and shift["r2_blocks"] > 0.7
    assert shift["r2"] > shift["r2_shuffled"] + 0.7


def test_an_encoders_last_token_is_left_out(
    make_model: Callable[..., HookedTransformer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """SEP is content that only one position has: without positions it would look like one."""
    from analyses.positions import geometry as position_geometry

    model = make_model(
        positional_embedding_type="none", n_ctx=40, d_vocab=50, architecture="encoder", head="mlm"
    )
    resolve = position_geometry.resolve_rows

    def ending(*args: Any) -> Any:
        rows = resolve(*args)
        rows.tokens[:, -1] = 7
        return rows

    monkeypatch.setattr(position_geometry, "resolve_rows", ending)
    result = run_analysis("position-geometry", model, length=33, sites=["hook_embed"])
    assert abs(result.tables["variance"]["share"].iloc[0]) < 0.02
    assert result.tables["variance"]["verdict"].tolist() == ["no more than noise"]
    monkeypatch.setattr(position_geometry, "_end", lambda model, rows: rows.length)
    result = run_analysis("position-geometry", model, length=33, sites=["hook_embed"])
    assert result.tables["variance"]["verdict"].tolist() == ["position"]


def test_rows_that_are_all_the_same_are_refused() -> None:
    """Their content would be taken for position, without any doubt left."""
    model = load_model("zoo:induction", device="cpu")
    text = "abcdefgh" * 300  # rows of 33 are BOS and whole rounds of the eight letters
    with pytest.raises(InputError, match="All 64 are the same"):
        run_analysis("position-geometry", model, text=text, length=33)
    assert run_analysis("position-geometry", model, text=text, length=34).passed
