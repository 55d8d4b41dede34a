"""In-context score and losses against sums by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from interp import HookedTransformer, InputError, load_model
from interp.behaviour import (
    in_context_score,
    mean_loss,
    predicts_next_tokens,
    repeated_tokens,
    token_losses,
)


def test_losses_stand_at_their_tokens(
    make_model: Callable[..., HookedTransformer], assert_close: Any
) -> None:
    model = make_model(dtype="float64")
    tokens = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])
    losses = token_losses(model, tokens)
    assert losses.shape == (2, 4)
    assert losses[:, 0].isnan().all()
    log_probs = model(tokens).detach().log_softmax(-1)
    for row in range(2):
        for i in range(1, 4):
            expected = -log_probs[row, i - 1, tokens[row, i]]
            assert_close(losses[row, i], expected)


def test_means_and_errors_by_hand() -> None:
    nan = float("nan")
    losses = torch.tensor([[nan, 4.0, 2.0, 1.0], [nan, 2.0, 4.0, 3.0]])
    found = mean_loss(losses, range(1, 3))
    assert (found.mean, found.stderr, found.n_sequences) == (3.0, 0.0, 2)
    score = in_context_score(losses, 1, 3)  # -3 and 1
    assert score.mean == pytest.approx(-1.0)
    assert score.stderr == pytest.approx(math.sqrt(8) / math.sqrt(2))
    assert in_context_score(losses, range(1, 3), 3).mean == pytest.approx(-1.0)
    assert math.isnan(mean_loss(losses[:1], 2).stderr)
    assert mean_loss(losses, 3).mean == 2.0


def test_the_zoo_learned_to_use_what_it_read() -> None:
    model = load_model("zoo:induction", device="cpu")
    repeated = repeated_tokens(model, 8)
    losses = token_losses(model, repeated.tokens)
    score = in_context_score(losses, repeated.unknown, repeated.known)
    assert score.mean + 5 * score.stderr < -1
    assert mean_loss(losses, repeated.known).mean < 0.01


def test_who_counts_predicts_no_next_tokens() -> None:
    counting = load_model("zoo:count-none", device="cpu")
    assert not predicts_next_tokens(counting)
    with pytest.raises(InputError, match="must predict next tokens"):
        token_losses(counting, "3 q f B")
    assert predicts_next_tokens(load_model("zoo:copy-none", device="cpu"))


def test_bad_input(make_model: Callable[..., HookedTransformer]) -> None:
    losses = torch.zeros(2, 5)
    for at in (0, 5, range(0, 2), range(3, 3), -1):
        with pytest.raises(InputError, match=r"at must name tokens in 1 … 4"):
            mean_loss(losses, at)
        with pytest.raises(InputError, match="late must name"):
            in_context_score(losses, 1, at)
        with pytest.raises(InputError, match="early must name"):
            in_context_score(losses, at, 1)
    for fields in ({"attention_dir": "bidirectional"}, {"d_vocab_out": 7}):
        with pytest.raises(InputError, match="predict next tokens"):
            token_losses(make_model(**fields), torch.tensor([[1, 2, 3]]))
    model = load_model("zoo:induction", device="cpu")
    with pytest.raises(InputError, match="padded"):
        token_losses(model, ["a b c", "a b"])
    assert token_losses(model, ["a b c", "a b d"]).shape == (2, 4)
    with pytest.raises(InputError, match="at least two tokens"):
        token_losses(model, torch.tensor([[3], [4]]))
    # Tokens whose padding `forward` finds by itself, and leaves out of losses as zeros.
    model.tokenizer.padding_side = "left"
    tokens, _ = model.tokenize(["a b c", "a b"])
    with pytest.raises(InputError, match="padded"):
        token_losses(model, tokens)
