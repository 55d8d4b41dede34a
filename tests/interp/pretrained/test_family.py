from __future__ import annotations

from typing import Any

import pytest
import torch

from interp import HookedTransformerConfig, InputError
from interp.pretrained import families
from interp.pretrained.family import Family, Row, activation, refuse, required
from interp.pretrained.rows import unless


@pytest.fixture
def cfg() -> HookedTransformerConfig:
    return HookedTransformerConfig(
        n_layers=2, d_model=6, n_ctx=4, n_heads=3, d_head=2, act_fn="relu", d_vocab=5, device="cpu"
    )


def test_convert_splits_heads_without_a_copy(cfg: HookedTransformerConfig) -> None:
    theirs = torch.randn(6, 18)
    row = Row("W_K", "c_attn", "d_model (qkv head d_head) -> qkv head d_model d_head", 1)
    ours = row.convert(theirs, cfg)
    assert ours.shape == (3, 6, 2)
    assert torch.equal(ours[2], theirs[:, 6 + 4 : 6 + 6])
    assert ours.untyped_storage().data_ptr() == theirs.untyped_storage().data_ptr()


@pytest.mark.parametrize("family", families(), ids=lambda f: f.name)
def test_table_names_every_weight_once(family: Family, cfg: HookedTransformerConfig) -> None:
    """One row per weight: none of ours twice, no layer left out, the head only where untied."""
    for tied in (True, False):
        tied_cfg = cfg.replace(tie_word_embeddings=tied)
        ours = [name for name, _, _ in family.table(tied_cfg)]
        assert len(ours) == len(set(ours))
        assert ("unembed.W_U" in ours) != tied
        assert {n.replace("blocks.0", "blocks.1") for n in ours if "blocks.0" in n} == {
            n for n in ours if "blocks.1" in n
        }


@pytest.mark.parametrize(
    ("when", "config", "there"),
    [
        ("", {}, True),
        ("bias", {}, False),
        ("bias", {"bias": True}, True),
        (unless("bias"), {}, True),
        (unless("bias"), {"bias": None}, True),
        (unless("bias"), {"bias": False}, False),
    ],
)
def test_when_their_config_has_it(when: Any, config: dict[str, Any], there: bool) -> None:
    assert Row("b", "bias", when=when).is_in(config) == there


def test_rows_of_parts(cfg: HookedTransformerConfig) -> None:
    cfg = cfg.replace(n_key_value_heads=1)
    parts = {
        "w": [{}],
        "w[{h}]": [{"h": 0}, {"h": 1}, {"h": 2}],
        "w[{g}]": [{"g": 0}],
        "w[{e}]": [],
    }
    for ours, expected in parts.items():
        assert Row(ours, "").parts(cfg) == expected


def test_required() -> None:
    assert required({"n": 0}, "n") == 0
    with pytest.raises(InputError, match="'n'"):
        required({"n": None}, "n")


def test_refuse() -> None:
    refuse({"bias": False, "other": 3}, bias=False)
    refuse({"bias": None}, bias=False)
    refuse({}, bias=False)
    with pytest.raises(InputError, match="bias=True"):
        refuse({"bias": True}, bias=False)


def test_activation() -> None:
    assert activation("swish") == "silu"
    with pytest.raises(InputError, match="mish"):
        activation("mish")
