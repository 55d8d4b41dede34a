"""Activation patching against whole runs with plain hooks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from analyses import AnalysisResult, run_analysis
from interp import HookedTransformer, InputError, load_model
from interp.zoo import known

CLEAN = [[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]]
CORRUPTED = [[3, 2, 4, 1, 5], [9, 2, 7, 5, 3]]
RIGHT, WRONG = [7, 8], [9, 10]
SETTINGS = {
    "clean_tokens": CLEAN, "corrupted_tokens": CORRUPTED, "right": RIGHT, "wrong": WRONG,
}  # fmt: skip
MODELS: dict[str, dict[str, Any]] = {
    "gpt2": {},
    "llama": {
        "positional_embedding_type": "rotary", "normalization_type": "RMS", "gated_mlp": True,
        "act_fn": "silu", "n_key_value_heads": 2,
    },
    "parallel": {"parallel_attn_mlp": True, "positional_embedding_type": "rotary"},
    "attn-only": {"attn_only": True, "act_fn": None, "normalization_type": None},
    "encoder": {"architecture": "encoder", "head": "mlm", "norm_placement": "post"},
    "classifier": {"architecture": "encoder", "head": "classification", "d_vocab_out": 11},
}  # fmt: skip
_HOOKS = {
    "resid_pre": "blocks.{}.hook_resid_pre", "attn_out": "blocks.{}.hook_attn_out",
    "mlp_out": "blocks.{}.hook_mlp_out",
}  # fmt: skip


def _read(logits: Tensor, metric: str, reference: Tensor) -> np.ndarray:
    """The metric of every pair, restated."""
    last, wanted = (x if x.ndim == 2 else x[:, -1] for x in (logits, reference))
    rows = torch.arange(2)
    if metric == "logit-diff":
        value = last[rows, RIGHT] - last[rows, WRONG]
    elif metric == "probability":
        value = last.softmax(-1)[rows, RIGHT]
    else:
        p = wanted.softmax(-1)
        value = (p * (p.log() - last.softmax(-1).log())).sum(-1)
    return value.numpy()


def _patched(
    model: HookedTransformer, base: Tensor, source: dict[str, Tensor], place: dict[str, Any]
) -> Tensor:
    """One run with one place replaced."""
    site, layer = place["site"], place["layer"]
    name = _HOOKS.get(site, "blocks.{}.attn.hook_" + site).format(layer)

    def hook(x: Tensor, hook: Any) -> Tensor:
        x = x.clone()
        at: list[Any] = [slice(None)] * x.ndim
        if place.get("position", -1) >= 0:
            at[1] = place["position"]
        if place.get("head", -1) >= 0:
            at[1 if site == "pattern" else 2] = place["head"]
        x[tuple(at)] = source[name][tuple(at)]
        return x

    return model.run_with_hooks(base, fwd_hooks=[(name, hook)])


@pytest.mark.parametrize(
    ("name", "metric", "direction"),
    [
        ("gpt2", "logit-diff", "denoise"),
        ("gpt2", "kl", "noise"),
        ("llama", "logit-diff", "noise"),
        ("llama", "probability", "denoise"),
        ("parallel", "kl", "denoise"),
        ("attn-only", "logit-diff", "denoise"),
        ("encoder", "probability", "noise"),
        ("classifier", "kl", "denoise"),
        ("classifier", "logit-diff", "noise"),
    ],
)
@torch.no_grad()
def test_every_place_equals_a_run_of_its_own(
    name: str, metric: str, direction: str, make_model: Any
) -> None:
    model = make_model(dtype="float64", **MODELS[name])
    result = run_analysis(
        "activation-patching", model, **SETTINGS, metric=metric, direction=direction, top_heads=2
    )
    assert result.passed, result.checks
    assert max(check.tolerance for check in result.checks) == 1e-10
    clean, corrupted = torch.tensor(CLEAN), torch.tensor(CORRUPTED)
    base, other = (corrupted, clean) if direction == "denoise" else (clean, corrupted)
    reference = model(clean)
    _, cache = model.run_with_cache(other)
    source = dict(cache.items())
    at_0 = _read(model(base), metric, reference).mean()
    at_1 = _read(model(other), metric, reference).mean()
    (runs,) = result.tables["runs"].to_dict("records")
    assert runs["direction"] == direction and runs["pairs"] == 2
    assert runs["value_at_0"] == pytest.approx(at_0, abs=1e-10)
    assert runs["value_at_1"] == pytest.approx(at_1, abs=1e-10)
    by_position = result.tables["heads-by-position"]
    numbers = by_position["head"].str.extract(r"L(\d)H(\d)").astype(int)
    by_position = by_position.assign(site="z", layer=numbers[0], head=numbers[1])
    tables = [result.tables["streams"], result.tables["heads"], by_position]
    n = 0
    columns = ["site", "layer", "position", "head", "value", "effect", "normalised"]
    places = [t.reindex(columns=columns).fillna({"position": -1, "head": -1}) for t in tables]
    for place in pd.concat(places).to_dict("records"):
        place |= {axis: int(place[axis]) for axis in ("layer", "position", "head")}
        found = _read(_patched(model, base, source, place), metric, reference).mean()
        assert abs(place["value"] - found) <= 1e-10 * max(1, abs(found)), place
        assert place["effect"] == pytest.approx(found - at_0, abs=1e-10)
        assert place["normalised"] == pytest.approx((found - at_0) / (at_1 - at_0), abs=1e-8)
        n += 1
    streams = 2 if model.cfg.attn_only else 3
    kv = 2 * model.cfg.n_key_value_heads
    assert n == streams * 2 * 5 + 2 * (3 * 4 + kv) + 2 * 5


def test_pairs_are_averaged_and_each_told(make_model: Any) -> None:
    model = make_model(dtype="float64")
    together = run_analysis("activation-patching", model, **SETTINGS)
    alone = [
        run_analysis(
            "activation-patching", model, clean_tokens=CLEAN[i], corrupted_tokens=CORRUPTED[i],
            right=RIGHT[i], wrong=WRONG[i],
        )
        for i in range(2)
    ]  # fmt: skip
    for table in ("streams", "heads"):
        mean = sum(each.tables[table]["value"] for each in alone) / 2
        np.testing.assert_allclose(together.tables[table]["value"], mean, rtol=0, atol=1e-10)
    pairs = together.tables["pairs"]
    for i, each in enumerate(alone):
        for column in ("clean_value", "corrupted_value"):
            assert pairs[column][i] == pytest.approx(each.tables["pairs"][column][0], abs=1e-10)
        assert pairs["quantity"][i] == each.tables["pairs"]["quantity"][0]
    assert together.tables["runs"]["quantity"][0].endswith(", mean over 2 pairs")


def test_words_say_what_was_averaged_and_patched(make_model: Any) -> None:
    """The mean over pairs, or the value of one; of the sites only those that are drawn."""
    model = make_model(dtype="float64", attn_only=True)
    result = run_analysis("activation-patching", model, metric="probability", **SETTINGS)
    words = "probability of the right answer"
    assert set(result.tables["pairs"]["quantity"]) == {words}
    assert result.tables["runs"]["quantity"][0] == f"{words}, mean over 2 pairs"
    streams, heads = (result.figures[name].alt for name in ("streams", "heads"))
    assert "attention writes" in streams and "MLP" not in streams
    assert "output, queries, keys, values, pattern carry" in heads


def test_leading_places_are_the_largest_of_each_site(make_model: Any) -> None:
    result = run_analysis("activation-patching", make_model(dtype="float64"), **SETTINGS)
    leading = result.tables["leading"]
    for name in ("streams", "heads"):
        for site, rows in result.tables[name].groupby("site"):
            expected = rows["effect"].abs().sort_values(ascending=False).iloc[:5].tolist()
            found = leading[leading["site"] == site]
            assert found["effect"].abs().tolist() == expected
            assert found["rank"].tolist() == list(range(1, len(expected) + 1))
    z = result.tables["heads"].query("site == 'z'").copy()
    z["label"] = "L" + z["layer"].astype(str) + "H" + z["head"].astype(str)
    order = z.sort_values("effect", key=abs, ascending=False, kind="stable")["label"].iloc[:4]
    assert result.tables["heads-by-position"]["head"].unique().tolist() == order.tolist()


def test_sites_can_be_chosen(make_model: Any) -> None:
    model = make_model()
    result = run_analysis("activation-patching", model, **SETTINGS, sites=["q", "q", "mlp_out"])
    assert set(result.tables["heads"]["site"]) == {"q"}
    assert set(result.tables["streams"]["site"]) == {"mlp_out"}
    assert set(result.figures) == {"streams", "heads"}
    only = run_analysis("activation-patching", model, **SETTINGS, sites=["attn_out"])
    assert set(only.figures) == {"streams"} and only.passed
    heads = run_analysis("activation-patching", model, **SETTINGS, sites=["pattern"])
    assert set(heads.figures) == {"heads"} and heads.passed
    none = run_analysis("activation-patching", model, **SETTINGS, top_heads=0)
    assert set(none.figures) == {"streams", "heads"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sites": []}, "sites"),
        ({"sites": ["resid_post"]}, "sites"),
        ({"metric": "loss"}, "metric"),
        ({"direction": "both"}, "direction"),
        ({"top_heads": -1}, "top_heads"),
        ({"corrupted_tokens": CLEAN}, "must differ in the logit"),
    ],
)
def test_bad_settings(settings: dict[str, Any], message: str, make_model: Any) -> None:
    with pytest.raises(InputError, match=message):
        run_analysis("activation-patching", make_model(), **{**SETTINGS, **settings})


def test_what_does_not_fit(make_model: Any) -> None:
    bare = make_model(attn_only=True, act_fn=None)
    with pytest.raises(InputError, match="sites must be of resid_pre, attn_out, z"):
        run_analysis("activation-patching", bare, **SETTINGS, sites=["mlp_out"])
    with pytest.raises(InputError, match="no layers"):
        run_analysis("activation-patching", make_model(n_layers=0), **SETTINGS)
    both = make_model(architecture="encoder-decoder", n_encoder_layers=2)
    with pytest.raises(InputError, match="two sequences"):
        run_analysis("activation-patching", both, **SETTINGS)


def test_nothing_of_the_model_is_changed(make_model: Any) -> None:
    model = make_model()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    run_analysis("activation-patching", model, **SETTINGS)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert model.watched_hooks() == (set(), set())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision(dtype: str, make_model: Any) -> None:
    assert run_analysis("activation-patching", make_model(dtype=dtype), **SETTINGS).passed


# --- models whose mechanism is known --------------------------------------------------------------


@pytest.mark.parametrize("name", ["previous_token", "induction", "name_mover"])
def test_it_finds_what_its_definition_predicts(name: str) -> None:
    """Denoising by z: the heads that are enough, and no others."""
    truth = getattr(known, name)()
    result = run_analysis(
        "activation-patching",
        truth.model,
        clean_tokens=truth.clean.tolist(),
        corrupted_tokens=truth.corrupted.tolist(),
        right=truth.right.tolist(),
        wrong=truth.wrong.tolist(),
        position=truth.position,
    )
    assert result.passed, result.checks
    z = result.tables["heads"].query("site == 'z'")
    found = {
        f"L{layer}H{head}"
        for layer, head, effect in zip(z["layer"], z["head"], z["effect"], strict=True)
        if abs(effect) > 1e-9
    }
    expected = {label for label in truth.expected["activation_patching"] if "H" in label}
    assert found == expected


# --- the zoo, and a real model --------------------------------------------------------------------


def test_the_induction_story() -> None:
    """Exchanging what came before the answers: previous-token head, then keys of layer 1."""
    pytest.importorskip("tokenizers", reason="needs the extra 'hf'")
    result = run_analysis("activation-patching", load_model("zoo:induction", device="cpu"))
    heads = result.tables["heads"].set_index(["site", "layer", "head"])["normalised"]
    heads = heads.sort_index()
    assert heads["z", 0].idxmax() == 1 and heads["z", 0, 1] > 0.6
    assert heads["v", 0, 1] > 0.6  # it carries which token it was …
    assert heads["k", 1].min() > 0.1  # … to the keys of the second layer,
    assert heads["q"].abs().max() < 0.05 > heads["v", 1].abs().max()  # not its queries or values
    by_position = result.tables["heads-by-position"].query("head == 'L0H1'")
    top = by_position.nlargest(2, "normalised")["token"].tolist()
    assert sorted(top) == ["W", "q"]  # it writes where the answers stand, behind the exchanged
    exchanged = [text for text in by_position["token"] if "→" in text]
    assert exchanged == ["y→c", "c→y"]


@pytest.mark.usefixtures("undrawn_figures")
def test_a_real_model_by_the_command_line(
    third_party: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("seaborn", reason="needs the extra 'plots'")
    from dashboards import cli

    folder, out = third_party("stories260K"), tmp_path / "result"
    clean, corrupted = (f"The {who} was happy. One day," for who in ("girl", "boy"))
    with pytest.raises(SystemExit) as end:
        cli.main([
            "run", "activation-patching", "--model", str(folder), "--set", f"clean={clean}",
            "--set", f"corrupted={corrupted}", "--set", "right= she", "--set", "wrong= he",
            "--quick", "--out", str(out),
        ])  # fmt: skip
    assert end.value.code == 0, capsys.readouterr().err
    result = AnalysisResult.load(out)
    assert set(result.tables["heads"]["site"]) == {"z"}
    assert len(result.tables["heads"]) == 5 * 8
    (pair,) = result.tables["pairs"].to_dict("records")
    assert pair["clean"] == f"<s> {clean}"
    assert (pair["right"], pair["wrong"]) == ("“·she”", "“·he”")
    assert pair["clean_value"] > 3 and pair["corrupted_value"] < -3
    assert any("→" in token for token in result.tables["streams"]["token"])
