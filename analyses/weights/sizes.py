"""How large the circuits of heads are and how many dimensions they have, by their factors alone.

Norms' weights and centring are in, their scales and all biases out, as everywhere in
`interp.weight_circuits`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from analyses.weights.tables import label
from interp.errors import require, require_one_of
from interp.factored import FactoredMatrix
from interp.weight_circuits.circuits import qk_weights
from interp.weight_circuits.directions import Stack, block_directions, stacks_of
from interp.weight_circuits.norms import norm_of_reader, pull

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

Where = Literal["self", "encoder", "cross"]
"""Heads of the stack that logits come from; of an encoder–decoder also those of the encoder, and
those of the decoder that read the encoder."""


def effective_dimensions(singular: Float[Tensor, "*axes rank"]) -> Float[Tensor, "*axes"]:
    """(Σσ²)² / Σσ⁴: the participation ratio of a circuit's dimensions; 0 for a circuit of zeros."""
    squares = singular.double().square()
    total, fourth = squares.sum(-1), squares.square().sum(-1)
    return torch.where(fourth > 0, total.square() / torch.where(fourth > 0, fourth, 1.0), 0.0)


@torch.no_grad()
def ov_sizes_table(model: HookedTransformer, where: Where = "self") -> pd.DataFrame:
    """Norm and effective dimensions of each head's W_V W_O.

    Returns:
        component, layer, head, ov_norm (Frobenius), ov_dimensions.

    Raises:
        InputError: for heads that this model does not have.
    """
    rows = []
    for layer, frames in enumerate(_frames(model, where)):
        sizes = torch.linalg.vector_norm(frames, dim=-1)
        norms, dimensions = sizes.double().square().sum(-1).sqrt(), effective_dimensions(sizes)
        for head, (norm, wide) in enumerate(zip(norms.tolist(), dimensions.tolist(), strict=True)):
            rows.append((label((layer, head)), layer, head, norm, wide))
    columns = ["component", "layer", "head", "ov_norm", "ov_dimensions"]
    return pd.DataFrame(rows, columns=columns)


@torch.no_grad()
def qk_sizes_table(model: HookedTransformer) -> pd.DataFrame:
    """Norm and effective dimensions of each head's W_Q W_Kᵀ, over the attention's scale.

    Rotary positions are taken at distance 0. Of an encoder–decoder the decoder's self-attention.

    Returns:
        component, layer, head, qk_norm (Frobenius, in scores), qk_dimensions.

    Raises:
        InputError: as `interp.weight_circuits.circuits.qk_weights`.
    """
    rows = []
    for layer, block in enumerate(model.main_stack.blocks):
        front = norm_of_reader(model, layer)
        for head in range(model.cfg.n_heads):
            W_Q, W_K = (pull(front, each) for each in qk_weights(model, layer, head))
            singular = FactoredMatrix(W_Q.double() / block.attn.attn_scale, W_K.double().mT).S
            norm = float(singular.square().sum().sqrt())
            wide = float(effective_dimensions(singular))
            rows.append((label((layer, head)), layer, head, norm, wide))
    columns = ["component", "layer", "head", "qk_norm", "qk_dimensions"]
    return pd.DataFrame(rows, columns=columns)


@torch.no_grad()
def singular_values_table(
    model: HookedTransformer, layer: int, head: int, where: Where = "self"
) -> pd.DataFrame:
    """The singular values of one head's W_V W_O, the largest first.

    Returns:
        rank (from 1), singular_value, share (of the sum of squares; 0 for a head of zeros).

    Raises:
        InputError: for a head that this model does not have.
    """
    frames = _frames(model, where)
    require(
        0 <= layer < len(frames) and 0 <= head < len(frames[layer]),
        f"heads must lie in L0H0 … L{len(frames) - 1}H{model.cfg.n_heads - 1}. "
        f"Received L{layer}H{head}",
    )
    sizes = torch.linalg.vector_norm(frames[layer][head], dim=-1).double()
    total = float(sizes.square().sum())
    return pd.DataFrame(
        {
            "rank": range(1, len(sizes) + 1),
            "singular_value": sizes.tolist(),
            "share": (sizes.square() / (total or 1.0)).tolist(),
        }
    )


def _frames(
    model: HookedTransformer, where: Where
) -> list[Float[Tensor, "head direction d_model"]]:
    """Of each layer's heads the singular directions of W_V W_O, as long as the singular values."""
    require_one_of("where", where, get_args(Where))
    two = model.cfg.architecture == "encoder-decoder"
    require(
        where == "self" or two,
        f"only an encoder–decoder has heads of {where!r}. This model is a {model.cfg.architecture}",
    )
    stack: Stack = "" if not two else "encoder" if where == "encoder" else "decoder"
    kind = "cross OV" if where == "cross" else "OV"
    found = []
    for layer in range(len(dict(stacks_of(model))[stack])):
        of = next(each for each in block_directions(model, layer, stack) if each.kind == kind)
        assert of.per_group is not None  # as of all heads
        found.append(of.vectors.view(-1, of.per_group, of.vectors.shape[-1]))
    return found
