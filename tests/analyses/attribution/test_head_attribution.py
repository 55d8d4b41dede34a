from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from tests.covering import slow

pytest.importorskip("seaborn", reason="needs the extra 'plots'")

from analyses import AnalysisResult, run_analysis
from dashboards import cli
from interp import HookedTransformer, InputError, load_model

MakeModel = Callable[..., HookedTransformer]
ThirdParty = Callable[[str], Path]
PROMPT = "Once upon a time, there was a little girl named"
TOKENS = [3, 1, 4, 1, 5, 9]

MODELS: dict[str, dict[str, Any]] = {
    "LN": {},
    "RMS-grouped": {
        "normalization_type": "RMS", "positional_embedding_type": "rotary", "gated_mlp": True,
        "act_fn": "silu", "n_key_value_heads": 2,
    },
    "LNPre": {"normalization_type": "LNPre"},
    "RMSPre": {"normalization_type": "RMSPre"},
    "bare-attn-only": {"normalization_type": None, "attn_only": True, "n_layers": 1},
    "parallel": {"parallel_attn_mlp": True},
    "encoder": {"attention_dir": "bidirectional"},
}  # fmt: skip


def _checked(result: AnalysisResult, tolerance: float) -> None:
    assert result.passed, result.checks
    assert {check.name for check in result.checks} == {
        "parts-sum-to-logit", "sources-sum-to-head", "watching-changes-nothing",
    }  # fmt: skip
    for check in result.checks:
        assert check.tolerance <= tolerance
        assert check.value <= tolerance, check.name


def _sums(components: pd.DataFrame) -> np.ndarray:
    """From the table alone: what all components add at each position."""
    return components.groupby("position", sort=True)["attribution"].sum().to_numpy()


def _scaled(found: np.ndarray, expected: np.ndarray) -> float:
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / max(1.0, np.abs(expected).max()))


# --- a real model, through the command line ------------------------------------------------------


@slow
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-4), ("float64", 1e-10)])
def test_real_model_by_the_command_line(
    dtype: str, tolerance: float, third_party: ThirdParty, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    """“… a little girl named” → “ Lily”: the saved tables sum to the model's own logits."""
    if dtype == "float64":  # figures are written once, in float32
        request.getfixturevalue("undrawn_figures")
    folder, out = third_party("stories260K"), tmp_path / "result"
    with pytest.raises(SystemExit) as end:
        cli.main([
            "run", "head-attribution", "--model", str(folder), "--dtype", dtype,
            "--set", f"prompt={PROMPT}", "--set", "target= Lily", "--out", str(out), "--json",
        ])  # fmt: skip
    document = json.loads(capsys.readouterr().out)
    assert (end.value.code, document["passed"]) == (0, True)

    model = load_model(folder, dtype=dtype)
    logits = model(PROMPT)[0].detach().double().numpy()
    lily = model.to_single_token(" Lily")
    table = {path.stem: pd.read_parquet(path) for path in (out / "tables").glob("*.parquet")}
    components = table["components"]
    assert _scaled(_sums(components), logits[:, lily]) <= tolerance
    last = components["position"].max()
    assert last == len(logits) - 1
    at_position = table["at-position"]
    here = components[components["position"] == last]
    assert _scaled(at_position["attribution"].sum(), np.array(logits[last, lily])) <= tolerance
    assert sorted(at_position["attribution"]) == sorted(here["attribution"])

    by_source = table["by-source"]
    (head,) = by_source["head"].unique()
    share = here.set_index("component")["attribution"][head]
    assert abs(by_source["attribution"].sum() - share) <= tolerance
    assert by_source["attention"].sum() == pytest.approx(1.0, abs=1e-6)
    strongest = at_position[at_position["kind"] == "head"].iloc[0]["component"]
    assert head == strongest

    predictions = table["predictions"]
    assert (predictions["token_id"].iloc[0], predictions["token"].iloc[0]) == (lily, " Lily")
    assert abs(predictions["logit"].iloc[0] - logits[last, lily]) <= tolerance * 10
    texts = components[components["component"] == "embed"]["token"].tolist()
    assert texts == model.to_str_tokens(PROMPT)
    assert len(components) == len(texts) * (1 + 5 * (8 + 1) + 3)

    result = AnalysisResult.load(out)
    _checked(result, tolerance)
    assert result.provenance.parameters["target"] == " Lily"
    assert {p.stem for p in (out / "figures").glob("*.svg")} == set(result.figures)


# --- every kind of model -------------------------------------------------------------------------


@pytest.mark.parametrize("fields", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("wrong", [None, 2])
def test_tables_sum_to_the_logits(
    fields: dict[str, Any], wrong: int | None, make_model: MakeModel
) -> None:
    model = make_model(dtype="float64", **fields)
    logits = model(torch.tensor([TOKENS]))[0].detach().numpy()
    result = run_analysis("head-attribution", model, tokens=TOKENS, target=7, wrong=wrong)
    _checked(result, 1e-10)
    expected = logits[:, 7] - (0 if wrong is None else logits[:, wrong])
    assert _scaled(_sums(result.tables["components"]), expected) <= 1e-10
    assert (
        _scaled(result.tables["at-position"]["attribution"].sum(), np.array(expected[-1])) <= 1e-10
    )
    patterns = result.tables["patterns"]
    sums = patterns.groupby(["head", "destination"])["attention"].sum()
    assert np.allclose(sums, 1.0, rtol=0, atol=1e-12)
    n, causal = len(TOKENS), model.cfg.attention_dir == "causal"
    cells = n * (n + 1) // 2 if causal else n**2  # what is later is absent, not zero
    assert len(patterns) == len(patterns["head"].unique()) * cells


def test_processed_model(make_model: MakeModel) -> None:
    model = make_model(dtype="float64").process_weights()
    _checked(run_analysis("head-attribution", model, tokens=TOKENS), 1e-10)


def test_a_soft_cap_is_named_and_the_probability_is_the_models(make_model: MakeModel) -> None:
    """What is explained is the logit before the cap, which no sum can explain."""
    model = make_model(dtype="float64", output_logits_soft_cap=0.5)
    with torch.no_grad():
        logits, cache = model.run_with_cache(torch.tensor([TOKENS]))
    result = run_analysis("head-attribution", model, tokens=TOKENS, target=7)
    (row,) = result.tables["explained"].to_dict("records")
    assert row["quantity"].endswith(", before the soft cap")
    assert row["value"] == pytest.approx(float(cache["unembed.hook_out"][0, -1, 7]), abs=1e-10)
    probability = float(logits[0, -1].softmax(-1)[7])
    assert row["probability"] == pytest.approx(probability, abs=1e-10)
    assert abs(probability - float(cache["unembed.hook_out"][0, -1].softmax(-1)[7])) > 1e-3


@pytest.mark.parametrize("position", [0, 2, -1, -6, 5])
def test_position(position: int, make_model: MakeModel) -> None:
    model = make_model(dtype="float64")
    result = run_analysis("head-attribution", model, tokens=TOKENS, position=position)
    place = position % 6
    logits = model(torch.tensor([TOKENS]))[0, place].detach()
    at_position = result.tables["at-position"]
    assert set(at_position["position"]) == {place}
    assert abs(at_position["attribution"].sum() - float(logits.max())) <= 1e-10
    assert result.tables["predictions"]["token_id"].tolist() == logits.topk(10).indices.tolist()
    by_source = result.tables["by-source"]
    assert set(by_source["position"]) == {place}
    assert by_source["source"].tolist() == list(range(place + 1))  # no others can be seen
    ranks = at_position["attribution"].abs().to_numpy()
    assert (ranks[:-1] >= ranks[1:]).all()


def test_head_and_number_of_patterns(make_model: MakeModel) -> None:
    model = make_model(dtype="float64")
    result = run_analysis("head-attribution", model, tokens=TOKENS, head="L1H3", top_heads=2)
    by_source, components = result.tables["by-source"], result.tables["components"]
    assert set(by_source["head"]) == {"L1H3"}
    row = components[(components["component"] == "L1H3") & (components["position"] == 5)]
    assert abs(by_source["attribution"].sum() - row["attribution"].item()) <= 1e-10
    assert (row["layer"].item(), row["head"].item()) == (1, 3)
    assert len(result.tables["patterns"]["head"].unique()) == 2
    every = run_analysis("head-attribution", model, tokens=TOKENS, top_heads=32)
    assert len(every.tables["patterns"]["head"].unique()) == 8


def test_prompt_and_tokens_are_the_same(third_party: ThirdParty) -> None:
    model = load_model(third_party("stories260K"), device="cpu")
    by_text = run_analysis("head-attribution", model, prompt=PROMPT)
    by_id = run_analysis("head-attribution", model, tokens=model.to_tokens(PROMPT)[0].tolist())
    for name, table in by_text.tables.items():
        pd.testing.assert_frame_equal(table, by_id.tables[name])
    without = run_analysis("head-attribution", model, prompt=PROMPT, prepend_bos=False)
    assert without.tables["components"]["token"].iloc[0] != "<s>"


def test_nothing_of_the_model_is_changed(make_model: MakeModel) -> None:
    model = make_model()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    calls: list[str] = []
    model.add_hook("hook_embed", lambda x, hook: calls.append(hook.name))
    run_analysis("head-attribution", model, tokens=TOKENS)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert model.watched_hooks()[0] == {"hook_embed"}
    assert calls


def test_a_models_own_hooks_are_explained(make_model: MakeModel) -> None:
    model = make_model(dtype="float64")
    model.add_hook("blocks.0.hook_mlp_out", lambda x, hook: x * 3)
    result = run_analysis("head-attribution", model, tokens=TOKENS, target=7)
    _checked(result, 1e-10)
    logits = model(torch.tensor([TOKENS]))[0].detach().numpy()
    assert _scaled(_sums(result.tables["components"]), logits[:, 7]) <= 1e-10


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tokens": TOKENS, "position": 6}, "position must lie in -6 … 5"),
        ({"tokens": TOKENS, "position": -7}, "position"),
        ({"tokens": TOKENS, "target": 31}, "0 … 30"),
        ({"tokens": TOKENS, "target": -1}, "0 … 30"),
        ({"tokens": TOKENS, "wrong": 31}, "0 … 30"),
        ({"tokens": TOKENS, "target": " Lily"}, "token id"),
        ({"tokens": TOKENS, "head": "L2H0"}, r"L0H0 … L1H3"),
        ({"tokens": TOKENS, "head": "L0H4"}, r"L0H0 … L1H3"),
        ({"tokens": TOKENS, "head": "0.4"}, "head"),
        ({"tokens": TOKENS, "top_heads": 0}, "top_heads"),
        ({"tokens": TOKENS, "prompt": "x"}, "not both"),
        ({"tokens": []}, "empty"),
        ({"tokens": [1, 31]}, "0 … 30"),
        ({"tokens": TOKENS, "prepend_bos": True}, "prepend_bos"),
        ({}, "prompt or tokens"),
        ({"prompt": "hello"}, "tokenizer"),
    ],
)
def test_bad_settings(settings: dict[str, Any], message: str, make_model: MakeModel) -> None:
    with pytest.raises(InputError, match=message):
        run_analysis("head-attribution", make_model(), **settings)


@pytest.mark.usefixtures("undrawn_figures")
def test_token_ids_by_the_command_line(
    make_model: MakeModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model without a tokenizer can be asked there too."""
    model = make_model()
    model.save(tmp_path / "m")
    with pytest.raises(SystemExit) as end:
        cli.main([
            "run", "head-attribution", "--model", str(tmp_path / "m"), "--set", f"tokens={TOKENS}",
            "--set", "target=7", "--set", "wrong=2", "--out", str(tmp_path / "out"), "--json",
        ])  # fmt: skip
    output = capsys.readouterr()
    assert end.value.code == 0, output.err
    logits = model(torch.tensor([TOKENS]))[0].detach().double().numpy()
    components = AnalysisResult.load(tmp_path / "out").tables["components"]
    assert _scaled(_sums(components), logits[:, 7] - logits[:, 2]) <= 1e-4


def test_a_number_that_is_text(third_party: ThirdParty) -> None:
    """With a tokenizer a target in quotes is text, whatever its characters."""
    model = load_model(third_party("stories260K"), device="cpu")
    result = run_analysis("head-attribution", model, prompt=PROMPT, target="a")
    logits = model(PROMPT)[0].detach().double().numpy()
    token = model.to_single_token("a")
    assert _scaled(_sums(result.tables["components"]), logits[:, token]) <= 1e-4


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision(dtype: str, make_model: MakeModel) -> None:
    result = run_analysis("head-attribution", make_model(dtype=dtype), tokens=TOKENS)
    assert result.passed, result.checks


def test_model_without_layers(make_model: MakeModel) -> None:
    with pytest.raises(InputError, match=r"head|layer"):
        run_analysis("head-attribution", make_model(n_layers=0), tokens=TOKENS)


def test_less_mean_explains_what_softmax_sees() -> None:
    """It equals the raw attribution of a model whose unembedding was centred."""
    model = load_model("zoo:induction", dtype="float64")
    raw = run_analysis("head-attribution", model, less_mean=True)
    centred = run_analysis(
        "head-attribution",
        model.process_weights(fold_ln=False, fold_value_biases=False),
        target="Z",
        prompt="k T 4 w Z m 9 b k T 4 w",
    )
    heads = [
        r.tables["at-position"].query("kind == 'head'").sort_values(["layer", "head"])
        for r in (raw, centred)
    ]
    np.testing.assert_allclose(heads[0]["attribution"], heads[1]["attribution"], atol=1e-10)
    assert raw.passed
    assert centred.provenance.weight_processing == ["center_unembed"]


def test_what_is_explained_is_told() -> None:
    model = load_model("zoo:induction", dtype="float64")
    result = run_analysis("head-attribution", model, target="#7", wrong="Z")
    (row,) = result.tables["explained"].to_dict("records")
    logits = model("k T 4 w Z m 9 b k T 4 w")[0, -1].detach()
    z = model.to_single_token("Z")
    assert (row["token_id"], row["wrong_id"], row["position"]) == (7, z, 12)
    assert abs(row["value"] - float(logits[7] - logits[z])) < 1e-10
    assert abs(row["sum_of_parts"] - row["value"]) < 1e-10
    leading = result.tables["leading"]["attribution"].sum()
    assert abs(leading - row["value"]) < 1e-10
    assert "Direct effects only" in result.caveat


def test_given_tokens_take_the_place_of_the_zoo_prompt() -> None:
    result = run_analysis("head-attribution", load_model("zoo:induction"), tokens=[0, 5, 9, 5])
    assert result.provenance.tokens == [[0, 5, 9, 5]]


@pytest.mark.parametrize("options", [{"wrong": "Z"}, {"target": -1}, {"target": "#64"}])
def test_targets_that_explain_nothing(options: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"differ|must lie in"):
        run_analysis("head-attribution", load_model("zoo:induction"), **options)
