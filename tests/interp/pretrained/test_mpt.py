from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from interp import HookedTransformer, InputError
from interp.pretrained.mpt import make_config
from tests.interp.pretrained.parity import Case, parity_cases

transformers = pytest.importorskip("transformers", reason="needs the extra 'hf'")

SMALL: dict[str, Any] = {
    "vocab_size": 37, "d_model": 24, "n_layers": 2, "n_heads": 4, "max_seq_len": 50,
}  # fmt: skip
ODD: dict[str, Any] = {**SMALL, "d_model": 21, "n_layers": 3, "n_heads": 3, "vocab_size": 29}

CONFIGS = {
    "four heads": lambda: transformers.MptConfig(**SMALL),
    "odd, own scale": lambda: transformers.MptConfig(
        **ODD, attn_config={"softmax_scale": 0.7}, layer_norm_epsilon=0.02
    ),
    "seven heads, untied": lambda: transformers.MptConfig(
        **{**ODD, "n_heads": 7}, tie_word_embeddings=False, norm_type="layernorm"
    ),
}


@parity_cases(CONFIGS)
def test_parity(case: Case, tmp_path: Path) -> None:
    case.check(tmp_path)


def test_there_are_no_biases() -> None:
    model = HookedTransformer.from_hf(Case("", CONFIGS["four heads"], torch.float32).model())
    for name, parameter in model.named_parameters():
        if name.rpartition(".")[2].startswith("b"):
            assert not parameter.any(), name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"no_bias": False}, "no_bias"),
        ({"expansion_ratio": 2}, "expansion_ratio"),
        ({"logit_scale": "inv_sqrt_d_model"}, "logit_scale"),
        ({"norm_type": "rmsnorm"}, "norm_type"),
        ({"attn_config": {"alibi": False}}, "alibi"),
        ({"attn_config": {"alibi_bias_max": 16}}, "alibi_bias_max"),  # MPT-7B-StoryWriter
        ({"attn_config": {"clip_qkv": 8.0}}, "clip_qkv"),
        ({"attn_config": {"qk_ln": True}}, "qk_ln"),
        ({"attn_config": {"prefix_lm": True}}, "prefix_lm"),
        ({"attn_config": {"attn_uses_sequence_id": True}}, "attn_uses_sequence_id"),
        ({"attn_config": {"attn_type": "multiquery_attention"}}, "multiquery_attention"),
        ({"attn_config": {"softmax_scale": 0.0}}, "softmax_scale"),
        ({"max_seq_len": None}, "max_seq_len"),
    ],
)
def test_config_refusals(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_config({**SMALL, **change})


def test_config() -> None:
    config = make_config(SMALL)
    assert (config["attn_scale"], config["d_mlp"]) == (6**0.5, 96)
    assert make_config({**SMALL, "attn_config": {"softmax_scale": 0.25}})["attn_scale"] == 4.0
