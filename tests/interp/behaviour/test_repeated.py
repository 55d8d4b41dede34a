"""What repeated random tokens are made of."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp import HookedTransformer, InputError, load_model
from interp.behaviour import repeated_tokens


@settings(max_examples=30, deadline=None)
@given(batch=st.integers(1, 5), length=st.integers(2, 8), seed=st.integers(0, 99))
def test_a_stretch_comes_twice(
    make_model: Callable[..., HookedTransformer], batch: int, length: int, seed: int
) -> None:
    made = repeated_tokens(make_model(d_vocab=31), batch, length, seed)
    assert made.tokens.shape == (batch, 2 * length)
    assert torch.equal(made.tokens[:, :length], made.tokens[:, length:])
    assert made.distinct
    assert all(len(set(row[:length].tolist())) == length for row in made.tokens)
    assert made.unknown == range(1, length)
    assert made.known == range(length + 1, 2 * length)


def test_zoo_models_begin_and_end_as_their_texts_do() -> None:
    induction = load_model("zoo:induction", device="cpu")
    made = repeated_tokens(induction, 3)
    assert (made.length, made.start, made.tokens.shape) == (31, 1, (3, 63))
    assert bool((made.tokens[:, 0] == induction.tokenizer.bos_token_id).all())
    assert bool((made.tokens[:, 1:] != induction.tokenizer.bos_token_id).all())
    bare = repeated_tokens(induction, 3, prepend_bos=False)
    assert (bare.length, bare.start) == (32, 0)
    brackets = load_model("zoo:brackets", device="cpu")
    made = repeated_tokens(brackets, 3, 10)
    assert not made.distinct  # two brackets only
    texts = "".join("()"[i % 2] for i in range(20))
    assert made.tokens[0, 0] == brackets.tokenize(texts)[0][0, 0]
    translation = load_model("zoo:translation", device="cpu")
    read = repeated_tokens(translation, 3, 5, part="encoder")
    assert (read.start, read.tokens.shape) == (0, (3, 11))
    assert bool((read.tokens[:, -1] == translation.tokenizer.eos_token_id).all())
    written = repeated_tokens(translation, 3, 5)
    assert bool((written.tokens[:, 0] == translation.cfg.decoder_start_token_id).all())
    assert written.start == 1


def test_the_seed_says_it_all(make_model: Callable[..., HookedTransformer]) -> None:
    model = make_model(d_vocab=31)
    one, same, other = (repeated_tokens(model, 4, 6, seed).tokens for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_bad_input(make_model: Callable[..., HookedTransformer]) -> None:
    model = make_model(n_ctx=16)
    for length in (1, 9, 2.0):
        with pytest.raises(InputError, match="length must be"):
            repeated_tokens(model, 2, length)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="batch must be"):
        repeated_tokens(model, 0)
    with pytest.raises(InputError, match="two stretches"):
        repeated_tokens(make_model(n_ctx=3), 2)
    with pytest.raises(InputError, match="needs a tokenizer"):
        repeated_tokens(model, 2, prepend_bos=True)
