from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from interp import HookedTransformer, InputError
from interp.pretrained.falcon import make_config
from tests.interp.pretrained.parity import Case, parity_cases

transformers = pytest.importorskip("transformers", reason="needs the extra 'hf'")

SMALL: dict[str, Any] = {
    "vocab_size": 37, "hidden_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 50, "pad_token_id": None, "bos_token_id": None,
    "eos_token_id": None,
}  # fmt: skip
ODD: dict[str, Any] = {
    **SMALL, "hidden_size": 42, "num_hidden_layers": 3, "num_attention_heads": 3, "vocab_size": 29,
    "ffn_hidden_size": 31,
}  # fmt: skip
SIX: dict[str, Any] = {**ODD, "hidden_size": 36, "num_attention_heads": 6}
NEW: dict[str, Any] = {"new_decoder_architecture": True}

CONFIGS = {
    "7B: one key for all heads": lambda: transformers.FalconConfig(**SMALL),
    "7B odd, biases, untied": lambda: transformers.FalconConfig(
        **ODD, bias=True, tie_word_embeddings=False, activation="relu", layer_norm_epsilon=0.02
    ),
    "40B: groups, two norms": lambda: transformers.FalconConfig(**SMALL, **NEW, num_kv_heads=2),
    "40B odd, three groups, biases": lambda: transformers.FalconConfig(
        **SIX, **NEW, num_kv_heads=3, bias=True
    ),
    "40B odd, own keys": lambda: transformers.FalconConfig(**ODD, **NEW),
    "11B: groups, one norm": lambda: transformers.FalconConfig(
        **SIX, **NEW, num_kv_heads=2, num_ln_in_parallel_attn=1,
        rope_parameters={"rope_type": "default", "rope_theta": 500.0},
    ),
    "sequential, own keys, biases": lambda: transformers.FalconConfig(
        **ODD, parallel_attn=False, multi_query=False, bias=True
    ),
    "sequential, one key for all heads, linear": lambda: transformers.FalconConfig(
        **SMALL, parallel_attn=False,
        rope_parameters={"rope_type": "linear", "rope_theta": 500.0, "factor": 3.0},
    ),
}  # fmt: skip


@parity_cases(CONFIGS)
def test_parity(case: Case, tmp_path: Path) -> None:
    case.check(tmp_path)


@pytest.mark.parametrize("name", ["7B: one key for all heads", "40B: groups, two norms"])
def test_damaged_weights_are_named(name: str) -> None:
    hf_model = Case(name, CONFIGS[name], torch.float32).model()
    module = hf_model.transformer.h[1].self_attention.query_key_value
    module.weight = torch.nn.Parameter(module.weight[:-1])
    with pytest.raises(InputError, match=r"h\.1\.self_attention\.query_key_value.*does not fit"):
        HookedTransformer.from_hf(hf_model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alibi": True}, "bfloat16"),
        ({**NEW, "parallel_attn": False}, "parallel_attn=False"),
        ({**NEW, "num_ln_in_parallel_attn": 3}, "num_ln_in_parallel_attn=3"),
        ({"num_ln_in_parallel_attn": 2}, "num_ln_in_parallel_attn=2"),
        ({"activation": "quick_gelu"}, "activation function"),
        ({"rope_parameters": {"rope_type": "longrope"}}, "longrope"),
        ({"num_attention_heads": None}, "num_attention_heads"),
    ],
)
def test_config_refusals(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_config({**SMALL, **change})


def test_config() -> None:
    config = make_config(SMALL)
    assert (config["n_key_value_heads"], config["parallel_attn_mlp"]) == (1, True)
    assert (config["d_mlp"], config["act_fn"]) == (160, "gelu")
    # Only the new architecture reads num_kv_heads.
    assert make_config({**SMALL, "num_kv_heads": 2})["n_key_value_heads"] == 1
    assert make_config({**SMALL, **NEW, "num_kv_heads": 2})["n_key_value_heads"] == 2
    assert make_config({**SMALL, **NEW})["n_key_value_heads"] == 4


def test_hugging_faces_alibi_is_no_single_thing() -> None:
    """Why it is refused: eager and fused attention differ, far beyond rounding."""
    config = transformers.FalconConfig(
        **ODD, alibi=True, multi_query=False, parallel_attn=False, bias=True
    )
    hf_model = Case("", lambda: config, torch.float32).model()
    logits = []
    for kind in ("eager", "sdpa"):
        hf_model.config._attn_implementation = kind
        logits.append(hf_model(torch.arange(9)[None]).logits)
    assert (logits[0] - logits[1]).abs().max() > 0.01
    with pytest.raises(InputError, match="alibi"):
        HookedTransformer.from_hf(hf_model)
