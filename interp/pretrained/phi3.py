"""Phi-3 and Phi-4 (Abdin et al. 2024): Llama with q/k/v in one matrix, and gate/up in another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from interp.config import HookedTransformerConfig
from interp.pretrained import llama
from interp.pretrained.family import Family, HfConfig, Row, refuse
from interp.pretrained.rotary_fields import rotary_dim
from interp.pretrained.rows import HEADS, HEADS_OUT, MATRIX

_JOINED = "(gate_up d_mlp) d_model -> gate_up d_model d_mlp"


def _part(index: int) -> Callable[[Tensor, HookedTransformerConfig], Tensor]:
    """Queries, keys or values: rows of the matrix that holds all three."""

    def view(weight: Tensor, cfg: HookedTransformerConfig) -> Tensor:
        sizes = [n * cfg.d_head for n in (cfg.n_heads, cfg.n_kv_heads, cfg.n_kv_heads)]
        return weight.split(sizes)[index]

    return view


def make_config(config: HfConfig) -> dict[str, Any]:
    """Our fields from a `Phi3Config`.

    Raises:
        InputError: for stretched positions: those of the long-context models (`longrope`).
    """
    given = config.get("rope_parameters") or config.get("rope_scaling") or {}
    refuse(given, rope_type="default", type="default")
    turned = {**given, "partial_rotary_factor": None}
    whole = {**config, "rope_parameters": turned, "partial_rotary_factor": None}
    fields = llama.shared_fields(whole, eps=1e-5)
    return {
        **fields,
        "rotary_dim": rotary_dim(config, fields["d_head"]),
        "window_size": config.get("sliding_window"),
    }


PHI3 = Family(
    name="Phi-3",
    description="Llama with fused q/k/v and fused gate/up; Phi-3, 3.5 and 4 of short context",
    architectures=("Phi3ForCausalLM", "Phi3Model"),
    model_types=("phi3",),
    prefix="model.",
    rows=(
        *llama.EMBEDDING,
        *llama.NORMS,
        *(
            Row(
                f"blocks.{{l}}.attn.W_{letter}",
                "layers.{l}.self_attn.qkv_proj.weight",
                HEADS,
                view=_part(index),
            )
            for index, letter in enumerate("QKV")
        ),
        Row("blocks.{l}.attn.W_O", "layers.{l}.self_attn.o_proj.weight", HEADS_OUT),
        Row("blocks.{l}.mlp.W_gate", "layers.{l}.mlp.gate_up_proj.weight", _JOINED, 0),
        Row("blocks.{l}.mlp.W_in", "layers.{l}.mlp.gate_up_proj.weight", _JOINED, 1),
        Row("blocks.{l}.mlp.W_out", "layers.{l}.mlp.down_proj.weight", MATRIX),
        *llama.FINAL_NORM,
        *llama.UNEMBEDDING,
    ),
    ignored=llama.BUFFERS,
    make_config=make_config,
)
