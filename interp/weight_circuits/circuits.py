"""Full circuits: what a head does from token to token, as products that are never multiplied out.

Rows stand for what is read, columns for what comes of it. Everything is in the convention of row
vectors, x W. Norms are taken as in `interp.weight_circuits.norms`: their centring and weights are
in, their scales and all biases are out, and so are soft caps of scores and logits.

Source: Elhage et al. 2021, A Mathematical Framework for Transformer Circuits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from interp.components.norm import Norm
from interp.errors import require, require_one_of, require_whole
from interp.factored import FactoredMatrix
from interp.precision import wide
from interp.weight_circuits.norms import (
    check_head,
    check_linear_logits,
    norm_of_reader,
    path_from_writer,
    path_to_reader,
    push,
)
from interp.weight_circuits.vectors import effective_embedding, position_vectors, token_vectors

if TYPE_CHECKING:
    from interp.frozen_norms import Sublayer
    from interp.transformer import HookedTransformer

Rows = Literal["token", "effective", "position"]
"""W_E; W_E and the first MLP (`effective_embedding`); positions, where they are vectors."""


def rows_read(
    model: HookedTransformer, layer: int, rows: Rows = "token", part: Sublayer = "attn"
) -> Float[Tensor, "row d_model"]:
    """Tokens or positions as they arrive at what `part` of block `layer` multiplies.

    `layer=n_layers`: at the unembedding.

    Raises:
        InputError: for rows that the model does not have, or `effective` at the first layer.
    """
    require_one_of("rows", rows, ("token", "effective", "position"))
    if rows == "effective":
        require(
            layer > 0, "what block 0 makes of a token is read from layer 1 on. Received layer 0"
        )
        return push(path_to_reader(model, layer, part, start=1), effective_embedding(model))
    if rows == "token":
        return push(path_to_reader(model, layer, part), token_vectors(model))
    vectors = position_vectors(model)
    if model.main_stack.pos_embed.adds_to_queries_and_keys:
        require(part == "attn", "shortformer positions are read by queries and keys alone")
        return vectors  # added behind the norm
    return push(path_to_reader(model, layer, part), vectors)


def to_logits(
    model: HookedTransformer,
    written: Float[Tensor, "*axes row d_model"],
    layer: int,
    part: Sublayer = "attn",
    less_mean: bool = False,
) -> Float[Tensor, "*axes row d_vocab_out"]:
    """What vectors that `part` of block `layer` writes add to the logits.

    Args:
        model: With `head="lm"`.
        written: The vectors.
        layer: Where they are written.
        part: By what.
        less_mean: Less the mean over the vocabulary, which changes no probability.

    Raises:
        InputError: where logits are not linear in the residual stream.
    """
    check_linear_logits(model)
    path = path_from_writer(model, layer, part) + norm_of_reader(model, model.cfg.n_layers)
    logits = push(path, wide(written)) @ wide(model.W_U) * model.cfg.logit_scale
    return logits - logits.mean(-1, keepdim=True) if less_mean else logits


def ov_circuit(
    model: HookedTransformer,
    layer: int,
    head: int,
    rows: Rows = "token",
    less_mean: bool = False,
) -> FactoredMatrix:
    """W_E W_V W_O W_U: what attending to each token adds to each logit, `[row, d_vocab_out]`.

    Exact where there are no norms and no biases; elsewhere per unit of the scales left out.

    Args:
        model: A causal or bidirectional language model; of an encoder–decoder the decoder's
            self-attention.
        layer: The head's layer.
        head: Its number.
        rows: What is attended to.
        less_mean: Take each row less its mean over the vocabulary.

    Raises:
        InputError: for a head that is not there, rows that the model lacks, or another `cfg.head`
            than `lm`.
    """
    check_head(model, layer, head)
    attn = model.main_stack.blocks[layer].attn
    require(
        rows != "position" or not model.main_stack.pos_embed.adds_to_queries_and_keys,
        "values do not hold positions in this model (shortformer)",
    )
    A = rows_read(model, layer, rows) @ wide(attn.W_V[head])
    return FactoredMatrix(A, to_logits(model, attn.W_O[head], layer, less_mean=less_mean))


def qk_weights(
    model: HookedTransformer, layer: int, head: int, distance: int = 0
) -> tuple[Float[Tensor, "d_model d_head"], Float[Tensor, "d_model d_head"]]:
    """W_Q and W_K of one head as scores meet them: with its norms of queries and keys, turned.

    Args:
        model: Any.
        layer: The head's layer.
        head: Its number among the query heads.
        distance: Rotary positions: how many positions the query is behind the key.

    Raises:
        InputError: for a distance without rotary positions, or queries that are centred over all
            heads at once, which no head's circuit can show.
    """
    check_head(model, layer, head)
    require_whole("distance", distance, 0)
    block, positions = model.main_stack.blocks[layer], model.main_stack.pos_embed
    require(
        distance == 0 or positions.rotates,
        "only with rotary positions do weights know a distance. This model's are "
        f"{model.cfg.positional_embedding_type!r}. Received distance {distance}",
    )
    attn = block.attn
    W_Q = _behind_norm(model, wide(attn.W_Q[head]), attn.q_norm, head)
    W_K = _behind_norm(model, wide(attn.W_K[head]), attn.k_norm, head)
    if not positions.rotates:
        return W_Q, W_K
    places = torch.tensor([[0, distance]], device=W_Q.device)
    turn = positions.rotation(places, distance + 1, W_Q.dtype, block.local)
    both = torch.stack([W_K, W_Q])[None]  # as if d_model were the axis of heads
    W_K, W_Q = turn(both)[0]
    return W_Q, W_K


def _behind_norm(
    model: HookedTransformer, weight: Float[Tensor, "d_model d_head"], norm: Any, head: int
) -> Float[Tensor, "d_model d_head"]:
    """Weights that give queries or keys as their norm does, its scale left out."""
    if not isinstance(norm, Norm):
        return weight
    assert norm.w is not None
    if norm.centres:
        require(
            model.cfg.qk_norm != "full",
            "queries and keys are centred over all heads at once: no head has a QK circuit of its "
            "own (qk_norm='full' with LayerNorm)",
        )
        weight = weight - weight.mean(-1, keepdim=True)
    by_head = norm.w.view(-1, model.cfg.d_head)
    return weight * by_head[head * by_head.shape[0] // model.cfg.n_heads]


def qk_circuit(
    model: HookedTransformer,
    layer: int,
    head: int,
    query: Rows = "token",
    key: Rows = "token",
    distance: int = 0,
    scaled: bool = False,
) -> FactoredMatrix:
    """W_E W_Q W_Kᵀ W_Eᵀ: how much each destination likes each source, `[query row, key row]`.

    With `position` rows on both sides: W_pos W_Q W_Kᵀ W_posᵀ. Biases of queries and keys, and what
    ALiBi or relative positions add to the scores, are left out.

    Args:
        model: Any model; of an encoder–decoder the decoder's self-attention.
        layer: The head's layer.
        head: Its number.
        query: What the destination holds.
        key: What the source holds.
        distance: Rotary positions: how far the source lies back. 0 compares as at one place.
        scaled: Divide by the attention's scale, so that entries are scores (per unit of the norms'
            scales). Default: the bare product.

    Raises:
        InputError: for a head that is not there, rows that the model lacks, a distance without
            rotary positions, or `qk_norm="full"` with LayerNorm.
    """
    W_Q, W_K = qk_weights(model, layer, head, distance)
    if scaled:
        W_Q = W_Q / model.main_stack.blocks[layer].attn.attn_scale
    queries = rows_read(model, layer, query)
    keys = queries if key == query else rows_read(model, layer, key)
    return FactoredMatrix(queries @ W_Q, (keys @ W_K).mT)


def direct_path(
    model: HookedTransformer, rows: Rows = "token", less_mean: bool = False
) -> FactoredMatrix:
    """W_E W_U: what a token adds to the logits past all layers (bigrams), `[row, d_vocab_out]`.

    Raises:
        InputError: for rows that the model lacks, or another `cfg.head` than `lm`.
    """
    check_linear_logits(model)
    require(
        rows != "position" or not model.main_stack.pos_embed.adds_to_queries_and_keys,
        "the residual stream does not hold positions in this model (shortformer)",
    )
    B = wide(model.W_U) * model.cfg.logit_scale
    if less_mean:
        B = B - B.mean(-1, keepdim=True)
    return FactoredMatrix(rows_read(model, model.cfg.n_layers, rows), B)
