from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from interp import HookedTransformer, InputError
from interp.pretrained.stablelm import make_config
from tests.interp.pretrained.parity import Case, parity_cases

transformers = pytest.importorskip("transformers", reason="needs the extra 'hf'")

SMALL: dict[str, Any] = {
    "vocab_size": 37, "hidden_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 4, "intermediate_size": 31, "max_position_embeddings": 50,
    "pad_token_id": None, "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
ODD: dict[str, Any] = {
    **SMALL, "hidden_size": 42, "num_hidden_layers": 3, "num_attention_heads": 3, "vocab_size": 29,
    "num_key_value_heads": 1,
}  # fmt: skip
SIX: dict[str, Any] = {
    **ODD, "num_attention_heads": 6, "hidden_size": 36, "num_key_value_heads": 2
}  # fmt: skip


def _rope(part: float, kind: str = "default", **numbers: Any) -> dict[str, Any]:
    given = {"rope_type": kind, "rope_theta": 500.0, "partial_rotary_factor": part, **numbers}
    return {"rope_parameters": given}


CONFIGS = {
    "3B": lambda: transformers.StableLmConfig(**SMALL),
    "odd, grouped, biases": lambda: transformers.StableLmConfig(
        **ODD, **_rope(0.3), use_qkv_bias=True, hidden_act="gelu", layer_norm_eps=0.02
    ),
    "12B: beside the MLP, heads normalised": lambda: transformers.StableLmConfig(
        **SIX, **_rope(1.0), use_parallel_residual=True, qk_layernorm=True
    ),
    "heads normalised, biases, tied, linear": lambda: transformers.StableLmConfig(
        **SMALL, **_rope(0.4, "linear", factor=3.0), qk_layernorm=True, use_qkv_bias=True,
        tie_word_embeddings=True,
    ),
}  # fmt: skip


@parity_cases(CONFIGS)
def test_parity(case: Case, tmp_path: Path) -> None:
    case.check(tmp_path)


def test_every_head_has_norms_of_its_own() -> None:
    name = "12B: beside the MLP, heads normalised"
    hf_model = Case("", CONFIGS[name], torch.float32).model()
    model = HookedTransformer.from_hf(hf_model)
    theirs, ours = hf_model.model.layers[1].self_attn, model.blocks[1].attn
    assert (ours.q_norm.w.shape, ours.k_norm.w.shape) == ((6, 6), (2, 6))
    for h, norm in enumerate(theirs.q_layernorm.norms):
        assert torch.equal(ours.q_norm.w[h], norm.weight)
    for h, norm in enumerate(theirs.k_layernorm.norms):
        assert torch.equal(ours.k_norm.w[h], norm.weight)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_rope(0.4, "longrope"), "longrope"),
        ({"rope_scaling": {"type": "linear"}}, "factor"),
        ({"hidden_act": "quick_gelu"}, "activation function"),
        ({"intermediate_size": None}, "intermediate_size"),
    ],
)
def test_config_refusals(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_config({**SMALL, **change})


def test_config() -> None:
    config = make_config({**SMALL, "hidden_size": 96, "rope_theta": 77})
    assert (config["rotary_dim"], config["rotary_base"]) == (6, 77.0)  # a quarter, by default
    config = make_config({**SMALL, "hidden_size": 96, "partial_rotary_factor": 0.5})
    assert config["rotary_dim"] == 12
    scaled = make_config({**SMALL, "rope_scaling": {"type": "linear", "factor": 4.0}})
    assert scaled["rotary_scaling"].factor == 4.0
