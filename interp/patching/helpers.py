"""TransformerLens's sweeps by their names: the same arguments, axes and results.

Of what TransformerLens 4.3 has, the keywords `reduce` and `baseline` and mappings of several
metrics are left out. `patching.sweep` gives the value of every prompt, and of the run without a
patch.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from interp.patching.generic import generic_activation_patch
from interp.patching.metrics import Metric
from interp.patching.read_out import LogitsFunction
from interp.patching.setters import (
    PatchSetter,
    layer_head_dest_src_pos_pattern_patch_setter,
    layer_head_pattern_patch_setter,
    layer_head_pos_pattern_patch_setter,
    layer_head_vector_patch_setter,
    layer_pos_head_vector_patch_setter,
    layer_pos_patch_setter,
)

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer


def _helper(setter: PatchSetter, name: str, axes: tuple[str, ...]) -> Any:
    """A sweep over all of these axes: `(model, corrupted_tokens, clean_cache, patching_metric)`."""
    return partial(
        generic_activation_patch,
        patch_setter=setter,
        activation_name=name,
        index_axis_names=axes,
    )


_LAYER_POS = ("layer", "pos")
get_act_patch_resid_pre = _helper(layer_pos_patch_setter, "resid_pre", _LAYER_POS)
get_act_patch_resid_mid = _helper(layer_pos_patch_setter, "resid_mid", _LAYER_POS)
get_act_patch_attn_out = _helper(layer_pos_patch_setter, "attn_out", _LAYER_POS)
get_act_patch_mlp_out = _helper(layer_pos_patch_setter, "mlp_out", _LAYER_POS)

_BY_POS = (layer_pos_head_vector_patch_setter, ("layer", "pos", "head"))
get_act_patch_attn_head_out_by_pos = _helper(_BY_POS[0], "z", _BY_POS[1])
get_act_patch_attn_head_q_by_pos = _helper(_BY_POS[0], "q", _BY_POS[1])
get_act_patch_attn_head_k_by_pos = _helper(_BY_POS[0], "k", _BY_POS[1])
get_act_patch_attn_head_v_by_pos = _helper(_BY_POS[0], "v", _BY_POS[1])
get_act_patch_attn_head_pattern_by_pos = _helper(
    layer_head_pos_pattern_patch_setter, "pattern", ("layer", "head_index", "dest_pos")
)
get_act_patch_attn_head_pattern_dest_src_pos = _helper(
    layer_head_dest_src_pos_pattern_patch_setter,
    "pattern",
    ("layer", "head_index", "dest_pos", "src_pos"),
)

_ALL_POS = (layer_head_vector_patch_setter, ("layer", "head"))
get_act_patch_attn_head_out_all_pos = _helper(_ALL_POS[0], "z", _ALL_POS[1])
get_act_patch_attn_head_q_all_pos = _helper(_ALL_POS[0], "q", _ALL_POS[1])
get_act_patch_attn_head_k_all_pos = _helper(_ALL_POS[0], "k", _ALL_POS[1])
get_act_patch_attn_head_v_all_pos = _helper(_ALL_POS[0], "v", _ALL_POS[1])
get_act_patch_attn_head_pattern_all_pos = _helper(
    layer_head_pattern_patch_setter, "pattern", ("layer", "head_index")
)

Cache = Mapping[str, Float[Tensor, "batch_or_1 ..."]]
AnyMetric = Metric | LogitsFunction


def get_act_patch_attn_head_all_pos_every(
    model: HookedTransformer,
    corrupted_tokens: Int[Tensor, "batch pos"],
    clean_cache: Cache,
    metric: AnyMetric,
) -> Float[Tensor, "patch_type layer head"]:
    """Every head at all positions: output, query, key, value and pattern, in this order.

    With fewer key/value heads than heads, the rest of the keys' and values' entries are zero.
    """
    sweeps = (
        get_act_patch_attn_head_out_all_pos,
        get_act_patch_attn_head_q_all_pos,
        get_act_patch_attn_head_k_all_pos,
        get_act_patch_attn_head_v_all_pos,
        get_act_patch_attn_head_pattern_all_pos,
    )
    found = [sweep(model, corrupted_tokens, clean_cache, metric) for sweep in sweeps]
    return _stacked(found, model.cfg.n_heads)


def get_act_patch_attn_head_by_pos_every(
    model: HookedTransformer,
    corrupted_tokens: Int[Tensor, "batch pos"],
    clean_cache: Cache,
    metric: AnyMetric,
) -> Float[Tensor, "patch_type layer pos head"]:
    """Every head at every position: output, query, key, value, and pattern (by destination).

    With fewer key/value heads than heads, the rest of the keys' and values' entries are zero.
    """
    sweeps = (
        get_act_patch_attn_head_out_by_pos,
        get_act_patch_attn_head_q_by_pos,
        get_act_patch_attn_head_k_by_pos,
        get_act_patch_attn_head_v_by_pos,
        get_act_patch_attn_head_pattern_by_pos,
    )
    found = [sweep(model, corrupted_tokens, clean_cache, metric) for sweep in sweeps]
    found[-1] = rearrange(found[-1], "layer head pos -> layer pos head")
    return _stacked(found, model.cfg.n_heads)


def get_act_patch_block_every(
    model: HookedTransformer,
    corrupted_tokens: Int[Tensor, "batch pos"],
    clean_cache: Cache,
    metric: AnyMetric,
) -> Float[Tensor, "patch_type layer pos"]:
    """What every layer reads, its attention's output and its MLP's, at every position."""
    sweeps = (get_act_patch_resid_pre, get_act_patch_attn_out, get_act_patch_mlp_out)
    return torch.stack([s(model, corrupted_tokens, clean_cache, metric) for s in sweeps])


def _stacked(found: list[Tensor], n_heads: int) -> Tensor:
    return torch.stack([F.pad(x, (0, n_heads - x.shape[-1])) for x in found])
