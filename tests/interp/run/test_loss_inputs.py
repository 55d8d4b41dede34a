"""What is no logits, tokens or mask is refused before torch meets it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from interp import HookedTransformer
from interp.errors import InputError

LOGITS = torch.randn(2, 4, 31, generator=torch.Generator().manual_seed(0))
TOKENS = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])


@pytest.fixture
def model(make_model: Callable[..., HookedTransformer]) -> HookedTransformer:
    return make_model()


@pytest.mark.parametrize(
    "tokens",
    [
        None, TOKENS.numpy(), TOKENS.tolist(), TOKENS.float(), TOKENS.bool(), TOKENS[0], TOKENS[:0],
        TOKENS[:, :3], TOKENS[0, 0], TOKENS + 30, -TOKENS,
    ],
    ids=str,
)  # fmt: skip
def test_tokens(tokens: Any, model: HookedTransformer) -> None:
    with pytest.raises(InputError, match="Received"):
        model.loss_fn(LOGITS, tokens)


@pytest.mark.parametrize(
    "logits", [None, LOGITS.numpy(), LOGITS.long(), LOGITS[0], LOGITS[:1], LOGITS.sum()]
)
def test_logits(logits: Any, model: HookedTransformer) -> None:
    with pytest.raises(InputError, match="Received"):
        model.loss_fn(logits, TOKENS)


@pytest.mark.parametrize("mask", [[[1] * 4] * 2, TOKENS.numpy(), TOKENS[0], TOKENS[:, :3], "1"])
def test_mask(mask: Any, model: HookedTransformer) -> None:
    for call in (model.loss_fn, lambda _, tokens, mask: model(tokens, attention_mask=mask)):
        with pytest.raises(InputError, match=r"attention_mask must be.*Received"):
            call(LOGITS, TOKENS, mask)


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8])
def test_narrow_tokens_give_the_same_loss(dtype: torch.dtype, model: HookedTransformer) -> None:
    assert torch.equal(model.loss_fn(LOGITS, TOKENS.to(dtype)), model.loss_fn(LOGITS, TOKENS))
    picked = LOGITS[:, :-1].log_softmax(-1).gather(-1, TOKENS[:, 1:, None])
    assert torch.allclose(model.loss_fn(LOGITS, TOKENS), -picked.mean(), atol=1e-6)


def test_losses_of_each_row_apart(model: HookedTransformer) -> None:
    """Nobody looks at the tokens of a call that is mapped over rows."""
    rows = torch.vmap(lambda logits, tokens: model.loss_fn(logits[None], tokens[None]))
    assert torch.allclose(rows(LOGITS, TOKENS).mean(), model.loss_fn(LOGITS, TOKENS))


def test_a_residual_stream_in_another_dtype(model: HookedTransformer) -> None:
    """Weights may be lent to a model in a dtype that is not its own."""
    stream = LOGITS[..., :24]
    lent = {name: weight.bfloat16() for name, weight in model.named_parameters()}
    given = (stream.bfloat16(),), {"start_at_layer": 1}
    assert torch.func.functional_call(model, lent, *given).dtype == torch.bfloat16
    with pytest.raises(InputError, match=r"dtype, torch\.float32"):
        model(stream.bfloat16(), start_at_layer=1)
