"""What analyses share about prompts: tokens, their texts, and next-token predictions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import InputError

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer


def prompt_tokens(
    model: HookedTransformer,
    prompt: str,
    tokens: Sequence[int] | None = None,
    prepend_bos: bool | None = None,
) -> Int[Tensor, "1 pos"]:
    """The tokens of a prompt, or those given, on the model's device.

    Raises:
        InputError: if neither or both are given, or the model cannot read them.
    """
    if bool(prompt) == (tokens is not None):
        raise InputError("give either a prompt or tokens" + (", not both." if prompt else "."))
    if tokens is None:
        return model.tokenize(prompt, prepend_bos)[0]
    if not tokens:
        raise InputError("tokens must not be empty.")
    if prepend_bos is not None:
        raise InputError("prepend_bos has no meaning for tokens, which are used as they are.")
    return torch.tensor([list(tokens)], device=model.W_E.device)


def token_texts(model: HookedTransformer, tokens: Iterable[int] | Int[Tensor, "pos"]) -> list[str]:
    """Each token's text; its number where the model has no tokenizer."""
    ids = [int(t) for t in tokens]
    if model.tokenizer is None:
        return [str(t) for t in ids]
    return [model.to_single_str_token(t) for t in ids]


def predictions_table(
    model: HookedTransformer, logits: Float[Tensor, "d_vocab_out"], n: int = 10
) -> pd.DataFrame:
    """The n likeliest next tokens: rank, token, its id, probability and logit."""
    wide = logits.double()
    top = wide.topk(min(n, wide.shape[-1]))
    tokens = top.indices.tolist()
    return pd.DataFrame(
        {
            "rank": range(1, len(tokens) + 1),
            "token": token_texts(model, tokens),
            "token_id": tokens,
            "probability": wide.softmax(-1)[top.indices].cpu().numpy(),
            "logit": top.values.cpu().numpy(),
        }
    )
