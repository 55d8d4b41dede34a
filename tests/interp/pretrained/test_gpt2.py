from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from interp import HookedTransformer, InputError
from interp.pretrained.gpt2 import make_config
from tests.interp.pretrained.parity import Case, parity_cases

SHAPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "inner": {
        "n_inner": 17, "n_layer": 3, "activation_function": "gelu",
        "scale_attn_by_inverse_layer_idx": True,
    },
    "unscaled-untied": {
        "scale_attn_weights": False, "n_head": 1, "activation_function": "relu",
        "tie_word_embeddings": False,
    },
    "coarse-eps": {
        "n_embd": 20, "n_head": 4, "activation_function": "silu", "layer_norm_epsilon": 0.05,
    },
    "fast": {"n_layer": 1, "n_head": 6, "n_embd": 18, "activation_function": "gelu_fast"},
    "tanh-unscaled-inverse": {
        "n_layer": 4, "activation_function": "gelu_pytorch_tanh", "scale_attn_weights": False,
        "scale_attn_by_inverse_layer_idx": True, "vocab_size": 101, "n_positions": 9,
    },
}  # fmt: skip

shapes = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


def _tokens(shape: dict[str, Any]) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(shape.get("vocab_size", 37), (3, 9), generator=generator)


@shapes
@dtypes
def test_every_step_is_hugging_faces(
    shape: dict[str, Any], dtype: torch.dtype, hf_gpt2: Any, assert_same_run: Any
) -> None:
    hf_model = hf_gpt2(dtype, **shape)
    model = HookedTransformer.from_hf(hf_model)
    assert model.cfg.dtype == dtype
    assert_same_run(model, hf_model, _tokens(shape))


@pytest.mark.parametrize("side", ["left", "right"])
@dtypes
@pytest.mark.parametrize("name", ["plain", "inner"])
def test_padded_batches_are_hugging_faces(
    side: str,
    dtype: torch.dtype,
    name: str,
    hf_gpt2: Any,
    assert_same_run: Any,
    padded_batch: Callable[..., tuple[Tensor, Tensor]],
) -> None:
    hf_model = hf_gpt2(dtype, **SHAPES[name])
    assert_same_run(HookedTransformer.from_hf(hf_model), hf_model, *padded_batch(side, 37))


def test_upcast_attention_changes_nothing_in_fp32(hf_gpt2: Any, assert_same_run: Any) -> None:
    hf_model = hf_gpt2(reorder_and_upcast_attn=True, scale_attn_by_inverse_layer_idx=True)
    assert_same_run(HookedTransformer.from_hf(hf_model), hf_model, _tokens({}))


def test_base_model_without_a_head(hf_gpt2: Any, assert_close: Any) -> None:
    """`GPT2Model` names its weights without `transformer.`; its embedding is the unembedding."""
    hf_model = hf_gpt2()
    model = HookedTransformer.from_hf(hf_model.transformer)
    assert_close(model(_tokens({})), hf_model(_tokens({})).logits)


def test_config() -> None:
    fields = {"n_layer": 1, "n_embd": 8, "n_head": 2, "n_positions": 5, "vocab_size": 7}
    config = make_config(fields)
    assert config["act_fn"] == "gelu_new"
    assert config["d_mlp"] == 32
    assert config["tie_word_embeddings"] is True
    assert make_config({**fields, "n_inner": 3})["d_mlp"] == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"activation_function": "quick_gelu"}, "activation function"),
        ({"add_cross_attention": True}, "add_cross_attention"),
        ({"n_layer": None}, "n_layer"),
    ],
)
def test_config_refusals(change: dict[str, Any], message: str) -> None:
    fields = {"n_layer": 1, "n_embd": 8, "n_head": 2, "n_positions": 5, "vocab_size": 7}
    with pytest.raises(InputError, match=message):
        make_config({**fields, **change})


@pytest.mark.parametrize("n_tokens", [1, 9])
def test_longest_context(n_tokens: int, hf_gpt2: Any, assert_same_run: Any) -> None:
    """One token, and exactly as many as there are positions."""
    hf_model = hf_gpt2(n_positions=n_tokens)
    tokens = _tokens({})[:, :n_tokens]
    assert_same_run(HookedTransformer.from_hf(hf_model), hf_model, tokens)


def _config(**fields: Any) -> Callable[[], Any]:
    def make() -> Any:
        transformers = pytest.importorskip("transformers", reason="needs the extra 'hf'")
        none = {"bos_token_id": None, "eos_token_id": None, "n_positions": 50, "vocab_size": 37}
        return transformers.GPT2Config(**none, **fields)

    return make


CONFIGS = {
    "GPT-2": _config(n_embd=24, n_head=4, n_layer=2),
    "GPT-2 odd, untied, scaled by layer": _config(
        n_embd=21, n_head=3, n_layer=3, n_inner=17, tie_word_embeddings=False,
        scale_attn_by_inverse_layer_idx=True, activation_function="gelu",
    ),
}  # fmt: skip


@parity_cases(CONFIGS)
def test_parity(case: Case, tmp_path: Path) -> None:
    case.check(tmp_path)
