"""Attention rollout: attention patterns of all layers multiplied into one.

It takes a position of a layer to hold a mixture of what it attended to and of itself, and follows
the mixtures down to the tokens. What values hold, what MLPs do and what heads cancel is not in it.

Source: Abnar & Zuidema 2020, Quantifying Attention Flow in Transformers, §3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import InputError, require, require_one_of
from interp.precision import wide

if TYPE_CHECKING:
    from interp.cache import ActivationCache

Heads = Literal["mean", "max", "min"]
StackName = Literal["main", "encoder"]


@torch.no_grad()
def attention_rollout(
    cache: ActivationCache,
    heads: Heads = "mean",
    residual: float = 0.5,
    stack: StackName = "main",
) -> Float[Tensor, "layer batch pos key_pos"]:
    """How much of each token is in each position, after each layer.

    `rollout(mixing_matrices(…))`, of the self-attention of one stack.

    Args:
        cache: Holding `pattern` of every layer of the stack, with its batch axis.
        heads: How a layer's heads are made one: their mean, or the largest or smallest of them,
            scaled so that a destination's sum to 1.
        residual: The share of itself that a position keeps in each layer; the paper's is 0.5.
        stack: `main`: the stack that logits come from; `encoder`: an encoder–decoder's encoder.

    Returns:
        `[layer, batch, pos, key_pos]`, in at least fp32: after the last layer it is
        `rollout[-1]`. A destination's entries sum to 1; to less where attention sinks
        (`cfg.attn_sinks`) took a part, with `min` where no source has a part of every head, and
        at padding.

    Raises:
        InputError: for a share outside 0 … 1, a stack that is not there or has no blocks, or a
            cache of other than all positions or without its batch axis.
        KeyError: if the cache lacks a pattern.
    """
    require(cache.has_batch_dim, "attention_rollout needs a cache with its batch axis")
    require_one_of("stack", stack, ("main", "encoder"))
    cfg = cache.model.cfg
    n_layers, prefix = cfg.n_layers, ""
    if stack == "encoder":
        if cfg.architecture != "encoder-decoder":
            raise InputError(
                f"stack='encoder' needs an encoder-decoder, not a(n) {cfg.architecture}."
            )
        n_layers, prefix = cfg.n_encoder_layers or 0, "encoder."
    require(n_layers > 0, "a rollout needs a stack with blocks. This one has none")
    patterns = [cache[f"{prefix}pattern", layer] for layer in range(n_layers)]
    return rollout(mixing_matrices(patterns, heads, residual))


def mixing_matrices(
    patterns: list[Float[Tensor, "batch head pos key_pos"]],
    heads: Heads = "mean",
    residual: float = 0.5,
) -> Float[Tensor, "layer batch pos key_pos"]:
    """residual · I + (1 − residual) · A for each layer, A its heads made one.

    Args:
        patterns: Weights of each layer, such as patterns, or value-weighted attention with rows
            that sum to 1.
        heads, residual: As in `attention_rollout`.

    Raises:
        InputError: for another way to make heads one, a share outside 0 … 1, or weights of other
            than all positions.
    """
    require_one_of("heads", heads, ("mean", "max", "min"))
    fits = isinstance(residual, int | float) and 0.0 <= residual <= 1.0
    require(fits, f"residual must lie in 0 … 1. Received {residual!r}")
    shapes = {tuple(p.shape) for p in patterns}
    square = len(shapes) == 1 and all(len(s) == 4 and s[2] == s[3] for s in shapes)
    require(
        square,
        "a rollout needs [batch, head, pos, key_pos] of every layer, with as many destinations as "
        f"sources. Received {sorted(shapes)}",
    )
    found = []
    for pattern in patterns:
        seen = wide(pattern)
        one = seen.mean(1) if heads == "mean" else seen.amax(1) if heads == "max" else seen.amin(1)
        if heads != "mean":
            # Where every head looks elsewhere the smallest are all 0, and stay so.
            total = one.sum(-1, keepdim=True)
            one = one / total.masked_fill(total == 0, 1.0)
        found.append(one)
    mixing = torch.stack(found) * (1.0 - residual)
    mixing.diagonal(dim1=-2, dim2=-1).add_(residual)
    return mixing


def rollout(
    mixing: Float[Tensor, "layer batch pos key_pos"],
) -> Float[Tensor, "layer batch pos key_pos"]:
    """The products M_l … M_1 M_0, for every l."""
    products = [mixing[0]]
    for matrix in mixing[1:]:
        products.append(matrix @ products[-1])
    return torch.stack(products)
