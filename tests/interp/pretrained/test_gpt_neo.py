from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from interp import InputError, load_model
from interp.pretrained.gpt_neo import attention_types, make_config
from tests.interp.pretrained.parity import Case, parity_cases

transformers = pytest.importorskip("transformers", reason="needs the extra 'hf'")

SMALL: dict[str, Any] = {
    "vocab_size": 37, "hidden_size": 24, "num_layers": 2, "num_heads": 4,
    "attention_types": [[["global", "local"], 1]], "window_size": 4, "pad_token_id": None,
    "bos_token_id": None, "eos_token_id": None, "max_position_embeddings": 50,
}  # fmt: skip
ODD: dict[str, Any] = {
    **SMALL, "hidden_size": 21, "num_layers": 3, "num_heads": 3, "intermediate_size": 17,
    "attention_types": [[["local"], 2], [["global"], 1]], "window_size": 3, "vocab_size": 29,
}  # fmt: skip

CONFIGS = {
    "global and local": lambda: transformers.GPTNeoConfig(**SMALL),
    "odd, untied": lambda: transformers.GPTNeoConfig(
        **ODD, tie_word_embeddings=False, activation_function="relu", layer_norm_epsilon=0.02
    ),
    "global only": lambda: transformers.GPTNeoConfig(
        **{**ODD, "attention_types": [[["global"], 3]]}
    ),
}


@parity_cases(CONFIGS)
def test_parity(case: Case, tmp_path: Path) -> None:
    case.check(tmp_path)


def test_masks_of_old_checkpoints_are_left_out(tmp_path: Path) -> None:
    hf_model = Case("", CONFIGS["global and local"], torch.float32).model()
    hf_model.save_pretrained(tmp_path)
    weights = {k: v.clone() for k, v in hf_model.state_dict().items() if k != "lm_head.weight"}
    for name, mask in (("bias", torch.ones(1, 1, 9, 9).bool()), ("masked_bias", torch.ones(1))):
        weights[f"transformer.h.0.attn.attention.{name}"] = mask
    save_file(weights, tmp_path / "model.safetensors")
    model = load_model(tmp_path, device="cpu")
    assert torch.equal(model.W_E, hf_model.transformer.wte.weight)


def test_config() -> None:
    config = make_config(SMALL)
    assert (config["attn_types"], config["window_size"]) == (("global", "local"), 4)
    assert (config["d_mlp"], config["use_attn_scale"]) == (96, False)
    assert make_config({k: v for k, v in SMALL.items() if k != "window_size"})["window_size"] == 256
    everywhere = make_config({**SMALL, "attention_types": [[["global"], 2]]})
    assert everywhere["window_size"] is None


def test_attention_types() -> None:
    """Without them, as Hugging Face has it: by turns in 24 layers."""
    assert attention_types({"num_layers": 24}) == ("global", "local") * 12


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_layers": 3}, "each of 3 layers"),
        ({"attention_types": None}, "each of 2 layers"),
        ({"attention_types": [[["global", "sparse"], 1]]}, "sparse"),
        ({"activation_function": "quick_gelu"}, "activation function"),
        ({"num_heads": None}, "num_heads"),
    ],
)
def test_config_refusals(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_config({**SMALL, **change})
