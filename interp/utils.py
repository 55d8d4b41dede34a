"""Small helpers that scripts for TransformerLens import from its `utils`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from interp.devices.parsing import default_device
from interp.names import get_act_name
from interp.precision import wide
from interp.run.slicing import Slice

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

__all__ = [
    "Slice",
    "get_act_name",
    "get_device",
    "lm_accuracy",
    "lm_cross_entropy_loss",
    "test_prompt",
    "to_numpy",
]

get_device = default_device


def to_numpy(tensor: Shaped[Tensor, "..."] | np.ndarray | Sequence[Any] | float) -> np.ndarray:
    """A numpy array of a tensor (detached, on the CPU; half precision as fp32) or a number."""
    if not isinstance(tensor, Tensor):
        return np.asarray(tensor)
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def lm_cross_entropy_loss(
    logits: Float[Tensor, "batch pos d_vocab"],
    tokens: Int[Tensor, "batch pos"],
    attention_mask: Int[Tensor, "batch pos"] | None = None,
    per_token: bool = False,
) -> Float[Tensor, ""] | Float[Tensor, "batch pos-1"]:
    """Cross-entropy of each next token, in nats: the mean, or `[batch, pos - 1]`.

    Predictions from or of padding, where the mask is 0, count nothing (0 per token). Half precision
    is summed in fp32.
    """
    logits = wide(logits)
    losses = F.cross_entropy(logits[:, :-1].mT, tokens[:, 1:], reduction="none")
    if attention_mask is None:
        return losses if per_token else losses.mean()
    real = attention_mask.to(losses.device).bool()
    counted = real[:, :-1] & real[:, 1:]
    losses = losses * counted
    return losses if per_token else losses.sum() / counted.sum()


def lm_accuracy(
    logits: Float[Tensor, "batch pos d_vocab"],
    tokens: Int[Tensor, "batch pos"],
    per_token: bool = False,
) -> Float[Tensor, ""] | Bool[Tensor, "batch pos_less_one"]:
    """How often the likeliest next token is the next token: the share, or `[batch, pos - 1]`."""
    right = logits[:, :-1].argmax(-1) == tokens[:, 1:]
    return right if per_token else right.float().mean()


@torch.no_grad()
def test_prompt(
    prompt: str,
    answer: str,
    model: HookedTransformer,
    prepend_space_to_answer: bool = True,
    prepend_bos: bool | None = None,
    top_k: int = 10,
) -> list[int]:
    """Print how likely a model finds an answer, token by token; returns the tokens' ranks (from 0).

    Args:
        prompt: The text before the answer.
        answer: What should follow.
        model: The model, with its tokenizer.
        prepend_space_to_answer: Put a space between the two unless the answer begins with one.
        prepend_bos: None: the model's default.
        top_k: How many of the likeliest tokens to print.
    """
    if prepend_space_to_answer and not answer.startswith(" "):
        answer = " " + answer
    before = model.to_tokens(prompt, prepend_bos)
    tokens = model.to_tokens(prompt + answer, prepend_bos)
    probabilities = model(tokens)[0].softmax(-1)
    ranks = []
    for place in range(before.shape[1], tokens.shape[1]):
        token, here = int(tokens[0, place]), probabilities[place - 1]
        rank = int((here > here[token]).sum())
        ranks.append(rank)
        text = model.to_single_str_token(token)
        print(f"{text!r}: rank {rank}, probability {here[token]:.2%}")
        for value, other in zip(*here.topk(top_k), strict=True):
            print(f"    {value:.2%} {model.to_single_str_token(int(other))!r}")
    return ranks


test_prompt.__test__ = False  # type: ignore[attr-defined]  # pytest would take it for a test
