"""Mistral (Jiang et al. 2023): Llama with a window in every layer."""

from __future__ import annotations

from typing import Any

from interp.pretrained import llama
from interp.pretrained.family import Family, HfConfig, refuse


def make_config(config: HfConfig) -> dict[str, Any]:
    """Our fields from a `MistralConfig`."""
    refuse(config, layer_types=None)
    window = config.get("sliding_window", 4096)
    return {**llama.shared_fields(config), "window_size": window}


MISTRAL = Family(
    name="Mistral",
    description="Llama with sliding-window attention",
    architectures=("MistralForCausalLM", "MistralModel"),
    model_types=("mistral",),
    prefix="model.",
    rows=(
        *llama.EMBEDDING,
        *llama.NORMS,
        *llama.ATTENTION,
        *llama.GATED_MLP,
        *llama.FINAL_NORM,
        *llama.UNEMBEDDING,
    ),
    ignored=llama.BUFFERS,
    make_config=make_config,
)
