"""Mixtral (Jiang et al. 2024): Mistral with a mixture of experts for an MLP.

Checkpoints hold each expert's matrices one by one; a model in the memory of transformers 5 holds
all experts of a layer as one tensor, gate and up projection joined.
"""

from __future__ import annotations

from typing import Any

from interp.pretrained import llama
from interp.pretrained.family import Family, HfConfig, Row, required
from interp.pretrained.rows import MATRIX

_BEFORE = (*llama.EMBEDDING, *llama.NORMS, *llama.ATTENTION)
_AFTER = (*llama.FINAL_NORM, *llama.UNEMBEDDING)
_MOE = "layers.{l}.block_sparse_moe."
_JOINED = "expert (gate_up d_mlp) d_model -> gate_up expert d_model d_mlp"


def make_config(config: HfConfig) -> dict[str, Any]:
    """Our fields from a `MixtralConfig`."""
    return {
        **llama.shared_fields(config, eps=1e-5, base=1e6),
        "window_size": config.get("sliding_window"),
        "num_experts": required(config, "num_local_experts"),
        "experts_per_token": config.get("num_experts_per_tok", 2),
    }


MIXTRAL = Family(
    name="Mixtral",
    description="Mistral with a mixture of experts",
    architectures=("MixtralForCausalLM", "MixtralModel"),
    model_types=("mixtral",),
    prefix="model.",
    rows=(
        *_BEFORE,
        Row("blocks.{l}.mlp.W_router", "layers.{l}.mlp.gate.weight", MATRIX),
        Row("blocks.{l}.mlp.W_gate", "layers.{l}.mlp.experts.gate_up_proj", _JOINED, 0),
        Row("blocks.{l}.mlp.W_in", "layers.{l}.mlp.experts.gate_up_proj", _JOINED, 1),
        Row(
            "blocks.{l}.mlp.W_out",
            "layers.{l}.mlp.experts.down_proj",
            "expert d_model d_mlp -> expert d_mlp d_model",
        ),
        *_AFTER,
    ),
    other_rows=(
        *_BEFORE,
        Row("blocks.{l}.mlp.W_router", _MOE + "gate.weight", MATRIX),
        Row("blocks.{l}.mlp.W_gate[{e}]", _MOE + "experts.{e}.w1.weight", MATRIX),
        Row("blocks.{l}.mlp.W_in[{e}]", _MOE + "experts.{e}.w3.weight", MATRIX),
        Row("blocks.{l}.mlp.W_out[{e}]", _MOE + "experts.{e}.w2.weight", MATRIX),
        *_AFTER,
    ),
    ignored=llama.BUFFERS,
    make_config=make_config,
)
