"""The shares of direct logit attribution taken further apart.

A head's share splits over the source positions that it read, an MLP's over its neurons.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from interp.attribution.direct import DirectAttribution, require_batch_axis
from interp.attribution.logit_direction import LogitView, PerPosition
from interp.errors import InputError, require
from interp.precision import wide

if TYPE_CHECKING:
    from interp.cache import ActivationCache
    from interp.transformer import HookedTransformer


@torch.no_grad()
def source_attribution(
    model: HookedTransformer,
    cache: ActivationCache,
    attribution: DirectAttribution,
    layer: int,
    head: int,
) -> Float[Tensor, "batch pos key_pos"]:
    """One head's share, split over the source positions that it read.

    pattern × (v · W_O u) / scale: summed over key_pos it is the head's share at every position.

    Args:
        model: The model that was run.
        cache: Holding `pattern` and `v` of that layer.
        attribution: From `direct_logit_attribution` on the same input.
        layer: The head's layer. Negative counts from the end.
        head: Its number in the layer, likewise.

    Raises:
        InputError: for a head that does not exist, or a cache of other rows, positions or another
            device than the attribution's, without its batch axis, or without every key position.
        KeyError: if the cache lacks a hook.
    """
    layer = _index("layer", layer, len(attribution.head_views))
    head = _index("head", head, model.cfg.n_heads)
    view = attribution.head_views[layer]
    pattern = _recorded(cache, ("pattern", layer), view, pos_axis=2)
    v = cache["v", layer]
    require(
        v.shape[:2] == (pattern.shape[0], pattern.shape[3]),
        f"source_attribution needs v at every key position, [batch, key_pos] = "
        f"{[pattern.shape[0], pattern.shape[3]]}. The cache has {list(v.shape[:2])}",
    )
    kv_head = head * v.shape[2] // model.cfg.n_heads
    reads = view.along(model.main_stack.blocks[layer].attn.W_O[head])
    written = wide(v[:, :, kv_head]) @ reads
    return wide(pattern[:, head]) * written[:, None, :] / view.scale


@torch.no_grad()
def neuron_attribution(
    model: HookedTransformer, cache: ActivationCache, attribution: DirectAttribution, layer: int
) -> Float[Tensor, "batch pos *expert d_mlp"]:
    """What each neuron of one MLP adds to the logit: post × (W_out u) / scale.

    With `mlp_bias_attribution` the neurons sum to the MLP's share. In a mixture of experts each
    expert has its own, times the weight that its token gives it, on an axis before d_mlp.

    Args:
        model: The model that was run.
        cache: Holding `post` of that layer, and `expert_weights` where there are experts.
        attribution: From `direct_logit_attribution` on the same input.
        layer: The MLP's layer. Negative counts from the end.

    Raises:
        InputError: for a layer that does not exist, a model without MLPs, or a cache of other rows,
            positions or another device than the attribution's, or without its batch axis.
        KeyError: if the cache lacks a hook.
    """
    layer = _mlp_layer(attribution, layer)
    view = attribution.mlp_views[layer].view
    reads = view.along(model.main_stack.blocks[layer].mlp.W_out)
    post = wide(_recorded(cache, ("post", layer), view))
    if model.cfg.num_experts is None:
        return post * reads / view.scale
    post = post * wide(_recorded(cache, ("expert_weights", layer), view))[..., None]
    return post * reads / view.scale[..., None]


@torch.no_grad()
def mlp_bias_attribution(
    model: HookedTransformer, cache: ActivationCache, attribution: DirectAttribution, layer: int
) -> PerPosition:
    """What an MLP's share holds beside its neurons: b_out, and the bias of a norm behind it.

    Arguments and errors are those of `neuron_attribution`; without experts nothing is read from
    the cache.
    """
    require_batch_axis(cache)
    layer = _mlp_layer(attribution, layer)
    view, norm_bias = attribution.mlp_views[layer]
    b_out = model.main_stack.blocks[layer].mlp.b_out
    if model.cfg.num_experts is None:
        return view.constant(b_out) + norm_bias
    weights = wide(_recorded(cache, ("expert_weights", layer), view))
    return weights @ view.along(b_out) / view.scale[..., 0] + norm_bias


def _mlp_layer(attribution: DirectAttribution, layer: int) -> int:
    if not attribution.mlp_views:
        raise InputError("this model has no MLPs, so it has no neurons.")
    return _index("layer", layer, len(attribution.mlp_views))


def _index(what: str, index: int, n: int) -> int:
    """A layer or head, counted from the start."""
    require(
        -n <= index < n,
        f"{what} must lie in 0 … {n - 1}, or from -{n} on to count from the end. Received {index}",
    )
    return index % n


def _recorded(
    cache: ActivationCache, key: tuple[str, int], view: LogitView, pos_axis: int = 1
) -> Tensor:
    """A record of the rows and positions that an attribution is of, on its device."""
    require_batch_axis(cache)
    found = cache[key]
    shape, wanted = [found.shape[0], found.shape[pos_axis]], list(view.scale.shape[:2])
    require(
        shape == wanted and found.device == view.scale.device,
        f"the cache must be of the attribution's rows and positions, [batch, pos] = {wanted} on "
        f"{view.scale.device}. {cache.full_name(key)} has {shape} on {found.device}",
    )
    return found
