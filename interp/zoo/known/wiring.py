"""Writing weights by hand: named one-hot subspaces of the residual stream, and models of zeros."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.config import HookedTransformerConfig
from interp.devices.parsing import parse_dtype
from interp.errors import require
from interp.transformer import HookedTransformer

SATURATED = 40.0
"""A score by which a key wins all attention in fp64: exp(-40) is 4e-18, half of a rounding step."""


class Stream:
    """The residual stream as subspaces, one after the other, each with its own coordinates.

    Args:
        widths: How many coordinates each subspace has.

    Attributes:
        d_model: How many there are in all.
    """

    def __init__(self, **widths: int) -> None:
        ends = list(itertools.accumulate(widths.values()))
        starts = [0, *ends[:-1]]
        self._slices = {
            name: slice(start, end) for name, start, end in zip(widths, starts, ends, strict=True)
        }
        self.d_model = ends[-1]

    def __getitem__(self, name: str) -> slice:
        return self._slices[name]


def attention(model: HookedTransformer, layer: int) -> Any:
    """The attention of a layer, with its weights `W_Q` `[head, d_model, d_head]` and so on."""
    block: Any = model.blocks[layer]
    return block.attn


def mlp(model: HookedTransformer, layer: int) -> Any:
    """The MLP of a layer."""
    block: Any = model.blocks[layer]
    return block.mlp


def blank_model(
    name: str,
    stream: Stream,
    n_layers: int,
    n_heads: int,
    d_head: int,
    n_ctx: int,
    d_vocab: int,
    dtype: torch.dtype | str,
    device: torch.device | str | None,
    **fields: Any,
) -> HookedTransformer:
    """A model whose weights are all zero: no norms, scores that are not scaled.

    Its name is `known:` and this name.
    Token t is coordinate t of the subspace `token`, and position p coordinate p of `position`,
    where the stream has one. Logits are left to the caller.
    """
    positions = "position" in stream._slices
    cfg = HookedTransformerConfig(
        model_name=f"known:{name}",
        n_layers=n_layers,
        d_model=stream.d_model,
        n_ctx=n_ctx,
        n_heads=n_heads,
        d_head=d_head,
        d_vocab=d_vocab,
        normalization_type=None,
        positional_embedding_type="standard" if positions else "none",
        use_attn_scale=False,
        default_prepend_bos=False,
        dtype=parse_dtype(dtype),
        device=device,
        **{"attn_only": True, **fields},
    )
    model = HookedTransformer.uninitialised(cfg)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    wire(model.embed.W_E, slice(None), stream["token"])
    if positions:
        added: Any = model.pos_embed
        wire(added.W_pos, slice(None), stream["position"])
    return model


@torch.no_grad()
def wire(
    weight: Float[Tensor, "rows columns"],
    rows: slice,
    columns: slice,
    values: float | Float[Tensor, "some_rows some_columns"] = 1.0,
) -> None:
    """Write a block of a weight: a matrix, or a number on the block's diagonal.

    Raises:
        InputError: for a diagonal of a block that is not square.
    """
    block = weight[rows, columns]
    if not isinstance(values, Tensor):
        require(
            block.shape[0] == block.shape[1],
            f"a diagonal needs a square block. Received {tuple(block.shape)}",
        )
        values = values * torch.eye(len(block), dtype=torch.float64)
    block.copy_(values)


def softmax_of(scores: Float[Tensor, "*axes key_pos"]) -> Float[Tensor, "*axes key_pos"]:
    """exp(score) / Σ exp(score), for the formulas beside the models."""
    weights = (scores - scores.amax(-1, keepdim=True)).exp()
    return weights / weights.sum(-1, keepdim=True)


def counts(
    tokens: Int[Tensor, "batch key_pos"], weights: Float[Tensor, "batch key_pos"], d_vocab: int
) -> Float[Tensor, "batch d_vocab"]:
    """How much weight `[batch, key_pos]` lies on each token of `[batch, key_pos]`."""
    found = torch.zeros(len(tokens), d_vocab, dtype=weights.dtype)
    return found.scatter_add_(1, tokens, weights)


def difference(
    logits: Float[Tensor, "batch d_vocab"],
    right: Int[Tensor, "batch"],
    wrong: Int[Tensor, "batch"],
) -> Float[Tensor, "batch"]:
    """The logit of the right token minus that of the wrong one."""
    rows = torch.arange(len(logits))
    return logits[rows, right] - logits[rows, wrong]


def even_reference(length: int, d_vocab: int) -> Int[Tensor, "prompt pos"]:
    """Prompts in which every token stands at every position once: a mean favours none."""
    return (torch.arange(d_vocab)[:, None] + torch.arange(length)) % d_vocab
