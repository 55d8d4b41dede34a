from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("seaborn", reason="needs the extra 'plots'")

from analyses import AnalysisResult, run_analysis
from analyses.attribution.input_tables import Setting, explained_table
from interp import HookedTransformer, InputError, load_model
from interp.attribution import (
    attention_rollout,
    input_gradients,
    integrated_gradients,
    value_weighted_attention,
)
from interp.patching.metrics import Logit, LogitDiff, LogProb
from interp.zoo import known
from tests.interp.kinds import KINDS

MakeModel = Callable[..., HookedTransformer]
TOKENS = [3, 1, 4, 1, 5, 9]
CHECKS = {
    "gradient-is-the-slope", "one-step-is-gradient-times-difference", "rollout-rows-sum-to-1",
}  # fmt: skip
READ = (
    "gpt2", "llama", "no-norm", "gpt-oss", "mixtral-post", "bloom", "bert-folded-mlm", "classifier"
)  # fmt: skip


def _values(result: AnalysisResult, method: str) -> np.ndarray:
    table = result.tables["by-token"]
    return table[table["method"] == method]["value"].to_numpy()


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_checks_hold(name: str, dtype: str, make_model: MakeModel) -> None:
    model = make_model(**KINDS[name], dtype=dtype)
    result = run_analysis("input-attribution", model, tokens=TOKENS, target=1, steps=4)
    assert {check.name for check in result.checks} == CHECKS
    assert result.passed, result.checks


@pytest.mark.parametrize(
    ("settings", "metric", "baseline"),
    [
        ({"target": 7, "measure": "logit", "position": 3}, Logit(7, pos=3), "mean"),
        ({"target": 7, "wrong": 2, "baseline": "zeros"}, LogitDiff(7, 2), "zeros"),
        ({"target": 7, "baseline": "#5", "rule": "gauss"}, LogProb(7), 5),
    ],
)
def test_tables_are_what_the_methods_give(
    settings: dict[str, Any], metric: Any, baseline: Any, make_model: MakeModel
) -> None:
    model = make_model(dtype="float64")
    tokens = torch.tensor([TOKENS])
    result = run_analysis("input-attribution", model, tokens=TOKENS, steps=12, **settings)
    assert result.passed
    rule = settings.get("rule", "midpoint")
    found = integrated_gradients(model, tokens, metric, baseline, 12, rule)
    first = input_gradients(model, tokens, metric)
    assert np.allclose(_values(result, "integrated gradients"), found.attributions[0], atol=1e-12)
    assert np.allclose(_values(result, "gradient × input"), first.times_input[0], atol=1e-12)
    assert np.allclose(_values(result, "gradient norm"), first.norm[0], atol=1e-12)
    _, cache = model.run_with_cache(tokens)
    place = settings.get("position", -1)
    rolled = attention_rollout(cache)[-1, 0, place]
    assert np.allclose(_values(result, "attention rollout"), rolled, atol=1e-12)
    both = torch.eye(len(TOKENS), dtype=torch.float64)
    for layer in range(2):  # what each layer writes of every token, all heads together
        sizes = value_weighted_attention(cache, layer)[0].sum(0)
        both = 0.5 * both + 0.5 * (sizes / sizes.sum(-1, keepdim=True)) @ both
    assert np.allclose(_values(result, "value-weighted rollout"), both[place], atol=1e-12)
    (explained,) = result.tables["explained"].itertuples()
    assert explained.value == pytest.approx(float(found.value[0]), abs=1e-12)
    total = explained.sum_of_attributions - explained.difference
    assert explained.error == pytest.approx(total, abs=1e-10)
    steps = result.tables["completeness"]
    assert steps["steps"].tolist() == [1, 2, 4, 8, 12]
    assert steps["error"].iloc[-1] == pytest.approx(explained.error, abs=1e-12)
    shares = result.tables["by-token"].groupby("method")["share"].apply(lambda x: x.abs().sum())
    assert np.allclose(shares, 1.0)
    heads = result.tables["value-weighted"].groupby("head")
    assert len(heads) == 8
    assert np.allclose(heads["attention"].sum(), 1) and np.allclose(heads["share_written"].sum(), 1)


@pytest.mark.parametrize(("place", "windowed"), [(-1, [4, 5]), (2, [1, 2]), (0, [0])])
def test_sources_that_a_layer_hides_are_absent(
    place: int, windowed: list[int], make_model: MakeModel
) -> None:
    model = make_model(dtype="float64", window_size=2, attn_types=("local", "global"))
    result = run_analysis("input-attribution", model, tokens=TOKENS, steps=2, position=place)
    table = result.tables["value-weighted"]
    seen = table.groupby("head")["source"].agg(list)
    assert seen["L0H2"] == windowed
    assert seen["L1H2"] == list(range(place % len(TOKENS) + 1))
    assert (table["attention"] > 0).all()
    _, cache = model.run_with_cache(torch.tensor([TOKENS]))
    sizes = value_weighted_attention(cache, 0)[0, 2, place, windowed]
    found = table[table["head"] == "L0H2"]
    assert np.allclose(found["size_written"], sizes, atol=1e-12)
    assert np.allclose(found["share_written"], sizes / sizes.sum(), atol=1e-12)


def test_known_model() -> None:
    """The previous-token copier: from the token before alone, beside what even attention adds."""
    truth = known.previous_token()
    result = run_analysis(
        "input-attribution", truth.model, tokens=truth.clean[0].tolist(), baseline="zeros",
        target=int(truth.right[0]), wrong=int(truth.wrong[0]), steps=2,
    )  # fmt: skip
    assert result.passed
    values = _values(result, "integrated gradients")
    assert values[-2] == pytest.approx(float(truth.clean_value[0]), abs=1e-10)
    assert np.abs(np.delete(values, -2)).max() < 1e-10
    assert abs(result.tables["explained"]["error"][0]) < 1e-10
    rolled = _values(result, "attention rollout")
    looks = float(truth.patterns["L0H0", truth.position][0, -2])
    assert rolled[-2] == pytest.approx(0.25 * looks + 0.25 / len(values), abs=1e-10)


def test_no_difference(make_model: MakeModel) -> None:
    """From the prompt itself nothing is to be explained, and no error is relative to that."""
    tokens, metric = torch.tensor([[5, 5]]), Logit(1)
    found = integrated_gradients(make_model(dtype="float64"), tokens, metric, tokens, steps=2)
    assert not found.attributions.any()
    found = dataclasses.replace(found, baseline_value=found.value)  # to the bit
    setting = Setting(tokens, ["5", "5"], 1, metric, "logit", "logits", tokens)
    (explained,) = explained_table(2, "midpoint", "the prompt", setting, found).itertuples()
    assert explained.difference == 0 and np.isnan(explained.relative_error)


def test_classifier() -> None:
    """Read at the first token; the target is a class."""
    model = load_model("zoo:brackets", device="cpu")
    result = run_analysis("input-attribution", model, prompt="(())()", target="#1", steps=4)
    assert result.passed
    assert result.tables["explained"]["destination"][0] == 0
    assert "class 1" in result.tables["explained"]["quantity"][0]
    with pytest.raises(InputError, match="position has no meaning"):
        run_analysis("input-attribution", model, prompt="(())", position=2)


def test_real_model(third_party: Callable[[str], Path]) -> None:
    """A sentence of stories260K: what is missing at the end is small beside the difference."""
    model = load_model(third_party("stories260K"), device="cpu")
    prompt = "Once upon a time, there was a little girl named"
    result = run_analysis("input-attribution", model, prompt=prompt, target=" Lily", steps=32)
    assert result.passed
    assert result.tables["explained"]["relative_error"][0] < 1e-3


def test_bad_input(make_model: MakeModel) -> None:
    model = make_model()
    for rule, settings in {
        "wrong must differ": {"target": 3, "wrong": 3},
        "baseline must be zeros, mean": {"baseline": "ones"},
        "tokens must lie in 0 … 30": {"baseline": "#31"},
        "position must lie": {"position": 6},
        "'steps'": {"steps": 1},
    }.items():
        with pytest.raises(InputError, match=rule):
            run_analysis("input-attribution", model, tokens=TOKENS, **settings)
    with pytest.raises(InputError, match="two sequences"):
        run_analysis("input-attribution", load_model("zoo:translation", device="cpu"), prompt="x")
    with pytest.raises(InputError, match="no attention"):
        run_analysis("input-attribution", make_model(n_layers=0), tokens=TOKENS)
