"""The page's table of hooks holds every hook of every kind of model, with its shape."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from interp import HookedTransformer, HookedTransformerConfig

PAGE = Path(__file__).parents[2] / "docs" / "hooks-and-caches.md"
BATCH, POS, SOURCE_POS = 2, 6, 8
SMALL: dict[str, Any] = {
    "n_layers": 2,
    "d_model": 12,
    "n_heads": 4,
    "d_head": 10,
    "n_ctx": 9,
    "d_vocab": 7,
    "d_vocab_out": 11,
    "d_mlp": 5,
    "act_fn": "gelu",
    "device": "cpu",
}
KINDS: dict[str, dict[str, Any]] = {
    "plain": {"post_embedding_ln": True, "act_fn": "solu_ln"},
    "grouped": {
        "n_key_value_heads": 2,
        "positional_embedding_type": "rotary",
        "qk_norm": "head",
        "gated_mlp": True,
        "norm_placement": "sandwich",
        "normalization_type": "RMS",
    },
    "output": {"norm_placement": "output", "qk_norm": "full", "normalization_type": "RMS"},
    "attention-only": {"positional_embedding_type": "alibi", "attn_only": True, "act_fn": None}
    | {"d_mlp": None},
    "parallel": {"positional_embedding_type": "shortformer", "parallel_attn_mlp": True},
    "mixture": {"num_experts": 3, "experts_per_token": 2, "gated_mlp": True},
    "masked": {"architecture": "encoder", "head": "mlm", "n_token_types": 2}
    | {"norm_placement": "post"},
    "next-sentence": {"architecture": "encoder", "head": "next-sentence", "d_vocab_out": 2},
    "both": {
        "architecture": "encoder-decoder",
        "positional_embedding_type": "relative_positional_bias",
        "norm_placement": "sandwich",
    },
}


def documented() -> dict[str, str]:
    """Hook name with `{l}` → its shape's axes, as the page has them."""
    text = PAGE.read_text(encoding="utf-8")
    marked = text.partition("<!-- hooks -->")[2].partition("<!-- end of hooks -->")[0]
    return dict(re.findall(r"^\| `([^`]+)` \| ([^|]+?) \|", marked, re.MULTILINE))


def _lengths(cfg: HookedTransformerConfig, name: str, pos: int, source_pos: int) -> dict[str, Any]:
    """The axes' lengths in one model at one hook; some of the page's words mean several axes."""
    kv_heads = cfg.n_kv_heads
    of_keys = ".k_norm." in name
    heads = kv_heads if of_keys else cfg.n_heads
    apart = cfg.qk_norm == "head"
    rows = [BATCH] if cfg.classifies else [BATCH, pos]
    expert = [] if cfg.num_experts is None else [cfg.num_experts]
    return {
        "batch": [BATCH],
        "pos": [pos],
        "key_pos": [pos],
        "source_pos": [source_pos],
        "head": [cfg.n_heads],
        "kv_head": [kv_heads],
        "d_head": [cfg.d_head],
        "d_model": [cfg.d_model],
        "d_mlp": [cfg.d_mlp],
        "d_vocab_out": [cfg.d_vocab_out],
        "1": [1],
        "expert": expert,
        "mlp_inside": [*expert, cfg.d_mlp],
        "logit_rows": rows,
        "qk_heads": [heads] if apart else [],
        "qk_width": [heads, cfg.d_head] if apart else [heads * cfg.d_head],
    }


@pytest.mark.parametrize("kind", KINDS)
def test_every_hook_of_a_model_is_in_the_table_with_its_shape(kind: str) -> None:
    cfg = HookedTransformerConfig(**{**SMALL, **KINDS[kind]})
    model = HookedTransformer(cfg)
    table = documented()
    both = cfg.architecture == "encoder-decoder"
    tokens = torch.zeros(BATCH, SOURCE_POS if both else POS, dtype=torch.long)
    more = {"decoder_input": torch.zeros(BATCH, POS, dtype=torch.long)} if both else {}
    _, found = model.record(tokens, names_filter=lambda name: True, **more)
    assert found.keys() == model.hook_dict.keys()
    for name, tensor in found.items():
        alone = re.sub(r"^(encoder|decoder)\.", "", name)
        row = re.sub(r"^blocks\.\d+\.", "blocks.{l}.", alone)
        assert row in table, f"{row} of {kind} is not in the table"
        pos = SOURCE_POS if name.startswith("encoder.") else POS
        lengths = _lengths(cfg, name, pos, SOURCE_POS)
        shape = [length for axis in table[row].split() for length in lengths[axis]]
        assert list(tensor.shape) == shape, f"{name} of {kind}: the table has {table[row]}"


def test_the_table_holds_no_hook_that_no_model_has() -> None:
    names: set[str] = set()
    for fields in KINDS.values():
        model = HookedTransformer({**SMALL, **fields})
        for name in model.hook_dict:
            alone = re.sub(r"^(encoder|decoder)\.", "", name)
            names.add(re.sub(r"^blocks\.\d+\.", "blocks.{l}.", alone))
    assert documented().keys() == names
