"""The analysis `ablations` against plain hooks, and on models whose mechanism is known."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

from analyses import run_analysis
from analyses.ablation import setup as ablation_setup
from analyses.ablation.setup import AblationsParams
from analyses.results.result import AnalysisResult
from interp import HookedTransformer, InputError, load_model
from interp.zoo import known

CLEAN = [[3, 7, 1, 9, 4], [2, 8, 5, 9, 6], [1, 1, 2, 3, 5]]
CORRUPTED = [[3, 6, 1, 9, 4], [2, 8, 8, 9, 6], [4, 1, 2, 3, 5]]
PAIRS: dict[str, Any] = {
    "clean_tokens": CLEAN, "corrupted_tokens": CORRUPTED, "right": ["#4", "#5", "#6"],
    "wrong": "#7", "draws": 2, "leading": 3, "steps": 2, "candidates": 3,
}  # fmt: skip


@pytest.fixture(scope="module")
def model(make_model: Callable[..., HookedTransformer]) -> HookedTransformer:
    return make_model(dtype="float64")


def difference(logits: Tensor) -> Tensor:
    rows = torch.arange(3)
    return logits[rows, -1, torch.tensor([4, 5, 6])] - logits[:, -1, 7]


def effect_of(table: pd.DataFrame, label: str) -> pd.Series:
    (row,) = (row for _, row in table.iterrows() if row["component"] == label)
    return row


@pytest.mark.parametrize("ablation", ["zero", "mean", "resample", "noise"])
@pytest.mark.parametrize("where", ["all", "position"])
def test_every_kind_runs_and_names_itself(
    model: HookedTransformer, ablation: str, where: str
) -> None:
    result = run_analysis("ablations", model, **PAIRS, ablation=ablation, where=where)
    assert result.passed and len(result.checks) == 2
    for name, table in result.tables.items():
        if name == "pairs":
            continue
        assert table["ablation"].str.startswith(ablation).all()
        reference = "none" if ablation == "zero" else "3 corrupted prompts"
        assert (table["reference"] == reference).all()
        if name != "by-position":
            assert (table["positions"] == ("all" if where == "all" else "4")).all()
    effects = result.tables["effects"]
    labels = [f"L{i}{part}" for i in range(2) for part in ("H0", "H1", "H2", "H3", "MLP", "")]
    assert effects["component"].tolist() == labels
    assert (effects["kl"] > 0).all()
    assert AnalysisResult.__name__ in repr(result)


@pytest.mark.parametrize("where", ["all", "position"])
def test_effects_are_those_of_plain_hooks(model: HookedTransformer, where: str) -> None:
    """Mean ablation, restated: every column of a head's, an MLP's and a layer's row."""
    clean, at = torch.tensor(CLEAN), slice(None) if where == "all" else slice(4, 5)
    names = ["blocks.1.attn.hook_z", "blocks.0.hook_mlp_out", "blocks.0.hook_attn_out"]
    with torch.no_grad():
        _, cache = model.run_with_cache(torch.tensor(CORRUPTED), names_filter=names)
        base = model(clean)

    def put(name: str, head: int | None = None) -> tuple[str, Callable[..., Tensor]]:
        def hook(x: Tensor, hook: Any) -> Tensor:
            mean = sum(cache[name][i] for i in range(3)) / 3
            if head is None:
                x[:, at] = mean[at]
            else:
                x[:, at, head] = mean[at, head]
            return x

        return name, hook

    effects = run_analysis("ablations", model, **PAIRS, where=where).tables["effects"]
    for label, hooks in {
        "L1H2": [put(names[0], 2)],
        "L0MLP": [put(names[1])],
        "L0": [put(names[1]), put(names[2])],
    }.items():
        with torch.no_grad():
            logits = model.run_with_hooks(clean, fwd_hooks=hooks)
        row = effect_of(effects, label)
        change = difference(logits) - difference(base)
        p, q = base[:, -1].log_softmax(-1), logits[:, -1].log_softmax(-1)
        right = torch.tensor([4, 5, 6])[:, None]
        loss = -logits[:, :-1].log_softmax(-1).gather(-1, clean[:, 1:, None]).mean()
        expected = {
            "logit_diff": difference(logits).mean(),
            "logit_diff_effect": change.mean(),
            "logit_diff_error": change.std() / 3**0.5,
            "probability": q.exp().gather(1, right).mean(),
            "probability_effect": (q.exp() - p.exp()).gather(1, right).mean(),
            "kl": (p.exp() * (p - q)).sum(-1).mean(),
            "loss": loss,
        }
        for column, value in expected.items():
            assert row[column] == pytest.approx(float(value), abs=1e-10), (label, column)


def test_sets_and_orders(model: HookedTransformer) -> None:
    given = {**PAIRS, "steps": 3, "candidates": 8}
    sets = ["L0H1+L1MLP", "L0 + L1H0 + L1H1"]
    result = run_analysis("ablations", model, **given, ablation="zero", sets=sets)

    def without(*labels: str) -> float:
        """Of zeros, by hooks of its own."""
        hooks: list[Any] = []
        for label in labels:
            block = f"blocks.{label[1]}."
            if "H" in label:
                hooks.append((f"{block}attn.hook_z", lambda x, hook, h=int(label[3]): _zero(x, h)))
            if label[2:] in ("", "MLP"):
                hooks.append((f"{block}hook_mlp_out", lambda x, hook: torch.zeros_like(x)))
            if label[2:] == "":
                hooks.append((f"{block}hook_attn_out", lambda x, hook: torch.zeros_like(x)))
        with torch.no_grad():
            return float(
                difference(model.run_with_hooks(torch.tensor(CLEAN), fwd_hooks=hooks)).mean()
            )

    base = without()
    for text, (_, row) in zip(sets, result.tables["sets"].iterrows(), strict=True):
        labels = text.replace(" ", "").split("+")
        single = [without(label) - base for label in labels]
        assert row["set"] == "+".join(labels) and row["size"] == len(labels)
        assert row["joint_effect"] == pytest.approx(without(*labels) - base, abs=1e-10)
        assert row["sum_of_singles"] == pytest.approx(sum(single), abs=1e-10)
        assert row["interaction"] == pytest.approx(without(*labels) - base - sum(single), abs=1e-10)
        assert row["largest_single"] == pytest.approx(max(single, key=abs), abs=1e-10)
    # Orders: by single effects, and always what hurts most.
    table = result.tables["cumulative"]
    every = [f"L{i}{part}" for i in range(2) for part in ("H0", "H1", "H2", "H3", "MLP")]
    ranked = sorted(every, key=without)
    single = table[table["order"] == "single effects"]
    assert single["added"].tolist() == ["", *ranked[:3]]
    for step in range(4):
        value = single["logit_diff"].iloc[step]
        assert value == pytest.approx(without(*ranked[:step]), abs=1e-10)
    greedy = table[table["order"] == "greedy"]
    out: list[str] = []
    for step in range(1, 4):
        left = [label for label in ranked[:8] if label not in out]
        out.append(min(left, key=lambda label: without(*out, label)))
        assert greedy["added"].iloc[step] == out[-1]
        assert greedy["logit_diff"].iloc[step] == pytest.approx(without(*out), abs=1e-10)


def _zero(x: Tensor, head: int) -> Tensor:
    x[:, :, head] = 0.0
    return x


def test_draws_are_averaged(model: HookedTransformer) -> None:
    """Two draws give the mean of what each gives: single components, sets, and positions."""
    for ablation in ("resample", "noise"):
        given = {**PAIRS, "ablation": ablation, "components": ["head", "layer"], "steps": 1,
                 "sets": ["L0H0+L1H1"], "leading": 8}  # fmt: skip
        both, *single = (
            run_analysis("ablations", model, **{**given, "draws": draws, "seed": seed}).tables
            for draws, seed in ((2, 0), (1, 0), (1, 1))
        )
        for name, key, column in (
            ("effects", ["component"], "logit_diff"),
            ("sets", ["set"], "logit_diff"),
            ("by-position", ["head", "position"], "effect"),
        ):
            found, one, other = (
                tables[name].set_index(key)[column].sort_index() for tables in (both, *single)
            )
            mean = (one + other) / 2
            assert found.to_numpy() == pytest.approx(mean.to_numpy(), abs=1e-10), name
            if ablation == "noise":
                assert (one != other).any() and (name != "effects" or (one != other).all())


def test_without_corrupted_prompts(model: HookedTransformer) -> None:
    given = {"clean_tokens": CLEAN, "n_random": 5, "steps": 1, "leading": 2}
    result = run_analysis("ablations", model, **given)
    runs = result.tables["runs"].iloc[0]
    assert result.passed and runs["reference"] == "5 prompts of random tokens"
    with torch.no_grad():
        top = model(torch.tensor(CLEAN))[:, -1].topk(2).values
    assert runs["logit_diff_before"] == pytest.approx(
        float((top[:, 0] - top[:, 1]).mean()), abs=1e-9
    )
    right = run_analysis("ablations", model, **given, right=["#9", "#8", "#7"])
    assert right.tables["pairs"]["right"].tolist() == ["“9”", "“8”", "“7”"]
    clean = run_analysis("ablations", model, **given, reference="clean", pooled=True)
    assert clean.tables["runs"].iloc[0]["reference"] == "3 clean prompts"
    assert "pooled" in clean.tables["runs"].iloc[0]["ablation"]


def test_one_reference_prompt_is_drawn_once(model: HookedTransformer) -> None:
    one = {
        "clean_tokens": CLEAN[:1],
        "corrupted_tokens": CORRUPTED[:1],
        "draws": 3,
        "steps": 1,
        "right": "#4",
        "wrong": "#7",
    }
    drawn, mean = (
        run_analysis("ablations", model, **one, ablation=ablation).tables["effects"]
        for ablation in ("resample", "mean")
    )
    assert (drawn["ablation"] == "resample, 1 draw").all()
    assert (drawn["reference"] == "1 corrupted prompt").all()
    assert drawn["logit_diff"].tolist() == pytest.approx(mean["logit_diff"].tolist(), abs=1e-10)


def test_the_first_token_of_random_prompts(make_model: Callable[..., HookedTransformer]) -> None:
    model = make_model(dtype="float64", default_prepend_bos=True)
    for rows, kept in (
        ([[1, 2, 3], [1, 5, 6]], {1}),
        ([[1, 2, 3], [4, 5, 6]], None),
        ([[1, 2, 3]], None),
    ):
        params = AblationsParams(clean_tokens=rows, reference="random", n_random=16)
        pairs, has_corrupted = ablation_setup._pairs(model, params)
        tokens, _ = ablation_setup._reference(model, params, pairs, has_corrupted)
        first = {row[0] for row in tokens}
        assert len(first) > 1 if kept is None else first == kept


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ({"pooled": True, "ablation": "zero"}, "pooled belongs to ablation='mean'"),
        ({"sets": ["L0H1"]}, "two or more components"),
        ({"sets": "L0H1+L0H9"}, "sets are of L0H0.*Received 'L0H9'"),
        ({"sets": ["L0H1+L0H1"]}, "two or more components"),
        ({"sets": ["L0+L0H1"]}, "a layer and a part of it.*Received 'L0.L0H1'"),
        ({"components": []}, "components"),
        (
            {
                "clean_tokens": CLEAN[0],
                "reference": "clean",
                "right": "#4",
                "corrupted_tokens": None,
            },
            "replaced by itself. Received 1 clean prompt",
        ),
        (
            {"clean_tokens": CLEAN[:1] * 3, "reference": "clean", "ablation": "resample"},
            "replaced by itself. Received 3 clean prompts",
        ),
        ({"noise": 0}, "noise"),
    ],
)
def test_refusals(model: HookedTransformer, given: dict[str, Any], rule: str) -> None:
    with pytest.raises(InputError, match=rule):
        run_analysis("ablations", model, **{**PAIRS, **given})


@pytest.mark.parametrize(
    "fields",
    [
        {"n_key_value_heads": 2, "positional_embedding_type": "rotary", "norm_placement": "post"},
        {"parallel_attn_mlp": True, "n_layers": 1},
        {"architecture": "encoder", "head": "classification", "d_vocab_out": 11},
        {"architecture": "encoder", "head": "mlm"},
    ],
)
def test_kinds_of_models(
    make_model: Callable[..., HookedTransformer], fields: dict[str, Any]
) -> None:
    model = make_model(**fields)
    result = run_analysis("ablations", model, **{**PAIRS, "steps": 1, "leading": 2})
    assert result.passed
    decodes = model.cfg.architecture == "decoder"
    assert ("loss" in result.tables["effects"]) == decodes


def test_models_without_mlps_and_parts(make_model: Callable[..., HookedTransformer]) -> None:
    model = make_model(attn_only=True, act_fn=None)
    assert run_analysis("ablations", model, **PAIRS).passed
    layers = run_analysis("ablations", model, **PAIRS, components=["layer"], ablation="noise")
    assert set(layers.tables["effects"]["kind"]) == {"layer"} and "sets" not in layers.tables
    with pytest.raises(InputError, match="must be something the model has"):
        run_analysis("ablations", model, **PAIRS, components=["mlp"])


def test_a_backup_shows_in_the_sets_alone() -> None:
    truth = known.name_mover()
    result = run_analysis(
        "ablations",
        truth.model,
        clean_tokens=truth.clean.tolist(),
        right=[f"#{i}" for i in truth.right.tolist()],
        wrong=[f"#{i}" for i in truth.wrong.tolist()],
        position=truth.position,
        ablation="zero",
        components=["head"],
        sets=["+".join(pair) for pair in itertools.combinations(truth.heads, 2)],
    )
    span = float(truth.span)
    effects = result.tables["effects"].set_index("component")["logit_diff_effect"] / span
    found = {label for label, effect in effects.items() if abs(effect) > truth.threshold}
    assert found == truth.expected["ablation"] and "L2H0" not in found
    sets = result.tables["sets"].set_index("set")
    assert sets.loc["L2H0+L3H0", "joint_effect"] / span < -0.4
    assert sets.loc["L2H0+L3H0", "interaction"] / span < -0.4
    assert abs(sets.loc["L2H0+L3H1", "joint_effect"]) / span <= truth.threshold


def test_on_the_zoo() -> None:
    """Others of the zoo are in `test_every_analysis`."""
    result = run_analysis("ablations", load_model("zoo:induction", device="cpu"), quick=True)
    assert result.passed
    effects = result.tables["effects"].set_index("component")["logit_diff_effect"]
    heads = effects[[f"L{i}H{h}" for i in range(2) for h in range(4)]]
    assert heads.idxmin() == "L0H1"  # the previous-token head, which nothing backs up
    by_position = result.tables["by-position"]
    first = by_position[by_position["head"] == "L0H1"]
    assert first["effect"].idxmin() == 3  # where it reads what the last token was followed by
