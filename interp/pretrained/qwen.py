"""Qwen 2 and 2.5 (Yang et al. 2024): Llama with biases of queries, keys and values.

Qwen 3 (Yang et al. 2025) has none, and normalises the queries and keys of every head instead.
"""

from __future__ import annotations

from typing import Any

from interp.pretrained import llama
from interp.pretrained.family import Family, HfConfig


def make_config(config: HfConfig) -> dict[str, Any]:
    """Our fields from a `Qwen2Config`."""
    fields = llama.shared_fields(config)
    window = config.get("sliding_window") if config.get("use_sliding_window") else None
    first = config.get("max_window_layers", 28) if window else fields["n_layers"]
    default = (
        "sliding_attention" if layer >= first else "full_attention"
        for layer in range(fields["n_layers"])
    )
    types = llama.attention_types(config, default)
    return {**fields, "window_size": window, "attn_types": types}


def make_qwen3_config(config: HfConfig) -> dict[str, Any]:
    """Our fields from a `Qwen3Config`."""
    return {**make_config({"head_dim": 128, **config}), "qk_norm": "head"}


QWEN2 = Family(
    name="Qwen 2",
    description="Llama with q/k/v biases; Qwen 2 and 2.5, windows in the layers that have them",
    architectures=("Qwen2ForCausalLM", "Qwen2Model"),
    model_types=("qwen2",),
    prefix="model.",
    rows=(
        *llama.EMBEDDING,
        *llama.NORMS,
        *llama.ATTENTION,
        *llama.QKV_BIASES,
        *llama.GATED_MLP,
        *llama.FINAL_NORM,
        *llama.UNEMBEDDING,
    ),
    ignored=llama.BUFFERS,
    make_config=make_config,
)

QWEN3 = Family(
    name="Qwen 3",
    description="Llama with normalised queries and keys",
    architectures=("Qwen3ForCausalLM", "Qwen3Model"),
    model_types=("qwen3",),
    prefix="model.",
    rows=(
        *llama.EMBEDDING,
        *llama.NORMS,
        *llama.ATTENTION,
        *llama.ATTENTION_BIASES,
        *llama.QK_NORMS,
        *llama.GATED_MLP,
        *llama.FINAL_NORM,
        *llama.UNEMBEDDING,
    ),
    ignored=llama.BUFFERS,
    make_config=make_qwen3_config,
)
