"""What enters the residual stream at the bottom: the rows that full circuits begin with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import InputError, require
from interp.precision import wide
from interp.run.plan import BlockPlan

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer


def token_vectors(model: HookedTransformer) -> Float[Tensor, "d_vocab d_model"]:
    """W_E times `cfg.embed_scale`, half precision as fp32."""
    vectors = wide(model.W_E)
    scale = model.cfg.embed_scale
    return vectors if scale == 1.0 else vectors * scale


def effective_embedding(
    model: HookedTransformer, chunk: int = 4096
) -> Float[Tensor, "d_vocab d_model"]:
    """What block 0 makes of each token by itself: W_E + MLP₀(ln2(W_E)) in a pre-norm model.

    The first block runs as it is, norms' scales and biases included, with nothing added by its
    attention and no positions: many models have their MLP 0 finish the embedding, and later layers
    read this rather than W_E. (McDougall et al. 2023, Copy Suppression, §3.)

    Args:
        model: With at least one layer, with an MLP, and no hooks attached.
        chunk: Tokens at a time.

    Raises:
        InputError: for a model without MLPs, an encoder-decoder, or hooks that would be called.
    """
    cfg = model.cfg
    require(
        cfg.n_layers > 0 and not cfg.attn_only,
        "the effective embedding is what the first MLP makes of W_E. This model has no MLP",
    )
    require(
        cfg.architecture != "encoder-decoder",
        "an encoder-decoder has no effective embedding: cross-attention stands before its MLPs",
    )
    watched = sorted(model.watched_hooks()[0])
    require(
        not watched, f"the effective embedding runs a block: detach hooks first. Received {watched}"
    )
    block, plan = model.main_stack.blocks[0], BlockPlan()
    parts = []
    for tokens in torch.arange(cfg.d_vocab, device=model.W_E.device).split(chunk):
        residual = model.embed(tokens[:, None])
        if cfg.post_embedding_ln:
            residual = model.main_stack.ln_embed(residual, False)
        parts.append(block.after_attention(residual, torch.zeros_like(residual), plan)[:, 0])
    return wide(torch.cat(parts))


def position_vectors(model: HookedTransformer) -> Float[Tensor, "n_ctx d_model"]:
    """The vectors of positions 0 … n_ctx - 1, where positions are vectors.

    Raises:
        InputError: for rotary positions, biases of the scores, or none.
    """
    positions = model.main_stack.pos_embed
    if not (positions.adds_embedding or positions.adds_to_queries_and_keys):
        raise InputError(
            "position circuits need positions that are vectors. This model's are "
            f"{model.cfg.positional_embedding_type!r}."
        )
    n_ctx = model.cfg.n_ctx
    places = torch.arange(n_ctx, device=model.W_E.device)[None]
    return wide(positions.embedding(places, n_ctx)[0].to(model.W_E.device))
