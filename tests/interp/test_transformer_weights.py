"""A model's weights and config: how they begin, their names, and what loading takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from interp import HookedTransformer, HookedTransformerConfig, InputError

MakeModel = Callable[..., HookedTransformer]
AssertClose = Callable[..., None]
LLAMA = {
    "normalization_type": "RMS", "positional_embedding_type": "rotary", "gated_mlp": True,
    "act_fn": "silu", "n_key_value_heads": 2,
}  # fmt: skip


def _tokens(batch: int = 3, n: int = 9, seed: int = 0) -> Tensor:
    return torch.randint(31, (batch, n), generator=torch.Generator().manual_seed(seed))


def _small(**fields: Any) -> HookedTransformer:
    base: dict[str, Any] = {
        "n_layers": 2, "d_model": 16, "n_ctx": 8, "n_heads": 4, "act_fn": "solu_ln", "d_vocab": 11,
        "device": "cpu", "n_key_value_heads": 2,
    }  # fmt: skip
    return HookedTransformer(HookedTransformerConfig(**{**base, **fields}))


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "float16"])
def test_seed_decides_the_weights_in_any_dtype(dtype: str) -> None:
    narrow, wide = _small(seed=5), _small(seed=5, dtype=dtype)
    other = _small(seed=6)
    for name, weight in narrow.state_dict().items():
        assert torch.equal(weight.to(wide.cfg.dtype), wide.state_dict()[name]), name
        if ".W_" in name or "._W_" in name:
            assert not torch.equal(weight, other.state_dict()[name]), name
            assert float(weight.std()) == pytest.approx(0.8 / 4, rel=0.3), name


def test_global_random_state_is_left_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = _small()
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(7)
    for name, weight in _small().state_dict().items():
        assert torch.equal(weight, first.state_dict()[name]), name


def test_config_is_copied() -> None:
    cfg = HookedTransformerConfig(
        n_layers=1, d_model=8, n_ctx=4, n_heads=2, act_fn="relu", d_vocab=5, device="cpu"
    )
    model = HookedTransformer(cfg)
    twin = HookedTransformer(cfg)
    cfg.n_layers = 7
    model.double()
    model.set_use_attn_result(True)
    assert model.cfg.n_layers == 1
    assert (cfg.dtype, cfg.use_attn_result) == (torch.float32, False)
    assert (twin.cfg.dtype, twin.cfg.use_attn_result) == (torch.float32, False)


def test_config_as_a_dictionary() -> None:
    fields = {
        "n_layers": 1, "d_model": 8, "n_ctx": 4, "n_heads": 2, "act_fn": "relu", "d_vocab": 5,
        "device": "cpu", "dtype": "float64",
    }  # fmt: skip
    assert HookedTransformer(fields).cfg.dtype == torch.float64
    with pytest.raises(InputError, match="n_lyers"):
        HookedTransformer({**fields, "n_lyers": 1})
    with pytest.raises(InputError, match="d_vocab"):
        HookedTransformer({**fields, "d_vocab": -1})


def test_assigned_weights_set_the_dtype(make_model: MakeModel, assert_close: AssertClose) -> None:
    model = make_model()
    expected = make_model(dtype="float64")(_tokens())
    state = make_model(dtype="float64").state_dict()
    model.load_state_dict(state, assign=True)
    assert model.cfg.dtype == torch.float64
    assert_close(model(_tokens()), expected)
    assert model.load_state_dict(make_model().state_dict()).missing_keys == []
    assert model.cfg.dtype == torch.float64


def test_tied_embeddings_are_one_tensor(make_model: MakeModel) -> None:
    model = make_model(tie_word_embeddings=True)
    assert "unembed.W_U" not in model.state_dict()
    with torch.no_grad():
        model.W_E[3] += 1.0
    assert torch.equal(model.W_U, model.W_E.T)
    model(_tokens(), return_type="loss").backward()
    tied = model.W_E.grad
    untied = make_model()
    untied.load_state_dict({**model.state_dict(), "unembed.W_U": model.W_E.T.clone()})
    untied(_tokens(), return_type="loss").backward()
    torch.testing.assert_close(tied, untied.W_E.grad + untied.W_U.grad.T)


def _lens_keys(n_layers: int, grouped: str, gated: bool, bias: bool) -> set[str]:
    """TransformerLens 3's names, without its buffers."""
    norm = ("w", "b") if bias else ("w",)
    keys = {"embed.W_E", "unembed.W_U", "unembed.b_U"} | {f"ln_final.{n}" for n in norm}
    for i in range(n_layers):
        kinds = [
            "W_Q",
            "W_O",
            "b_Q",
            "b_O",
            *(f"{grouped}{k}" for k in ("W_K", "W_V", "b_K", "b_V")),
        ]
        keys |= {f"blocks.{i}.attn.{k}" for k in kinds}
        keys |= {f"blocks.{i}.mlp.{k}" for k in ("W_in", "W_out", "b_in", "b_out")}
        keys |= {f"blocks.{i}.mlp.W_gate"} if gated else set()
        keys |= {f"blocks.{i}.ln{j}.{n}" for j in (1, 2) for n in norm}
    return keys


def test_state_dict_has_transformer_lens_names(make_model: MakeModel) -> None:
    assert set(make_model().state_dict()) == _lens_keys(2, "", False, True) | {"pos_embed.W_pos"}
    assert set(make_model(**LLAMA).state_dict()) == _lens_keys(2, "_", True, False)
    shapes = {k: tuple(v.shape) for k, v in make_model(**LLAMA).state_dict().items()}
    assert shapes["blocks.0.attn.W_Q"] == (4, 24, 6)
    assert shapes["blocks.0.attn._W_K"] == (2, 24, 6)
    assert shapes["blocks.0.attn._b_V"] == (2, 6)
    assert shapes["blocks.1.attn.W_O"] == (4, 6, 24)
    assert shapes["unembed.W_U"] == (24, 31)


@pytest.mark.parametrize("change", ["missing", "unexpected", "shape"])
def test_strict_loading(change: str, make_model: MakeModel) -> None:
    model = make_model()
    state = dict(model.state_dict())
    if change == "missing":
        del state["blocks.0.attn.W_Q"]
    elif change == "unexpected":
        state["blocks.0.attn.W_Z"] = torch.ones(1)
    else:
        state["blocks.0.attn.W_Q"] = torch.ones(4, 24, 7)
    with pytest.raises(RuntimeError, match=r"blocks\.0\.attn\.W_[QZ]"):
        model.load_state_dict(state)
    if change != "shape":
        model.load_state_dict(state, strict=False)


def test_tied_model_refuses_another_unembedding(make_model: MakeModel) -> None:
    model = make_model(tie_word_embeddings=True)
    state = dict(model.state_dict())
    model.load_state_dict({**state, "unembed.W_U": state["embed.W_E"].T.clone()})
    for W_U in (torch.zeros(24, 31), torch.zeros(31, 24)):
        with pytest.raises(InputError, match="tied"):
            model.load_state_dict({**state, "unembed.W_U": W_U})


def test_seed_none_draws_one_and_says_which() -> None:
    def make(seed: int | None) -> HookedTransformer:
        return HookedTransformer(
            {"n_layers": 1, "d_model": 8, "n_ctx": 4, "n_heads": 2, "d_vocab": 5, "attn_only": True}
            | {"seed": seed}
        )

    one, other = make(None), make(None)
    assert not torch.equal(one.W_E, other.W_E)
    assert torch.equal(one.W_E, make(one.cfg.seed).W_E)


def test_tokenizer_name_is_opened(
    make_model: MakeModel, third_party: Callable[[str], Path]
) -> None:
    stories = third_party("stories260K")
    model = make_model(d_vocab=512, tokenizer_name=str(stories))
    assert model.to_str_tokens("Once upon")[1:] == [" Once", " upon"]
    with pytest.raises(InputError, match="no tokenizer"):
        make_model(tokenizer_name=str(stories.parent))
