"""Tables that analyses share."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from analyses.prompts import patterns_table, predictions_table, prompt_tokens, token_texts
from interp import HookedTransformer, InputError, load_model


@pytest.fixture(scope="module")
def model() -> HookedTransformer:
    return load_model("zoo:induction", dtype="float64")


def test_tokens_of_a_prompt_or_as_given(model: HookedTransformer) -> None:
    assert prompt_tokens(model, "a b").tolist() == [[0, 1, 2]]
    assert prompt_tokens(model, "a b", prepend_bos=False).tolist() == [[1, 2]]
    assert prompt_tokens(model, "", [5, 6]).tolist() == [[5, 6]]
    for wrong in (("", None, None), ("a", [1], None), ("", [], None), ("", [1], True)):
        with pytest.raises(InputError):
            prompt_tokens(model, *wrong)


def test_predictions_are_the_softmax(model: HookedTransformer) -> None:
    logits = model("a b c")[0, -1].detach()
    table = predictions_table(model, logits, 5)
    assert table["rank"].tolist() == [1, 2, 3, 4, 5]
    expected = logits.softmax(-1).topk(5)
    assert table["token_id"].tolist() == expected.indices.tolist()
    assert table["token"].tolist() == token_texts(model, expected.indices)
    np.testing.assert_allclose(table["probability"], expected.values, rtol=1e-12)


def test_patterns_by_destination_and_source(model: HookedTransformer) -> None:
    tokens = prompt_tokens(model, "a b a")
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens, names_filter="blocks.*.attn.hook_pattern")
    table = patterns_table(cache, [(1, 2), (0, 0)], token_texts(model, tokens[0]))
    assert len(table) == 2 * 4 * 4
    cell = table.query("head == 'L1H2' and destination == 3 and source == 1").iloc[0]
    assert cell["attention"] == float(cache["pattern", 1][0, 2, 3, 1])
    assert (cell["destination_token"], cell["source_token"]) == ("a", "a")
    sums = table.groupby(["head", "destination"])["attention"].sum()
    np.testing.assert_allclose(sums, 1.0, atol=1e-12)
