"""Attribution patching as an analysis: its tables against plain runs, its labels, its checks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from analyses import AnalysisResult, run_analysis
from analyses.patching import estimated_places as attribution_places
from interp import HookedTransformer, InputError, load_model, zoo
from interp.zoo import known

CLEAN = [[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]]
CORRUPTED = [[3, 2, 4, 1, 5], [9, 2, 7, 5, 3]]
SETTINGS: dict[str, Any] = {
    "clean_tokens": CLEAN, "corrupted_tokens": CORRUPTED, "right": [7, 8], "wrong": [9, 10],
}  # fmt: skip
MODELS: dict[str, dict[str, Any]] = {
    "gpt2": {},
    "llama": {
        "positional_embedding_type": "rotary", "normalization_type": "RMS", "gated_mlp": True,
        "act_fn": "silu", "n_key_value_heads": 2,
    },
    "attn-only": {"attn_only": True, "act_fn": None, "normalization_type": None},
    "one-layer": {"n_layers": 1, "parallel_attn_mlp": True},
    "encoder": {"architecture": "encoder", "head": "mlm", "norm_placement": "post"},
    "classifier": {"architecture": "encoder", "head": "classification", "d_vocab_out": 11},
}  # fmt: skip
METHODS = ("atp", "atp*", "eap", "eap-ig")
Make = Callable[..., HookedTransformer]


def analyse(model: HookedTransformer, method: str = "atp", **more: Any) -> AnalysisResult:
    settings = {**SETTINGS, "method": method, **more}
    return run_analysis("attribution-patching", model, **settings)


def value(logits: Tensor) -> Tensor:
    last = logits if logits.ndim == 2 else logits[:, -1]
    rows = torch.arange(2)
    return last[rows, [7, 8]] - last[rows, [9, 10]]


def plain(model: HookedTransformer, base: Tensor, source: Any, edits: dict[str, Any]) -> float:
    """The mean change of the metric by a run with these entries copied in."""

    def put_in(x: Tensor, hook: Any) -> None:
        x[edits[hook.name]] = source[hook.name][edits[hook.name]]

    with torch.no_grad():
        logits = model.run_with_hooks(base, fwd_hooks=[(name, put_in) for name in edits])
        return float((value(logits) - value(model(base))).mean())


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("method", METHODS)
def test_identities_hold(name: str, method: str, make_model: Make) -> None:
    model = make_model(dtype="float64", **MODELS[name])
    if method.startswith("eap") and name == "encoder":
        with pytest.raises(InputError, match="graph of edges"):
            analyse(model, method)
        return
    # Each method both ways, and each model.
    place = list(MODELS).index(name) + METHODS.index(method)
    direction = ("denoise", "noise")[place % 2]
    result = analyse(model, method, direction=direction)
    assert len(result.checks) == 2 and all(c.passed for c in result.checks), result.checks
    (runs,) = result.tables["runs"].to_dict("records")
    assert runs["what_is_shown"] == "first-order estimate"
    assert runs["run"] == ("corrupted" if direction == "denoise" else "clean")
    assert set(result.tables["leading"]["kind"]) == {"first-order estimate", "exact patching"}
    for chart in result.figures.values():
        chart.rows(result.tables[chart.table])
        assert "stimate" in chart.title and "effect of patching" not in chart.title
    assert not any(point.is_watched for point in model.hook_points())


@pytest.mark.parametrize("name", ["gpt2", "llama", "classifier"])
def test_exact_changes_by_plain_runs(name: str, make_model: Make) -> None:
    model = make_model(dtype="float64", **MODELS[name])
    base = torch.tensor(CORRUPTED)
    _, source = model.run_with_cache(torch.tensor(CLEAN))
    result = analyse(model)
    every = slice(None)
    for row in result.tables["heads"].iloc[::5].to_dict("records"):
        hook = f"blocks.{row['layer']}.attn.hook_{row['site']}"
        at = (every, every, row["head"])
        expected = plain(model, base, source, {hook: at})
        assert row["exact_change"] == pytest.approx(expected, abs=1e-10)
    for row in result.tables["streams"].iloc[::7].to_dict("records"):
        hook = f"blocks.{row['layer']}.hook_{row['site']}"
        at = (every, row["position"])
        expected = plain(model, base, source, {hook: at})
        assert row["exact_change"] == pytest.approx(expected, abs=1e-10)
    # In a small part of the way the patch does what was estimated, for each place.
    near = {k: x + 1e-6 * (source[k] - x) for k, x in model.run_with_cache(base)[1].items()
            if x.is_floating_point()}  # fmt: skip
    for row in result.tables["heads"].iloc[::5].to_dict("records"):
        hook = f"blocks.{row['layer']}.attn.hook_{row['site']}"
        slope = plain(model, base, near, {hook: (every, every, row["head"])}) / 1e-6
        assert row["estimate"] == pytest.approx(slope, abs=1e-4)


def test_some_edges_are_patched_exactly(make_model: Make) -> None:
    model = make_model(dtype="float64")
    result = analyse(model, "eap", max_exact=10)
    edges = result.tables["edges"]
    assert len(edges) == 137 and edges["exact_change"].notna().sum() == 10
    assert list(edges["rank"]) == list(range(1, 138))
    assert edges["estimate"].abs().is_monotonic_decreasing
    # The first and the last of the ranking are among them.
    assert edges["exact_change"].notna().iloc[[0, -1]].all()
    whole = analyse(model, "eap").tables["edges"]
    chosen = edges["exact_change"].notna()
    assert list(whole["exact_change"][chosen]) == pytest.approx(list(edges["exact_change"][chosen]))
    (row,) = result.tables["agreement"].to_dict("records")
    assert row["n"] == 10
    without = analyse(model, "eap", verify=False)
    assert "agreement" not in without.tables and "exact_change" not in without.tables["edges"]


def test_known_circuit() -> None:
    """Saturated attention: first order misses the keys; the QK fix and EAP-IG find them."""
    truth = known.induction(saturated=True)
    given: dict[str, Any] = {
        "clean_tokens": truth.clean.tolist(), "corrupted_tokens": truth.corrupted.tolist(),
        "right": truth.right.tolist(), "wrong": truth.wrong.tolist(), "position": truth.position,
    }  # fmt: skip
    found = {}
    for method in ("atp", "atp*"):
        result = run_analysis("attribution-patching", truth.model, method=method, **given)
        heads = result.tables["heads"].set_index(["site", "layer", "head"])["normalised_estimate"]
        found[method] = heads["k", 1, 1]
        (agree,) = result.tables["agreement"].query("places == 'k'").to_dict("records")
        assert (agree["scale"] > 0.3) == (method == "atp*")
    assert abs(found["atp"]) < 1e-9 and found["atp*"] > 0.2
    edges = {}
    for method in ("eap", "eap-ig"):
        result = run_analysis("attribution-patching", truth.model, method=method, **given)
        table = result.tables["edges"].set_index("edge")["normalised_estimate"].abs()
        edges[method] = frozenset(table.index[table > truth.threshold])
    assert edges["eap"] == truth.expected["eap"]
    assert edges["eap-ig"] == truth.expected["eap_ig"]


def test_a_wrong_gradient_is_caught(make_model: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    right = attribution_places.estimate_several

    def wrong(*args: Any) -> Any:
        found = right(*args)
        for one in found.values():
            one.change[-1] *= 1.01
        return found

    monkeypatch.setattr(attribution_places, "estimate_several", wrong)
    failed = [c.name for c in analyse(make_model()).checks if not c.passed]
    assert failed == ["estimates-equal-plain-autograd"]


@pytest.mark.parametrize(
    ("name", "method"),
    [("zoo:induction", "eap"), ("zoo:modular-addition", "atp*"), ("zoo:brackets", "eap-ig")],
)
def test_zoo(name: str, method: str) -> None:
    """With the default method: in test_every_analysis."""
    model = zoo.load(name)
    result = run_analysis("attribution-patching", model, method=method, quick=True)
    assert all(c.passed for c in result.checks), result.checks


def test_stories(third_party: Callable[[str], Path]) -> None:
    model = load_model(third_party("stories260K"), device="cpu")
    pair = {
        "clean": "Lily was a little girl. One day,",
        "corrupted": "Tim was a little boy. One day,",
    }
    for method in ("atp*", "eap-ig"):
        result = run_analysis("attribution-patching", model, method=method, quick=True, **pair)
        assert all(c.passed for c in result.checks), (method, result.checks)
        assert (result.tables["agreement"]["spearman_magnitude"] > 0.5).all()


def test_bad_input(make_model: Make) -> None:
    with pytest.raises(InputError, match="sites must be of"):
        analyse(make_model(attn_only=True, act_fn=None), sites=["mlp_out"])
    with pytest.raises(InputError, match="must differ in the logit"):
        analyse(make_model(), corrupted_tokens=CLEAN)
    translator = make_model(architecture="encoder-decoder", n_encoder_layers=1)
    with pytest.raises(InputError, match="reads two sequences"):
        analyse(translator)
