from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from interp import HookedTransformer, InputError
from interp.pretrained.bloom import make_config
from tests.interp.pretrained.parity import Case, in_fp64, parity_cases

transformers = pytest.importorskip("transformers", reason="needs the extra 'hf'")

SMALL: dict[str, Any] = {
    "vocab_size": 37, "hidden_size": 24, "n_layer": 2, "n_head": 4, "pad_token_id": None,
    "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
ODD: dict[str, Any] = {**SMALL, "hidden_size": 21, "n_layer": 3, "n_head": 3, "vocab_size": 29}

CONFIGS = {
    "four heads": lambda: transformers.BloomConfig(**SMALL),
    "odd, untied": lambda: transformers.BloomConfig(
        **ODD, tie_word_embeddings=False, layer_norm_epsilon=0.02
    ),
    "eleven heads": lambda: transformers.BloomConfig(**{**ODD, "hidden_size": 33, "n_head": 11}),
}


@parity_cases(CONFIGS)
def test_parity(case: Case, tmp_path: Path) -> None:
    case.check(tmp_path)


def test_base_model_without_a_head() -> None:
    """As the BLOOMs on the hub name their weights; the embedding is the unembedding."""
    hf_model = Case("", CONFIGS["four heads"], torch.float32).model()
    model = HookedTransformer.from_hf(hf_model.transformer)
    tokens = torch.arange(9)[None]
    assert torch.equal(model(tokens), HookedTransformer.from_hf(hf_model)(tokens))


def test_old_fields() -> None:
    bare = {k: v for k, v in SMALL.items() if k not in ("hidden_size", "n_head")}
    config = make_config({**bare, "n_embed": 30, "num_attention_heads": 5, "seq_length": 9})
    assert (config["d_model"], config["n_heads"], config["n_ctx"]) == (30, 5, 9)
    assert make_config(SMALL)["n_ctx"] == 2048


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"apply_residual_connection_post_layernorm": True}, "apply_residual_connection"),
        ({"slow_but_exact": True, "pretraining_tp": 2}, "slow_but_exact"),
        ({"n_head": None}, "n_head"),
        ({"hidden_size": None}, "hidden_size"),
    ],
)
def test_config_refusals(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_config({**SMALL, **change})


def test_slow_but_exact_on_one_device_changes_nothing() -> None:
    config = transformers.BloomConfig(**SMALL, slow_but_exact=True)
    hf_model = Case("", lambda: config, torch.float64).model()
    tokens = torch.arange(9)[None]
    with in_fp64():
        expected = hf_model(tokens).logits
    assert (HookedTransformer.from_hf(hf_model)(tokens) - expected).abs().max() < 1e-10
