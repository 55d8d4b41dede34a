from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from interp import InputError, load_model
from interp.pretrained.neox import make_config
from tests.interp.pretrained.parity import Case, parity_cases

transformers = pytest.importorskip("transformers", reason="needs the extra 'hf'")

SMALL: dict[str, Any] = {
    "vocab_size": 37, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 31, "max_position_embeddings": 50, "pad_token_id": None,
    "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
ODD: dict[str, Any] = {
    **SMALL, "hidden_size": 42, "num_hidden_layers": 3, "num_attention_heads": 3, "vocab_size": 29,
}  # fmt: skip


def _rope(part: float, kind: str = "default", **numbers: Any) -> dict[str, Any]:
    given = {"rope_type": kind, "rope_theta": 500.0, "partial_rotary_factor": part, **numbers}
    return {"rope_parameters": given}


CONFIGS = {
    "Pythia": lambda: transformers.GPTNeoXConfig(**SMALL),
    "odd, sequential, no biases": lambda: transformers.GPTNeoXConfig(
        **ODD, **_rope(0.3), use_parallel_residual=False, attention_bias=False,
        layer_norm_eps=0.02, hidden_act="gelu_new",
    ),
    "odd, tied, all turned": lambda: transformers.GPTNeoXConfig(
        **ODD, **_rope(1.0), tie_word_embeddings=True, hidden_act="relu"
    ),
    "linear": lambda: transformers.GPTNeoXConfig(**SMALL, **_rope(0.5, "linear", factor=3.0)),
}  # fmt: skip


@parity_cases(CONFIGS)
def test_parity(case: Case, tmp_path: Path) -> None:
    case.check(tmp_path)


def test_old_names_of_the_unembedding(tmp_path: Path) -> None:
    """As the Pythias on the hub have it, beside the masks that every layer once stored."""
    hf_model = Case("", CONFIGS["Pythia"], torch.float32).model()
    hf_model.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    weights = {k: v.clone() for k, v in hf_model.state_dict().items()}
    weights["embed_out.weight"] = weights.pop("lm_head.weight")
    for name, buffer in (("bias", torch.ones(1, 1, 9, 9).bool()), ("masked_bias", torch.ones(1))):
        weights[f"gpt_neox.layers.0.attention.{name}"] = buffer
    weights["gpt_neox.layers.0.attention.rotary_emb.inv_freq"] = torch.ones(1)
    save_file(weights, path)
    model = load_model(tmp_path, device="cpu")
    assert torch.equal(model.W_U, weights["embed_out.weight"].T)


def test_old_fields() -> None:
    config = make_config(SMALL)
    assert (config["rotary_dim"], config["rotary_base"]) == (2, 10_000.0)
    assert config["parallel_attn_mlp"] is True
    config = make_config({**SMALL, "rotary_pct": 0.5, "rotary_emb_base": 77})
    assert (config["rotary_dim"], config["rotary_base"]) == (4, 77.0)
    # What transformers 5 writes down comes first.
    config = make_config({**SMALL, **_rope(1.0), "rotary_pct": 0.5, "rotary_emb_base": 77})
    assert (config["rotary_dim"], config["rotary_base"]) == (8, 500.0)


def test_biases_are_expected_unless_the_config_says_otherwise(tmp_path: Path) -> None:
    hf_model = Case("", CONFIGS["Pythia"], torch.float32).model()
    hf_model.save_pretrained(tmp_path)
    weights = {k: v for k, v in hf_model.state_dict().items() if "1.attention.dense.b" not in k}
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=r"missing: layers\.1\.attention\.dense\.bias"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_rope(0.25, "longrope"), "longrope"),
        ({"hidden_act": "quick_gelu"}, "activation function"),
        ({"intermediate_size": None}, "intermediate_size"),
    ],
)
def test_config_refusals(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_config({**SMALL, **change})
