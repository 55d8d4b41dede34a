from __future__ import annotations

from typing import Any

import pytest
import torch

from interp import HookedTransformer, HookedTransformerConfig, InputError
from interp.positions.rotary import RotaryPositions
from interp.rotary_scaling import RotaryScaling

CPU = torch.device("cpu")

CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "linear": (
        {"kind": "linear", "factor": 4.0, "original_n_ctx": 64},
        {"rope_type": "linear", "factor": 4.0},
    ),
    "dynamic": (
        {"kind": "dynamic", "factor": 3.0, "original_n_ctx": 64},
        {"rope_type": "dynamic", "factor": 3.0},
    ),
    "yarn": (
        {"kind": "yarn", "factor": 8.0, "original_n_ctx": 64},
        {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 64},
    ),
    "yarn, other numbers": (
        {
            "kind": "yarn",
            "factor": 2.5,
            "original_n_ctx": 32,
            "beta_fast": 20.0,
            "beta_slow": 2.0,
            "attention_factor": 1.3,
        },
        {
            "rope_type": "yarn",
            "factor": 2.5,
            "original_max_position_embeddings": 32,
            "beta_fast": 20.0,
            "beta_slow": 2.0,
            "attention_factor": 1.3,
        },
    ),
    "llama3": (
        {"kind": "llama3", "factor": 8.0, "original_n_ctx": 64},
        {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    ),
}


def rotary(scaling: dict[str, Any], base: float = 10_000.0) -> RotaryPositions:
    cfg = HookedTransformerConfig(
        n_layers=0,
        d_model=24,
        d_head=24,
        n_ctx=64,
        attn_only=True,
        positional_embedding_type="rotary",
        rotary_scaling=scaling,
        rotary_base=base,
        device="cpu",
    )
    return RotaryPositions(cfg)


@pytest.mark.parametrize("base", [10_000.0, 500_000.0])
@pytest.mark.parametrize("length", [10, 64, 65, 200])
@pytest.mark.parametrize("case", CASES)
def test_frequencies_are_those_of_transformers(case: str, length: int, base: float) -> None:
    rope = pytest.importorskip("transformers.modeling_rope_utils", reason="needs the extra 'hf'")
    llama = pytest.importorskip("transformers", reason="needs the extra 'hf'").LlamaConfig
    ours, theirs = CASES[case]
    config = llama(
        hidden_size=24,
        num_attention_heads=1,
        head_dim=24,
        max_position_embeddings=64,
        rope_parameters={**theirs, "rope_theta": base},
    )
    wanted, factor = rope.ROPE_INIT_FUNCTIONS[theirs["rope_type"]](config, CPU, seq_len=length)
    encoding = rotary(ours, base)
    found = encoding.frequencies(CPU, torch.float32, length)
    assert (found[:12] - wanted).abs().max() <= 1e-7
    assert torch.equal(found[12:], found[:12])
    cos, sin = encoding.table(length, CPU, torch.float32)
    assert ((cos**2 + sin**2).sqrt() - factor).abs().max() <= 1e-5


def test_only_dynamic_scaling_depends_on_the_length() -> None:
    for case, (ours, _) in CASES.items():
        encoding = rotary(ours)
        short, long = (encoding.frequencies(CPU, torch.float64, n) for n in (64, 300))
        assert torch.equal(short, long) != (case == "dynamic")
        assert encoding.depends_on_length == (case == "dynamic")


def test_a_table_is_made_anew_where_the_length_decides() -> None:
    encoding = rotary(CASES["dynamic"][0])
    fresh = rotary(CASES["dynamic"][0])
    long, _ = encoding.table(200, CPU, torch.float64)
    short, _ = encoding.table(20, CPU, torch.float64)
    wanted, _ = fresh.table(20, CPU, torch.float64)
    assert torch.equal(short[:20], wanted[:20])
    assert not torch.equal(short[:20], long[:20])


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"kind": "quadratic"}, "kind must be one of"),
        ({"factor": 0}, "factor"),
        ({"original_n_ctx": 0}, "original_n_ctx"),
        ({"low_freq_factor": 4.0}, "low_freq_factor must be below"),
    ],
)
def test_rules(fields: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match):
        RotaryScaling(**{**CASES["linear"][0], **fields})


def test_it_belongs_to_rotary_positions_and_travels_with_the_config() -> None:
    fields: dict[str, Any] = {"n_layers": 0, "d_model": 8, "d_head": 8, "n_ctx": 4}
    scaling = CASES["yarn"][0]
    with pytest.raises(InputError, match="rotary_scaling needs rotary positions"):
        HookedTransformerConfig(**fields, attn_only=True, rotary_scaling=scaling)
    cfg = HookedTransformerConfig(
        **fields, attn_only=True, positional_embedding_type="rotary", rotary_scaling=scaling
    )
    assert HookedTransformerConfig.from_dict(cfg.to_dict()) == cfg
    assert cfg.replace(n_ctx=9).rotary_scaling == RotaryScaling(**scaling)


@pytest.mark.parametrize("side", ["left", "right"])
def test_texts_of_a_batch_are_stretched_by_their_own_lengths(side: Any) -> None:
    pytest.importorskip("tokenizers", reason="needs the extra 'hf'")
    from interp.zoo.recipes.symbols import VOCABULARY, make_tokenizer

    cfg = HookedTransformerConfig(
        n_layers=2, d_model=16, n_heads=2, n_ctx=32, d_vocab=len(VOCABULARY), act_fn="relu",
        positional_embedding_type="rotary", initializer_range=0.4,
        rotary_scaling={"kind": "dynamic", "factor": 3.0, "original_n_ctx": 3},
        dtype=torch.float64, device="cpu",
    )  # fmt: skip
    model = HookedTransformer(cfg, make_tokenizer())
    texts = ["a b c d e f g h", "q w"]
    together = model(texts, padding_side=side)[1]
    alone = model(texts[1])[0]
    real = together[-len(alone) :] if side == "left" else together[: len(alone)]
    assert (real - alone).abs().max() <= 1e-10
