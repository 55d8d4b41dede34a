"""Tables that analyses share."""

from __future__ import annotations

import numpy as np
import pytest

from analyses.inputs.prompts import predictions_table, prompt_tokens, token_texts
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
