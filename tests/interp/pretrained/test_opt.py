from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from interp import HookedTransformer, InputError
from interp.pretrained.opt import make_config
from tests.interp.pretrained.parity import Case, parity_cases

transformers = pytest.importorskip("transformers", reason="needs the extra 'hf'")

SMALL: dict[str, Any] = {
    "vocab_size": 37, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
    "ffn_dim": 31, "max_position_embeddings": 50, "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
ODD: dict[str, Any] = {
    **SMALL, "hidden_size": 21, "num_hidden_layers": 3, "num_attention_heads": 3, "vocab_size": 29,
    "pad_token_id": None,
}  # fmt: skip

CONFIGS = {
    "norms before": lambda: transformers.OPTConfig(**SMALL),
    "odd, norms after, untied": lambda: transformers.OPTConfig(
        **ODD, do_layer_norm_before=False, tie_word_embeddings=False
    ),
    "odd, no final norm, no biases": lambda: transformers.OPTConfig(
        **ODD, _remove_final_layer_norm=True, enable_bias=False, activation_function="gelu"
    ),
    "odd, norms without weights": lambda: transformers.OPTConfig(
        **ODD, layer_norm_elementwise_affine=False
    ),
}


@parity_cases(CONFIGS)
def test_parity(case: Case, tmp_path: Path) -> None:
    case.check(tmp_path)


def test_positions_begin_at_the_third_vector() -> None:
    hf_model = Case("", CONFIGS["norms before"], torch.float32).model()
    model = HookedTransformer.from_hf(hf_model)
    assert torch.equal(model.W_pos, hf_model.model.decoder.embed_positions.weight[2:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"word_embed_proj_dim": 12}, "word_embed_proj_dim=12"),
        (
            {"do_layer_norm_before": False, "layer_norm_elementwise_affine": False},
            "layer_norm_elementwise_affine",
        ),
        ({"activation_function": "quick_gelu"}, "activation function"),
        ({"ffn_dim": None}, "ffn_dim"),
    ],
)
def test_config_refusals(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_config({**SMALL, **change})


def test_config() -> None:
    config = make_config(SMALL)
    assert (config["act_fn"], config["norm_placement"], config["final_norm"]) == (
        "relu", "pre", True,
    )  # fmt: skip
    assert make_config({**SMALL, "word_embed_proj_dim": 24})["d_model"] == 24
