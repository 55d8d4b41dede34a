from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from interp import InputError
from interp.pretrained.phi import make_config
from tests.interp.pretrained.parity import Case, parity_cases

transformers = pytest.importorskip("transformers", reason="needs the extra 'hf'")

SMALL: dict[str, Any] = {
    "vocab_size": 37, "hidden_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 31, "max_position_embeddings": 50, "pad_token_id": None,
    "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
ODD: dict[str, Any] = {
    **SMALL, "hidden_size": 42, "num_hidden_layers": 3, "num_attention_heads": 3, "vocab_size": 29,
    "num_key_value_heads": 1,
}  # fmt: skip


def _rope(part: float, kind: str = "default", **numbers: Any) -> dict[str, Any]:
    given = {"rope_type": kind, "rope_theta": 500.0, "partial_rotary_factor": part, **numbers}
    return {"rope_parameters": given}


CONFIGS = {
    "Phi-2": lambda: transformers.PhiConfig(**SMALL, partial_rotary_factor=0.4),
    "odd, grouped, normalised queries and keys": lambda: transformers.PhiConfig(
        **ODD, **_rope(0.3), qk_layernorm=True, hidden_act="gelu", layer_norm_eps=0.02
    ),
    "odd, grouped, all turned, tied": lambda: transformers.PhiConfig(
        **{**ODD, "num_attention_heads": 6, "hidden_size": 36, "num_key_value_heads": 2},
        **_rope(1.0, "linear", factor=3.0), tie_word_embeddings=True,
    ),
    "normalised queries and keys": lambda: transformers.PhiConfig(
        **SMALL, **_rope(0.4), qk_layernorm=True
    ),
}  # fmt: skip


@parity_cases(CONFIGS)
def test_parity(case: Case, tmp_path: Path) -> None:
    case.check(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_rope(0.4, "longrope"), "longrope"),
        ({"hidden_act": "quick_gelu"}, "activation function"),
        ({"intermediate_size": None}, "intermediate_size"),
    ],
)
def test_config_refusals(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_config({**SMALL, **change})


def test_config() -> None:
    config = make_config({**SMALL, "hidden_size": 80, "partial_rotary_factor": 0.4})
    assert (config["rotary_dim"], config["n_key_value_heads"], config["qk_norm"]) == (8, 4, None)
    assert make_config({**SMALL, "hidden_size": 48})["rotary_dim"] == 6  # half, by default
