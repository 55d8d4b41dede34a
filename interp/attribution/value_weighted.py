"""Attention weighted by the size of what is carried.

A head may look at a token whose value is next to nothing: its pattern alone then tells more than
it does. Weighted by the norm of the value, or of what the head writes of it, the entries are sizes
of the vectors that are added up, without their directions: two large ones may cancel.

Source: Kobayashi et al. 2020, Attention is Not Only a Weight: Analyzing Transformers with Vector
Norms, §3 (‖α f(x)‖ with f(x) = (x W_V + b_V) W_O).
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

SizeOf = Literal["output", "value"]
Attends = Literal["self", "cross", "encoder"]


@torch.no_grad()
def value_weighted_attention(
    cache: ActivationCache,
    layer: int,
    size_of: SizeOf = "output",
    normalise: bool = False,
    attends: Attends = "self",
) -> Float[Tensor, "batch head pos key_pos"]:
    """pattern × ‖v W_O‖, or pattern × ‖v‖, for every head of a layer.

    The output is measured as the head writes it: in front of the norm that some models have of what
    attention adds.

    Args:
        cache: Holding `pattern` and `v` of that layer, with its batch axis and all positions.
        layer: Which; negative counts from the end.
        size_of: `output`: what the head would write of the source, v W_O; `value`: v itself.
        normalise: Divide by the sum over sources, so that a destination's entries sum to 1, as
            attention's do. Where all are 0 they stay so.
        attends: `self`: self-attention of the stack that logits come from; `cross` and `encoder`:
            an encoder–decoder's cross-attention, and its encoder's self-attention.

    Raises:
        InputError: for a layer or attention that is not there, or a cache without its batch axis or
            without every source position.
        KeyError: if the cache lacks a hook.
    """
    require(cache.has_batch_dim, "value_weighted_attention needs a cache with its batch axis")
    require_one_of("size_of", size_of, ("output", "value"))
    require_one_of("attends", attends, ("self", "cross", "encoder"))
    model = cache.model
    both = model.cfg.architecture == "encoder-decoder"
    if attends != "self" and not both:
        raise InputError(f"attends={attends!r} needs an encoder-decoder. This is not one.")
    stack = model.encoder if attends == "encoder" else model.main_stack
    n_layers = len(stack.blocks)
    require(
        isinstance(layer, int) and -n_layers <= layer < n_layers,
        f"layer must lie in {-n_layers} … {n_layers - 1}. Received {layer!r}",
    )
    layer %= n_layers
    prefix = "" if not both else "encoder." if attends == "encoder" else "decoder."
    part = "cross_attn" if attends == "cross" else "attn"
    name = f"{prefix}blocks.{layer}.{part}"
    pattern, v = wide(cache[f"{name}.hook_pattern"]), wide(cache[f"{name}.hook_v"])
    require(
        v.shape[:2] == (pattern.shape[0], pattern.shape[3]),
        f"value-weighted attention needs v at every source, [batch, key_pos] = "
        f"{[pattern.shape[0], pattern.shape[3]]}. The cache has {list(v.shape[:2])}",
    )
    n_heads = model.cfg.n_heads
    if size_of == "output":
        v = v.repeat_interleave(n_heads // v.shape[2], 2)
        W_O = getattr(stack.blocks[layer], part).W_O.detach().to(v)
        sizes = _size_of_output(v, W_O)
    else:
        sizes = v.norm(dim=-1).repeat_interleave(n_heads // v.shape[2], 2)
    weighted = pattern * sizes.transpose(1, 2)[:, :, None, :]
    if not normalise:
        return weighted
    total = weighted.sum(-1, keepdim=True)
    return weighted / total.masked_fill(total == 0, 1.0)


def _size_of_output(
    v: Float[Tensor, "batch key_pos head d_head"], W_O: Float[Tensor, "head d_head d_model"]
) -> Float[Tensor, "batch key_pos head"]:
    """‖v W_O‖. With W_O = Rᵀ Qᵀ it is ‖v Rᵀ‖, which needs no vector of d_model for each head."""
    R = torch.linalg.qr(W_O.mT, mode="r").R
    return torch.einsum("bkhe,hre->bkhr", v, R).norm(dim=-1)
