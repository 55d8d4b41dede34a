"""modular-addition: the numbers that the zoo model must show, and models of other kinds."""

from __future__ import annotations

import math
from collections.abc import Callable

import pandas as pd
import pytest

from analyses import AnalysisResult, run_analysis
from interp import HookedTransformer, InputError, load_model, zoo
from interp.modular_addition import addition_table, answer_loss
from interp.zoo.recipes.modular_addition import answer_loss as recipe_loss
from interp.zoo.recipes.modular_addition import split

MakeModel = Callable[..., HookedTransformer]
NAME = "zoo:modular-addition"


@pytest.fixture(scope="module")
def result() -> AnalysisResult:
    return run_analysis("modular-addition", load_model(NAME, device="cpu"), quick=True)


def values(result: AnalysisResult) -> "pd.Series[float]":
    return result.tables["summary"].set_index("quantity")["value"]


def test_the_zoo_model_adds_by_key_frequencies(result: AnalysisResult) -> None:
    assert result.passed, result.checks
    found = values(result)
    assert found["variance explained by key waves of a + b"] >= 0.95
    assert found["restricted loss"] <= 1.1 * found["full loss"]
    assert found["excluded loss"] > found["chance"] == pytest.approx(math.log(113))
    assert found["excluded loss on all pairs"] > found["chance"]
    assert found["accuracy"] == 1.0


def test_losses_are_those_of_the_training_pairs(result: AnalysisResult) -> None:
    model = load_model(NAME, device="cpu")
    train_rows, test_rows = split(0)
    found = values(result)
    # Losses of 1e-7 in fp32 logits: what differs is the rounding of two ways to one logit.
    assert found["train loss"] == pytest.approx(recipe_loss(model, train_rows).item(), rel=1e-2)
    assert found["test loss"] == pytest.approx(recipe_loss(model, test_rows).item(), rel=1e-2)


def test_tables_agree_with_each_other(result: AnalysisResult) -> None:
    frequencies = result.tables["frequencies"]
    keys = frequencies[frequencies["kind"] == "key"]
    found = values(result)
    assert len(keys) == found["key frequencies"]
    assert keys["rule"].sum() == pytest.approx(found["variance explained by the rule"])
    assert keys["sum_waves"].sum() == pytest.approx(
        found["variance explained by key waves of a + b"]
    )
    assert frequencies["embedding"].sum() == pytest.approx(1.0)
    clusters = result.tables["neuron-clusters"].set_index("frequency")["neurons"]
    assert clusters.sum() == frequencies["neurons"].sum() == 256
    assert result.tables["logit-power"]["share"].sum() == pytest.approx(1.0)
    assert (
        result.tables["heads"][["to_a", "to_b", "to_equals"]].sum(axis=1) - 1
    ).abs().max() < 1e-5


def test_grokking_over_training(result: AnalysisResult) -> None:
    """By heart first, the rule later: the restricted loss falls while the test loss is high."""
    table = result.tables["snapshots"].set_index("step")
    assert list(table.index) == [0, 5000, 7600, 12000]
    assert table.loc[5000, "train_loss"] < 1e-5
    assert table.loc[5000, "test_loss"] > math.log(113)
    assert table.loc[5000, "excluded_loss"] < 1.0  # known by heart
    assert table.loc[5000, "restricted_loss"] < 1.0
    assert table.loc[12000, "excluded_loss"] > math.log(113)
    assert table.loc[0, "own_key_frequencies"] == "none"
    model = zoo.load(NAME, device="cpu", checkpoint=5000)
    logits = addition_table(model).logits
    assert table.loc[5000, "loss"] == pytest.approx(answer_loss(logits))
    log = result.tables["losses"]
    train = log[(log["measure"] == "train") & (log["step"] == 5000)]["loss"].item()
    assert train == pytest.approx(table.loc[5000, "train_loss"], rel=0.05)


@pytest.mark.parametrize("fields", [{}, {"attn_only": True, "act_fn": None}])
def test_a_model_that_does_not_add(make_model: MakeModel, fields: dict[str, object]) -> None:
    model = make_model(n_ctx=3, d_vocab=12, d_vocab_out=11, **fields)
    result = run_analysis("modular-addition", model, min_share=0.3)
    assert result.passed, result.checks
    found = values(result)
    assert found["key frequencies"] == 0
    assert found["variance explained by the rule"] == 0
    assert "train loss" not in found
    assert "losses" not in result.figures
    assert ("neurons" in result.tables) == (not fields)


def test_models_that_do_not_fit() -> None:
    with pytest.raises(InputError, match="does not fit 'zoo:induction': it reads 64 tokens"):
        run_analysis("modular-addition", load_model("zoo:induction", device="cpu"))


def test_without_training() -> None:
    model = load_model(NAME, device="cpu")
    result = run_analysis("modular-addition", model, over_training=False)
    assert "losses" not in result.tables
    assert "train loss" in values(result)
