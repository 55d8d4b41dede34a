"""StableLM 3B and 2 (Bellagente et al. 2024): Llama with LayerNorms and partial rotary positions.

Some of its models normalise queries and keys, each head with weights of its own.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from interp.config import HookedTransformerConfig
from interp.pretrained import llama, rows
from interp.pretrained.family import Family, HfConfig, Row
from interp.pretrained.rotary_fields import rotary_dim

_LAYER = "layers.{l}."
_ATTN = _LAYER + "self_attn."


def make_config(config: HfConfig) -> dict[str, Any]:
    """Our fields from a `StableLmConfig`."""
    given = config.get("rope_parameters") or config.get("rope_scaling") or {}
    whole_heads = {"rope_parameters": {**given, "partial_rotary_factor": None}}
    fields = llama.shared_fields(
        {**config, **whole_heads, "partial_rotary_factor": None, "head_dim": None}
    )
    return {
        **fields,
        "eps": config.get("layer_norm_eps", 1e-5),
        "normalization_type": "LN",
        "qk_norm": "per_head" if config.get("qk_layernorm") else None,
        "rotary_dim": rotary_dim(config, fields["d_head"], 0.25),
        "parallel_attn_mlp": config.get("use_parallel_residual", False),
    }


def _normalises_queries(cfg: HookedTransformerConfig) -> bool:
    return cfg.qk_norm is not None


STABLELM = Family(
    name="StableLM",
    description="Llama with LayerNorms, partial rotary positions, and norms of each head",
    architectures=("StableLmForCausalLM", "StableLmModel"),
    model_types=("stablelm",),
    prefix="model.",
    rows=(
        *llama.EMBEDDING,
        *rows.norm("blocks.{l}.ln1", _LAYER + "input_layernorm"),
        *rows.norm("blocks.{l}.ln2", _LAYER + "input_layernorm", wanted=rows.parallel),
        *rows.norm("blocks.{l}.ln2", _LAYER + "post_attention_layernorm", wanted=rows.sequential),
        *llama.ATTENTION,
        *(dataclasses.replace(row, when="use_qkv_bias") for row in llama.QKV_BIASES),
        Row(
            "blocks.{l}.attn.q_norm.w[{h}]",
            _ATTN + "q_layernorm.norms.{h}.weight",
            wanted=_normalises_queries,
        ),
        Row(
            "blocks.{l}.attn.k_norm.w[{g}]",
            _ATTN + "k_layernorm.norms.{g}.weight",
            wanted=_normalises_queries,
        ),
        *llama.GATED_MLP,
        *rows.norm("ln_final", "norm"),
        *rows.UNEMBEDDING,
    ),
    ignored=llama.BUFFERS,
    make_config=make_config,
)
