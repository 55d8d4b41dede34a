"""OLMo 1 (Groeneveld et al. 2024) and OLMo 2 (OLMo Team 2025).

The first is Llama with LayerNorms that have no weights. The second normalises what a sublayer adds
instead of what it reads, and the queries and keys of all heads together.
"""

from __future__ import annotations

from typing import Any

from interp.pretrained import llama
from interp.pretrained.family import Family, HfConfig, refuse


def make_config(config: HfConfig) -> dict[str, Any]:
    """Our fields from an `OlmoConfig`."""
    refuse(config, clip_qkv=None)
    return {**llama.shared_fields(config), "normalization_type": "LNPre", "eps": 1e-5}


def make_olmo2_config(config: HfConfig) -> dict[str, Any]:
    """Our fields from an `Olmo2Config`."""
    fields = llama.shared_fields(config, eps=1e-5)
    return {**fields, "norm_placement": "output", "qk_norm": "full"}


OLMO = Family(
    name="OLMo",
    description="Llama with LayerNorms that have no weights",
    architectures=("OlmoForCausalLM", "OlmoModel"),
    model_types=("olmo",),
    prefix="model.",
    rows=(
        *llama.EMBEDDING,
        *llama.ATTENTION,
        *llama.ATTENTION_BIASES,
        *llama.GATED_MLP,
        *llama.UNEMBEDDING,
    ),
    ignored=llama.BUFFERS,
    make_config=make_config,
)

OLMO2 = Family(
    name="OLMo 2",
    description="norms of what sublayers add, and of queries and keys",
    architectures=("Olmo2ForCausalLM", "Olmo2Model"),
    model_types=("olmo2",),
    prefix="model.",
    rows=(
        *llama.EMBEDDING,
        *llama.ADDED_NORMS,
        *llama.ATTENTION,
        *llama.ATTENTION_BIASES,
        *llama.QK_NORMS,
        *llama.GATED_MLP,
        *llama.FINAL_NORM,
        *llama.UNEMBEDDING,
    ),
    ignored=llama.BUFFERS,
    make_config=make_olmo2_config,
)
