from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from interp import HookedTransformer, InputError, zoo
from interp.run.as_tensors import repeated, run_tensors
from tests.interp.kinds import KINDS, given_to, with_padding

MakeModel = Callable[..., HookedTransformer]
# One stack and two, segments, a head that reads one position.
READ = ("gpt2", "bert", "next-sentence", "t5", "translator")


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("padded", [False, True])
def test_the_same_run_again(
    name: str, padded: bool, make_model: MakeModel, assert_close: Callable[..., None]
) -> None:
    """And several times over in one batch."""
    model = make_model(dtype="float64", **KINDS[name])
    given = given_to(model)
    if padded:
        given = with_padding(given, [0, 2, 1], left=False)
    with torch.no_grad():
        expected = model(**given)
        assert_close(model(**run_tensors(model, **given)), expected)
        again = model(**repeated(run_tensors(model, **given), 2))
    assert_close(again, torch.cat([expected, expected]))


@pytest.mark.parametrize("side", ["left", "right"])
def test_texts(side: str, assert_close: Callable[..., None]) -> None:
    """Texts of several lengths, at their real tokens, wherever the model pads them."""
    model = zoo.load("zoo:induction", device="cpu", dtype="float64")
    texts = ["k T 4 w k T", "k T"]
    with torch.no_grad():
        given = run_tensors(model, texts, padding_side=side, prepend_bos=False)
        real = given["attention_mask"].bool()
        expected = model(texts, padding_side=side, prepend_bos=False)
        assert_close(model(**given)[real], expected[real])
    assert real.sum(1).tolist() == [6, 2]
    assert run_tensors(model, "k T")["attention_mask"].tolist() == [[1, 1, 1]]


def test_both_texts_of_a_translator(assert_close: Callable[..., None]) -> None:
    model = zoo.load("zoo:translation", device="cpu", dtype="float64")
    texts: dict[str, Any] = {"input": ["the dog sleeps", "she runs"], "decoder_input": ["O", "Ela"]}
    with torch.no_grad():
        assert_close(model(**run_tensors(model, **texts)), model(**texts))


def test_bad_input(make_model: MakeModel) -> None:
    model = make_model()
    tokens = given_to(model)["input"]
    with pytest.raises(InputError, match="past_kv_cache"):
        run_tensors(model, tokens, past_kv_cache=None)
    with pytest.raises(InputError, match="attention_mask must be"):
        run_tensors(model, tokens, attention_mask=tokens[:, :2])
