"""Llama and its descendants beside Hugging Face's code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from interp import HookedTransformer, InputError, load_model
from interp.pretrained.registry import family_of
from tests.interp.pretrained.parity import Case, parity_cases

transformers = pytest.importorskip("transformers", reason="needs the extra 'hf'")

SMALL: dict[str, Any] = {
    "vocab_size": 37, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 10, "intermediate_size": 31, "pad_token_id": None,
    "bos_token_id": None, "eos_token_id": None, "max_position_embeddings": 50,
}  # fmt: skip
ODD: dict[str, Any] = {
    **SMALL, "hidden_size": 21, "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 14,
    "intermediate_size": 17, "num_hidden_layers": 3,
}  # fmt: skip


def of(name: str, base: dict[str, Any] = SMALL, **fields: Any) -> Callable[[], Any]:
    """Makes a config of that class; None leaves a field of the base out."""
    fields = {k: v for k, v in {**base, **fields}.items() if v is not None or k.endswith("_id")}
    return lambda: getattr(transformers, f"{name}Config")(**fields)


def rope(kind: str, **numbers: Any) -> dict[str, Any]:
    """Their parameters of stretched rotary positions."""
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 500.0, **numbers}}


CONFIGS = {
    "Llama grouped": of("Llama"),
    "Llama odd, tied, biases": of("Llama", ODD, tie_word_embeddings=True, attention_bias=True),
    "Llama linear": of("Llama", **rope("linear", factor=3.0)),
    "Llama yarn": of(
        "Llama", ODD, **rope("yarn", factor=4.0, original_max_position_embeddings=12)
    ),
    "Llama yarn, its numbers given": of(
        "Llama", ODD, **rope(
            "yarn", factor=4.0, original_max_position_embeddings=12, beta_fast=3.0, beta_slow=0.3,
            mscale=0.7, mscale_all_dim=1.2, truncate=False,
        ),
    ),
    "Llama 3": of(
        "Llama", **rope(
            "llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
            original_max_position_embeddings=24,
        ),
    ),
    "Mistral, window of 4": of("Mistral", sliding_window=4),
    "Mistral odd, wide window": of("Mistral", ODD, sliding_window=99, tie_word_embeddings=True),
    "Mixtral 2 of 4": of("Mixtral", num_local_experts=4),
    "Mixtral odd, 3 of 5, window of 3": of(
        "Mixtral", ODD, num_local_experts=5, num_experts_per_tok=3, sliding_window=3
    ),
    "Qwen 2": of("Qwen2"),
    "Qwen 2 odd, window of 5 from layer 1": of(
        "Qwen2", ODD, hidden_size=18, head_dim=None, use_sliding_window=True, sliding_window=5,
        max_window_layers=1, tie_word_embeddings=True, **rope("default"),
    ),
    "Qwen 3": of("Qwen3"),
    "Qwen 3 odd, biases, layer types": of(
        "Qwen3", ODD, attention_bias=True, use_sliding_window=True, sliding_window=4,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    ),
    "Gemma": of("Gemma"),
    "Gemma odd, untied, biases": of(
        "Gemma", ODD, tie_word_embeddings=False, attention_bias=True, hidden_act="gelu"
    ),
    "Gemma 2": of("Gemma2", sliding_window=4, query_pre_attn_scalar=7),
    "Gemma 2 odd, tight caps": of(
        "Gemma2", ODD, sliding_window=3, attn_logit_softcapping=2.0, final_logit_softcapping=3.0,
        attention_bias=True,
    ),
    "Gemma 2 uncapped": lambda: transformers.Gemma2Config(
        **SMALL, attn_logit_softcapping=None, final_logit_softcapping=None,
        layer_types=["full_attention", "sliding_attention"], sliding_window=3,
    ),
    "Gemma 3": of("Gemma3Text", num_hidden_layers=7, sliding_window=4),
    "Gemma 3 odd, linear": of(
        "Gemma3Text", ODD, sliding_window=3, final_logit_softcapping=5.0, query_pre_attn_scalar=9,
        layer_types=["full_attention", "sliding_attention", "sliding_attention"],
        rope_parameters={
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e4},
            "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
        },
    ),
    "Phi-3": of("Phi3", hidden_size=40),
    "Phi-3 odd, part turned, window of 4": of(
        "Phi3", ODD, hidden_size=24, head_dim=None, sliding_window=4,
        rope_parameters={
            "rope_type": "default", "rope_theta": 500.0, "partial_rotary_factor": 0.75
        },
    ),
    "OLMo": of("Olmo", hidden_size=40),
    "OLMo odd, tied, biases": of(
        "Olmo", ODD, hidden_size=30, head_dim=None, tie_word_embeddings=True, attention_bias=True
    ),
    "OLMo 2": of("Olmo2", hidden_size=40),
    "OLMo 2 odd, biases": of(
        "Olmo2", ODD, hidden_size=30, head_dim=None, attention_bias=True, rms_norm_eps=0.02
    ),
}  # fmt: skip


@parity_cases(CONFIGS)
def test_parity(case: Case, tmp_path: Path) -> None:
    case.check(tmp_path)


DYNAMIC = {"Llama dynamic": of("Llama", max_position_embeddings=6, **rope("dynamic", factor=3.0))}


@parity_cases(DYNAMIC)
def test_parity_where_frequencies_depend_on_length(case: Case, tmp_path: Path) -> None:
    """Without a cache: what it holds of the upper layers was computed with other frequencies.

    And without padding: theirs stretches a batch by its longest row, ours each row by its own.
    """
    case.check(tmp_path, hf_cache=False, cache=False, sides=())


SHAPE: dict[str, Any] = {k: v for k, v in SMALL.items() if v is not None}


@pytest.mark.parametrize(
    ("family", "change", "message"),
    [
        ("mistral", {"layer_types": ["full_attention", "full_attention"]}, "layer_types"),
        ("qwen2", {"layer_types": ["chunked_attention", "full_attention"]}, "chunked_attention"),
        ("gemma", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
        ("gemma", {"hidden_activation": "relu"}, "hidden_activation"),
        ("gemma3_text", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
        ("gemma3_text", {"attn_logit_softcapping": 5.0}, "attn_logit_softcapping"),
        (
            "gemma3_text",
            {"rope_parameters": {"sliding_attention": {"rope_type": "linear", "factor": 2.0}}},
            "rope_type",
        ),
        ("phi3", {"rope_scaling": {"type": "longrope"}}, "longrope"),
        ("phi3", {"rope_parameters": {"rope_type": "yarn"}}, "yarn"),
        ("olmo", {"clip_qkv": 8.0}, "clip_qkv"),
        ("qwen3", {"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ("mixtral", {"num_local_experts": None}, "num_local_experts"),
    ],
)
def test_config_refusals(family: str, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        family_of({"model_type": family}).make_config({**SHAPE, **change})


def test_defaults_of_old_configs() -> None:
    """Fields that config.json lacked before transformers wrote them down."""

    def fields(family: str, **change: Any) -> dict[str, Any]:
        bare = {k: v for k, v in SHAPE.items() if k != "head_dim"}
        return family_of({"model_type": family}).make_config({**bare, **change})

    assert fields("mistral")["window_size"] == 4096
    assert fields("mistral", sliding_window=None)["window_size"] is None
    assert fields("mixtral", num_local_experts=2)["rotary_base"] == 1e6
    qwen = fields("qwen2", sliding_window=3)
    assert (qwen["window_size"], qwen["attn_types"]) == (None, ("global", "global"))
    qwen = fields("qwen2", sliding_window=3, use_sliding_window=True, max_window_layers=1)
    assert (qwen["window_size"], qwen["attn_types"]) == (3, ("global", "local"))
    gemma = fields("gemma2")
    assert gemma["attn_types"] == ("local", "global")
    assert (gemma["d_head"], gemma["attn_scale"], gemma["tie_word_embeddings"]) == (256, 16.0, True)
    gemma = fields("gemma3_text", num_hidden_layers=6, rope_scaling={"type": "linear", "factor": 8})
    assert gemma["attn_types"] == ("local",) * 5 + ("global",)
    assert (gemma["rotary_base"], gemma["rotary_base_local"]) == (1e6, 1e4)
    assert gemma["rotary_scaling"].factor == 8


@pytest.mark.parametrize("name", ["Mixtral 2 of 4", "Phi-3", "Gemma 2", "OLMo 2"])
def test_damaged_weights_are_named(name: str) -> None:
    hf_model = Case(name, CONFIGS[name], torch.float32).model()
    weight = "qkv_proj.weight" if name == "Phi-3" else "q_proj.weight"
    module = hf_model.model.layers[1].self_attn.get_submodule(weight.rpartition(".")[0])
    module.weight = torch.nn.Parameter(module.weight[:-1])
    with pytest.raises(InputError, match=rf"layers\.1\.self_attn\.{weight} does not fit"):
        HookedTransformer.from_hf(hf_model)


def test_norms_stored_less_one_keep_their_precision(tmp_path: Path) -> None:
    """A bf16 checkpoint opened in fp32: one is added in fp32."""
    hf_model = Case("", CONFIGS["Gemma"], torch.bfloat16).model()
    model = HookedTransformer.from_hf(hf_model, dtype="float32")
    stored = hf_model.model.norm.weight.float()
    assert torch.equal(model.ln_final.w, stored + 1)
    assert torch.equal(hf_model.model.norm.weight.float(), stored)


def test_experts_in_either_layout(tmp_path: Path) -> None:
    """Also on disk as they are in memory."""

    def up(model: Any) -> torch.Tensor:
        return model.blocks[1].mlp.W_in

    hf_model = Case("", CONFIGS["Mixtral 2 of 4"], torch.float32).model()
    model = HookedTransformer.from_hf(hf_model)
    hf_model.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    assert "model.layers.0.block_sparse_moe.experts.3.w1.weight" in load_file(path)
    assert torch.equal(
        load_model(tmp_path, device="cpu").blocks[1].mlp.W_in, model.blocks[1].mlp.W_in
    )
    save_file({k: v.contiguous() for k, v in hf_model.state_dict().items()}, path)
    assert torch.equal(
        load_model(tmp_path, device="cpu").blocks[1].mlp.W_in, model.blocks[1].mlp.W_in
    )
    weights = {k: v for k, v in hf_model.state_dict().items() if "layers.1.mlp.gate" not in k}
    save_file(weights, path)
    with pytest.raises(InputError, match=r"missing: layers\.1\.mlp\.gate\.weight"):
        load_model(tmp_path)
