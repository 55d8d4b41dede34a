from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from interp import HookedTransformer, InputError
from interp.pretrained.gptj import make_config
from tests.interp.pretrained.parity import Case, parity_cases

transformers = pytest.importorskip("transformers", reason="needs the extra 'hf'")

SMALL: dict[str, Any] = {
    "vocab_size": 37, "n_embd": 24, "n_layer": 2, "n_head": 4, "rotary_dim": 4, "n_positions": 50,
    "pad_token_id": None, "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
ODD: dict[str, Any] = {
    **SMALL, "n_embd": 42, "n_layer": 3, "n_head": 3, "rotary_dim": 14, "n_inner": 17,
    "vocab_size": 29,
}  # fmt: skip

CONFIGS = {
    "part turned": lambda: transformers.GPTJConfig(**SMALL),
    "odd, whole heads turned": lambda: transformers.GPTJConfig(
        **ODD, activation_function="gelu", layer_norm_epsilon=0.02
    ),
    "odd, tied": lambda: transformers.GPTJConfig(
        **{**ODD, "rotary_dim": 2}, tie_word_embeddings=True
    ),
}


@parity_cases(CONFIGS)
def test_parity(case: Case, tmp_path: Path) -> None:
    case.check(tmp_path)


def test_one_norm_is_given_to_both() -> None:
    """Attention and MLP read through the same norm, so each has a copy of it."""
    hf_model = Case("", CONFIGS["part turned"], torch.float32).model()
    model = HookedTransformer.from_hf(hf_model)
    for theirs, block in zip(hf_model.transformer.h, model.blocks, strict=True):
        for norm in (block.ln1, block.ln2):
            assert torch.equal(norm.w, theirs.ln_1.weight)
            assert torch.equal(norm.b, theirs.ln_1.bias)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rotary_dim": None}, "rotary_dim"),
        ({"activation_function": "quick_gelu"}, "activation function"),
        ({"n_positions": None}, "n_positions"),
    ],
)
def test_config_refusals(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_config({**SMALL, **change})


def test_config() -> None:
    config = make_config({k: v for k, v in SMALL.items() if k != "rotary_dim"})
    assert (config["rotary_dim"], config["d_mlp"], config["act_fn"]) == (64, 96, "gelu_new")
