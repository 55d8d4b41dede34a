"""A configuration fills in what was left out, keeps its rules, and survives a round trip."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp import HookedTransformer, HookedTransformerConfig, InputError
from tests.covering import examples

Make = Callable[..., HookedTransformer]

BASE: dict[str, Any] = {
    "n_layers": 2,
    "d_model": 24,
    "n_ctx": 16,
    "n_heads": 4,
    "d_vocab": 31,
    "act_fn": "gelu",
    "device": "cpu",
}


def config(**fields: Any) -> HookedTransformerConfig:
    return HookedTransformerConfig(**{**BASE, **fields})


def test_what_is_left_out_is_filled_in() -> None:
    cfg = config()
    assert cfg.d_head == 6
    assert cfg.d_mlp == 96
    assert cfg.width_mlp == 96
    assert cfg.d_vocab_out == 31
    assert cfg.n_key_value_heads == cfg.n_kv_heads == 4
    assert cfg.attn_scale == math.sqrt(6)
    assert cfg.initializer_range == pytest.approx(0.8 / math.sqrt(24))
    assert cfg.rotary_dim is None
    assert cfg.dtype is torch.float32
    assert cfg.torch_device == torch.device("cpu")
    assert config(positional_embedding_type="rotary").rotary_dim == 6
    assert config(n_heads=-1, d_head=8).n_heads == 3
    assert config(use_attn_scale=False).attn_scale == 1.0
    assert config(d_head=16).attn_scale == 4.0
    cfg = config(attn_only=True, act_fn=None)
    assert cfg.d_mlp is None
    with pytest.raises(InputError, match="attn_only"):
        cfg.width_mlp  # noqa: B018


@pytest.mark.parametrize("name", ["float64", "float32", "bfloat16", "float16", "torch.float64"])
def test_dtypes_by_name(name: str) -> None:
    dtype = getattr(torch, name.removeprefix("torch."))
    assert config(dtype=name).dtype is dtype
    assert config(dtype=dtype).dtype is dtype


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"n_layers": -1}, "n_layers"),
        ({"n_layers": 1.5}, "n_layers"),
        ({"d_model": 0}, "d_model|d_head"),
        ({"n_ctx": 0}, "n_ctx"),
        ({"n_heads": -1}, "d_head"),
        ({"n_heads": 0}, "d_head|n_heads"),
        ({"n_heads": 5}, "n_heads does not divide d_model"),
        ({"n_heads": -1, "d_head": 7}, "d_head does not divide d_model"),
        ({"d_head": 0}, "d_head"),
        ({"n_key_value_heads": 3}, "n_key_value_heads must divide n_heads"),
        ({"n_key_value_heads": 0}, "n_key_value_heads"),
        ({"n_key_value_heads": 8}, "n_key_value_heads"),
        ({"normalization_type": "BN"}, "normalization_type"),
        ({"positional_embedding_type": "sines"}, "positional_embedding_type"),
        ({"attention_dir": "backwards"}, "attention_dir"),
        ({"init_mode": "kaiming"}, "init_mode"),
        ({"act_fn": None}, "act_fn"),
        ({"act_fn": "swish"}, "act_fn"),
        ({"d_mlp": 0}, "d_mlp"),
        ({"d_mlp": 2.0}, "d_mlp"),
        ({"gated_mlp": True, "act_fn": "solu_ln"}, "solu_ln"),
        ({"attn_only": True, "act_fn": None, "gated_mlp": True}, "gated_mlp needs an MLP"),
        ({"attn_only": True, "act_fn": None, "d_mlp": 8}, "d_mlp is of an MLP"),
        ({"attn_only": True, "act_fn": "relu"}, "act_fn is of an MLP"),
        ({"attn_only": True, "parallel_attn_mlp": True}, "parallel_attn_mlp needs an MLP"),
        ({"attn_scale": 0.0}, "attn_scale"),
        ({"attn_scale": -2.0}, "attn_scale"),
        ({"use_attn_scale": False, "attn_scale": 3.0}, "use_attn_scale"),
        ({"eps": -1e-5}, "eps"),
        ({"eps": math.nan}, "eps"),
        ({"eps": "small"}, "eps"),
        ({"rotary_base": 0.0, "positional_embedding_type": "rotary"}, "rotary_base"),
        ({"initializer_range": -0.5}, "initializer_range"),
        ({"rotary_dim": 3, "positional_embedding_type": "rotary"}, "rotary_dim"),
        ({"rotary_dim": 8, "positional_embedding_type": "rotary"}, "rotary_dim"),
        ({"rotary_dim": 0, "positional_embedding_type": "rotary"}, "rotary_dim"),
        ({"n_heads": 8, "positional_embedding_type": "rotary"}, "rotary_dim"),
        ({"tie_word_embeddings": True, "d_vocab_out": 7}, "d_vocab_out == d_vocab"),
        ({"d_vocab": 0}, "d_vocab"),
        ({"d_vocab": -3}, "d_vocab"),
        ({"d_vocab_out": 0}, "d_vocab_out"),
        ({"d_vocab_out": -3}, "d_vocab_out"),
        ({"dtype": "float8"}, "dtype"),
        ({"dtype": torch.int64}, "dtype"),
    ],
)
def test_every_rule_is_kept(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text) as caught:
        config(**fields)
    assert str(caught.value).endswith(".")
    with pytest.raises(InputError, match=text):
        HookedTransformerConfig.from_dict({**BASE, **fields})


def test_a_model_needs_a_vocabulary() -> None:
    with pytest.raises(InputError, match="d_vocab"):
        HookedTransformer(config(d_vocab=-1))


@st.composite
def _fields(draw: st.DrawFn) -> dict[str, Any]:
    """Some fields of a valid config; the rest is left out."""
    all_fields: dict[str, Any] = {
        "n_layers": st.integers(0, 3),
        "n_heads": st.sampled_from([1, 2, 4]),
        "d_head": st.sampled_from([2, 4, 10]),
        "d_mlp": st.integers(1, 9),
        "d_vocab_out": st.integers(1, 9),
        "eps": st.sampled_from([0.0, 1e-6]),
        "normalization_type": st.sampled_from(["LN", "LNPre", "RMS", "RMSPre", None]),
        "positional_embedding_type": st.sampled_from(["standard", "rotary", "none"]),
        "attention_dir": st.sampled_from(["causal", "bidirectional"]),
        "n_key_value_heads": st.just(1),
        "attn_scale": st.sampled_from([0.5, 3.0]),
        "rotary_dim": st.just(2),
        "rotary_base": st.sampled_from([10.0, 5e5]),
        "gated_mlp": st.booleans(),
        "parallel_attn_mlp": st.booleans(),
        "use_attn_result": st.booleans(),
        "tokenizer_name": st.sampled_from([None, "a/b"]),
        "dtype": st.sampled_from(["float64", torch.float32, torch.bfloat16]),
        "weight_processing": st.sampled_from([(), ("fold_ln", "center_unembed")]),
        "seed": st.integers(0, 5),
    }
    fields = draw(st.fixed_dictionaries({}, optional=all_fields))
    if fields.get("positional_embedding_type") != "rotary":
        fields = {k: v for k, v in fields.items() if not k.startswith("rotary_")}
    return fields


@settings(max_examples=examples(100), deadline=None, derandomize=True)
@given(fields=_fields())
def test_round_trip_through_json(fields: dict[str, Any]) -> None:
    cfg = config(**fields)
    for name, value in fields.items():
        expected = getattr(torch, value) if name == "dtype" and isinstance(value, str) else value
        assert getattr(cfg, name) == expected, name
    plain = json.loads(json.dumps(cfg.to_dict()))
    back = HookedTransformerConfig.from_dict(plain)
    assert back == cfg
    assert back.to_dict() == cfg.to_dict() == plain
    assert cfg.replace() == cfg
    assert cfg.replace() is not cfg
    assert isinstance(back.weight_processing, tuple)


def test_unknown_and_missing_fields() -> None:
    with pytest.raises(InputError, match="unknown config fields: d_modle, n_head"):
        HookedTransformerConfig.from_dict({**BASE, "d_modle": 1, "n_head": 2})
    with pytest.raises(InputError, match="unknown config field: d_modle"):
        config().replace(d_modle=1)
    with pytest.raises(InputError, match=re.escape("n_layers")):
        HookedTransformerConfig.from_dict({k: v for k, v in BASE.items() if k != "n_layers"})
    with pytest.raises(InputError, match="unknown"):
        HookedTransformer({**BASE, "d_modle": 1})


def test_replace_fills_in_anew_what_was_left_out() -> None:
    cfg = config(positional_embedding_type="rotary")
    wider = cfg.replace(d_model=48)
    assert wider == config(d_model=48, positional_embedding_type="rotary")
    assert (wider.d_head, wider.d_mlp, wider.rotary_dim) == (12, 192, 12)
    assert wider.attn_scale == math.sqrt(12)
    assert cfg.replace(n_heads=2).n_key_value_heads == 2
    assert cfg.replace(use_attn_scale=False).attn_scale == 1.0
    assert cfg.replace(d_vocab=7).d_vocab_out == 7
    given = config(d_head=8, d_mlp=5, attn_scale=2.0, initializer_range=0.3).replace(d_model=48)
    assert (given.d_head, given.d_mlp, given.attn_scale) == (8, 5, 2.0)
    assert given.initializer_range == 0.3
    with pytest.raises(InputError, match="n_heads"):
        cfg.replace(n_heads=5)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("attn_scale", 3.0),
        ("d_mlp", 7),
        ("d_vocab_out", 5),
        ("n_key_value_heads", 2),
        ("d_head", 10),
        ("initializer_range", 0.5),
        ("eps", 0.1),
        ("act_fn", "relu"),
        ("seed", 3),
    ],
)
def test_assigned_fields_count(name: str, value: Any) -> None:
    cfg = config()
    setattr(cfg, name, value)
    assert getattr(cfg.replace(), name) == value
    assert getattr(cfg.replace(n_layers=1), name) == value
    model = HookedTransformer(cfg)
    assert getattr(model.cfg, name) == value
    assert getattr(HookedTransformer(cfg.to_dict()).cfg, name) == value


def test_a_model_keeps_its_own_config() -> None:
    cfg = config()
    model = HookedTransformer(cfg)
    model.set_use_attn_result(True)
    assert not cfg.use_attn_result
    cfg.use_attn_in = True
    assert not model.cfg.use_attn_in
    model.to(torch.float64)
    assert model.cfg.dtype is torch.float64
    assert cfg.dtype is torch.float32
    assert model.W_E.dtype is torch.float64


@pytest.mark.parametrize(
    "fields", [{}, {"n_key_value_heads": 2}, {"gated_mlp": True}, {"attn_only": True}]
)
def test_n_params_counts_the_weights_of_heads_and_mlps(
    make_model: Make, fields: dict[str, Any]
) -> None:
    model = make_model(**fields)
    counted = sum(
        p.numel()
        for name, p in model.named_parameters()
        if name.startswith("blocks") and name.rsplit(".", 1)[-1].lstrip("_").startswith("W")
    )
    assert model.cfg.n_params == counted


def test_seeds() -> None:
    before = torch.get_rng_state()
    one, same, other = (HookedTransformer(config(seed=s)) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    for (name, a), b, c in zip(
        one.named_parameters(), same.parameters(), other.parameters(), strict=True
    ):
        assert torch.equal(a, b), name
        kind = name.rsplit(".", 1)[-1].lstrip("_")
        assert torch.equal(a, c) != kind.startswith("W"), name
        if kind.startswith("b"):
            assert not a.any(), name
    wide = HookedTransformer(config(seed=1, dtype="float64"))
    assert torch.equal(wide.W_E.float(), one.W_E)
    deviation = one.W_in.std() / (0.8 / math.sqrt(24))
    assert 0.9 < deviation < 1.1


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"rotary_base": 5.0}, "rotary_base needs rotary positions"),
        ({"rotary_adjacent_pairs": True}, "rotary_adjacent_pairs needs rotary"),
        ({"sinusoidal_layout": "halves"}, "sinusoidal_layout needs sinusoidal"),
        ({"alibi_max_bias": 4.0}, "alibi_max_bias needs alibi"),
        ({"relative_attention_num_buckets": 8}, "needs relative_positional_bias"),
        ({"positional_embedding_type": "rotary", "rotary_base_local": 9.0}, "needs local layers"),
        ({"window_size": 3, "attn_types": ("global",)}, "window_size needs local layers"),
        ({"attn_types": ("local",)}, "local layers need a window_size"),
        ({"attn_types": ("global", "global")}, "for each of 1 layers"),
        ({"head_act_fn": "tanh"}, "head_act_fn needs another head"),
        ({"head": "mlm", "head_act_fn": "solu_ln"}, "head_act_fn must be one of"),
        ({"head": "classification"}, "reads the first token"),
        ({"experts_per_token": 2}, "experts_per_token needs num_experts"),
        ({"num_experts": 2, "experts_per_token": 3, "gated_mlp": True}, "1 … num_experts"),
        ({"num_experts": 2, "experts_per_token": 1}, "experts are gated"),
        ({"attn_only": "false"}, "attn_only must be True or False"),
        ({"final_norm": "no"}, "final_norm must be True or False"),
        ({"output_logits_soft_cap": float("inf")}, "output_logits_soft_cap"),
        ({"attn_scores_soft_cap": 0.0}, "attn_scores_soft_cap"),
        ({"qk_norm": "head", "normalization_type": None}, "needs a normalization_type"),
        ({"norm_placement": "post", "normalization_type": "LNPre"}, "nothing can take them"),
        ({"norm_placement": "post", "parallel_attn_mlp": True}, "needs norm_placement='pre'"),
        ({"n_encoder_layers": 1}, "needs architecture='encoder-decoder'"),
        ({"decoder_start_token_id": 1}, "needs architecture='encoder-decoder'"),
        ({"architecture": "encoder", "attention_dir": "causal"}, "'bidirectional'"),
        ({"architecture": "encoder-decoder", "n_token_types": 2}, "no token types"),
        ({"weight_processing": "fold_ln"}, "must be a list"),
        (
            {"positional_embedding_type": "rotary", "rotary_scaling": {"kind": "linear"}},
            "rotary_scaling must give",
        ),
    ],
)
def test_fields_without_a_meaning_here_are_refused(fields: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=re.escape(match)):
        config(**{"n_layers": 1, **fields})
