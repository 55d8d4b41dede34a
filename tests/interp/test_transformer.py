from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from interp import HookedTransformer, InputError

MakeModel = Callable[..., HookedTransformer]
AssertClose = Callable[..., None]
LLAMA = {
    "normalization_type": "RMS", "positional_embedding_type": "rotary", "gated_mlp": True,
    "act_fn": "silu", "n_key_value_heads": 2,
}  # fmt: skip
VARIANTS: dict[str, dict[str, Any]] = {
    "gpt2": {},
    "llama": LLAMA,
    "one-kv-head": {**LLAMA, "n_key_value_heads": 1, "tie_word_embeddings": True},
    "gpt-j": {
        "positional_embedding_type": "rotary", "rotary_dim": 4, "rotary_adjacent_pairs": True,
        "parallel_attn_mlp": True, "rotary_base": 50.0, "act_fn": "gelu_fast",
    },
    "neox": {"positional_embedding_type": "rotary", "rotary_dim": 2, "parallel_attn_mlp": True},
    "attn-only": {"attn_only": True, "normalization_type": None, "n_layers": 3},
    "attn-only-grouped": {"attn_only": True, "n_key_value_heads": 2, "attn_scale": 1.7},
    "solu": {"act_fn": "solu", "normalization_type": "LNPre"},
    "solu_ln": {"act_fn": "solu_ln"},
    "solu_ln-pre": {"act_fn": "solu_ln", "normalization_type": "LNPre"},
    "solu_ln-bare": {"act_fn": "solu_ln", "normalization_type": None},
    "rms-pre": {"normalization_type": "RMSPre", "act_fn": "relu", "eps": 0.1},
    "gated-ln": {"gated_mlp": True, "act_fn": "gelu_new", "eps": 0.1},
    "no-positions": {"positional_embedding_type": "none", "scale_attn_by_inverse_layer_idx": True},
    "encoder": {"attention_dir": "bidirectional", "use_attn_scale": False},
    "encoder-rotary": {**LLAMA, "attention_dir": "bidirectional"},
    "wide-out": {"d_vocab_out": 35, "tie_word_embeddings": False, "d_head": 3},
    "no-layers": {"n_layers": 0},
    "ungrouped": {**LLAMA, "ungroup_grouped_query_attention": True},
}  # fmt: skip
variants = pytest.mark.parametrize("fields", VARIANTS.values(), ids=VARIANTS)


def _tokens(batch: int = 3, n: int = 9, seed: int = 0) -> Tensor:
    return torch.randint(31, (batch, n), generator=torch.Generator().manual_seed(seed))


def _restated(model: HookedTransformer, row: Tensor) -> dict[str, Tensor]:
    """What the config says, one row of tokens, one head and one pair of positions at a time."""
    cfg, w = model.cfg, model.state_dict()
    n = len(row)

    def norm(x: Tensor, name: str, kind: str | None) -> Tensor:
        if kind is None:
            return x
        if kind.startswith("LN"):
            x = x - x.mean(-1, keepdim=True)
        x = x / (x.square().mean(-1, keepdim=True) + cfg.eps).sqrt()
        x = x * w[f"{name}.w"] if f"{name}.w" in w else x
        return x + w[f"{name}.b"] if f"{name}.b" in w else x

    def act(x: Tensor) -> Tensor:
        tanh = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
        kinds = {
            "relu": lambda: x.clamp(min=0),
            "gelu": lambda: x * (1 + torch.erf(x / math.sqrt(2))) / 2,
            "gelu_new": lambda: x * (1 + torch.tanh(tanh)) / 2,
            "gelu_fast": lambda: x * (1 + torch.tanh(0.7978845608 * (x + 0.044715 * x**3))) / 2,
            "silu": lambda: x / (1 + torch.exp(-x)),
            "solu": lambda: x * x.softmax(-1),
            "solu_ln": lambda: x * x.softmax(-1),
        }
        assert cfg.act_fn is not None
        return kinds[cfg.act_fn]()

    def turned(x: Tensor, t: int) -> Tensor:
        if cfg.positional_embedding_type != "rotary":
            return x
        assert cfg.rotary_dim is not None
        out, half = x.clone(), cfg.rotary_dim // 2
        for i in range(half):
            a, b = (2 * i, 2 * i + 1) if cfg.rotary_adjacent_pairs else (i, i + half)
            angle = t * cfg.rotary_base ** (-2 * i / cfg.rotary_dim)
            out[a] = x[a] * math.cos(angle) - x[b] * math.sin(angle)
            out[b] = x[a] * math.sin(angle) + x[b] * math.cos(angle)
        return out

    resid = w["embed.W_E"][row]
    if cfg.positional_embedding_type == "standard":
        resid = resid + w["pos_embed.W_pos"][:n]
    out: dict[str, Tensor] = {}
    grouped = "_" if cfg.n_kv_heads != cfg.n_heads else ""
    for layer in range(cfg.n_layers):
        name = f"blocks.{layer}."
        a = f"{name}attn."
        out[f"{name}hook_resid_pre"] = resid
        x = norm(resid, f"{name}ln1", cfg.normalization_type)
        attn_out, patterns = w[f"{a}b_O"].expand_as(resid), []
        for h in range(cfg.n_heads):
            kv = h // (cfg.n_heads // cfg.n_kv_heads)
            q = x @ w[f"{a}W_Q"][h] + w[f"{a}b_Q"][h]
            k = x @ w[f"{a}{grouped}W_K"][kv] + w[f"{a}{grouped}b_K"][kv]
            v = x @ w[f"{a}{grouped}W_V"][kv] + w[f"{a}{grouped}b_V"][kv]
            pattern = torch.zeros(n, n, dtype=x.dtype)
            for i in range(n):
                seen = range(n) if cfg.attention_dir == "bidirectional" else range(i + 1)
                scale = cfg.attn_scale
                if cfg.scale_attn_by_inverse_layer_idx:
                    scale *= layer + 1
                scores = [turned(q[i], i) @ turned(k[j], j) / scale for j in seen]
                pattern[i, : len(scores)] = torch.stack(scores).softmax(0)
            patterns.append(pattern)
            attn_out = attn_out + pattern @ v @ w[f"{a}W_O"][h]
        out[f"{a}hook_pattern"] = torch.stack(patterns)
        out[f"{name}hook_attn_out"] = attn_out
        if cfg.attn_only:
            resid = resid + attn_out
            continue
        mlp_reads = resid if cfg.parallel_attn_mlp else resid + attn_out
        x = norm(mlp_reads, f"{name}ln2", cfg.normalization_type)
        m = f"{name}mlp."
        if cfg.gated_mlp:
            post = act(x @ w[f"{m}W_gate"]) * (x @ w[f"{m}W_in"]) + w[f"{m}b_in"]
        else:
            post = act(x @ w[f"{m}W_in"] + w[f"{m}b_in"])
        if cfg.act_fn == "solu_ln":
            post = norm(post, f"{m}ln", "LN")
        out[f"{m}hook_post"] = post
        out[f"{name}hook_mlp_out"] = post @ w[f"{m}W_out"] + w[f"{m}b_out"]
        resid = resid + attn_out + out[f"{name}hook_mlp_out"]
        out[f"{name}hook_resid_post"] = resid
    W_U = w["embed.W_E"].T if cfg.tie_word_embeddings else w["unembed.W_U"]
    out["logits"] = norm(resid, "ln_final", cfg.normalization_type) @ W_U + w["unembed.b_U"]
    return out


@variants
def test_every_step_is_what_the_config_says(
    fields: dict[str, Any], make_model: MakeModel, assert_close: AssertClose
) -> None:
    model = make_model(dtype="float64", **fields)
    tokens = _tokens(2, 6)
    with torch.no_grad():
        logits, cache = model.run_with_cache(tokens)
        fused = model(tokens)
    for i, row in enumerate(tokens):
        expected = _restated(model, row)
        assert_close(fused[i], expected["logits"], "logits, attention fused")
        assert_close(logits[i], expected.pop("logits"), "logits")
        for name, value in expected.items():
            assert_close(cache[name][i], value, name)


def _masks(side: str) -> tuple[Tensor, list[slice]]:
    """Rows of 9, 4 and 1 tokens."""
    lengths = (9, 4, 1)
    places = [slice(0, n) if side == "right" else slice(9 - n, 9) for n in lengths]
    mask = torch.zeros(3, 9, dtype=torch.long)
    for i, place in enumerate(places):
        mask[i, place] = 1
    return mask, places


@variants
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("watched", [True, False], ids=["explicit", "fused"])
def test_padded_batch_is_its_rows(
    fields: dict[str, Any],
    side: str,
    watched: bool,
    make_model: MakeModel,
    assert_close: AssertClose,
) -> None:
    model = make_model(dtype="float64", **fields)
    tokens, (mask, places) = _tokens(), _masks(side)

    def run(tokens: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        names = None if watched else ["hook_embed"]
        out, _ = model.run_with_cache(
            tokens, attention_mask=mask, return_type="both", loss_per_token=True, names_filter=names
        )
        return out

    with torch.no_grad():
        logits, losses = run(tokens, mask)
        for i, place in enumerate(places):
            alone, loss_alone = run(tokens[i : i + 1, place])
            assert_close(logits[i : i + 1, place], alone, f"row {i}")
            inside = losses[i : i + 1, place.start : place.stop - 1]
            assert_close(inside, loss_alone, f"loss of row {i}")
            assert float(losses[i].sum()) == pytest.approx(float(loss_alone.sum()), rel=1e-12)


def test_padding_never_shows(make_model: MakeModel) -> None:
    """Whatever tokens stand where the mask is 0, real positions give the same bits."""
    model = make_model(**LLAMA)
    mask, _ = _masks("left")
    tokens = _tokens()
    other = torch.where(mask.bool(), tokens, (tokens + 1) % 31)
    first, second = (model(t, attention_mask=mask)[mask.bool()] for t in (tokens, other))
    assert torch.equal(first, second)


def test_mask_without_padding_changes_nothing(
    make_model: MakeModel, assert_close: AssertClose
) -> None:
    model = make_model(dtype="float64")
    mask = torch.ones_like(_tokens())
    assert_close(model(_tokens(), attention_mask=mask), model(_tokens()))
    assert_close(model(_tokens(), attention_mask=mask.bool()), model(_tokens()))


def test_hole_in_the_middle_is_skipped(make_model: MakeModel, assert_close: AssertClose) -> None:
    model = make_model(dtype="float64", **LLAMA)
    mask = torch.tensor([[1, 1, 0, 0, 1, 1]])
    tokens = _tokens(1, 6)
    assert_close(
        model(tokens, attention_mask=mask)[mask.bool()], model(tokens[mask.bool()][None])[0]
    )


@pytest.mark.parametrize("fields", [{}, LLAMA, VARIANTS["gpt-j"]], ids=str)
@pytest.mark.parametrize("layer", [0, 1, 2, 3, -1, -3])
def test_stop_and_start_meet(
    fields: dict[str, Any], layer: int, make_model: MakeModel, assert_close: AssertClose
) -> None:
    model = make_model(**{**fields, "n_layers": 3})
    tokens = _tokens()
    logits, cache = model.run_with_cache(tokens)
    residual = model(tokens, stop_at_layer=layer)
    number = layer % 3 if layer < 3 else 3
    name = ("resid_pre", number) if number < 3 else ("resid_post", 2)
    assert_close(residual, cache[name])
    before = residual.clone()
    assert_close(model(residual, start_at_layer=layer), logits)
    assert torch.equal(residual, before)
    loss = model(residual, start_at_layer=layer, tokens=tokens, return_type="loss")
    assert_close(loss, model(tokens, return_type="loss"))


def test_start_in_the_middle_of_padding(make_model: MakeModel, assert_close: AssertClose) -> None:
    model = make_model(dtype="float64", **LLAMA)
    mask, _ = _masks("left")
    whole = model(_tokens(), attention_mask=mask)
    residual = model(_tokens(), attention_mask=mask, stop_at_layer=1)
    rest = model(residual, attention_mask=mask, start_at_layer=1)
    assert_close(rest[mask.bool()], whole[mask.bool()])


@pytest.mark.parametrize("side", ["left", "right"])
def test_loss_counts_real_predictions_alone(
    side: str, make_model: MakeModel, assert_close: AssertClose
) -> None:
    """Rows of 9, 4 and 1 tokens make 8 + 3 + 0 predictions."""
    model = make_model(dtype="float64")
    tokens, (mask, places) = _tokens(), _masks(side)
    loss = model(tokens, attention_mask=mask, return_type="loss")
    sums = [
        model(tokens[i : i + 1, place], return_type="loss", loss_per_token=True).sum()
        for i, place in enumerate(places)
    ]
    assert_close(loss, torch.stack(sums).sum() / 11)


@pytest.mark.parametrize("positions", ["rotary", "none"])
def test_other_positions_go_past_the_context(
    positions: str, make_model: MakeModel, assert_close: AssertClose
) -> None:
    """The first tokens' logits do not know how long the text goes on."""
    model = make_model(positional_embedding_type=positions, n_ctx=4, dtype="float64")
    tokens = _tokens(1, 20)
    assert_close(model(tokens)[:, :4], model(tokens[:, :4]))


@variants
def test_moving_dtype_updates_the_config(
    fields: dict[str, Any], make_model: MakeModel, assert_close: AssertClose
) -> None:
    model = make_model(**fields)
    narrow = model(_tokens())
    model = model.to(torch.float64)
    assert model.cfg.dtype == torch.float64
    logits, cache = model.run_with_cache(_tokens())
    assert {t.dtype for t in cache.values()} == {torch.float64}
    assert_close(logits.float(), narrow)
    assert model.float().cfg.dtype == torch.float32
    assert model(_tokens()).dtype == torch.float32


@variants
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_runs_here(
    fields: dict[str, Any], dtype: str, make_model: MakeModel
) -> None:
    """Explicitly, fused, padded, and near what fp32 gives for the same weights."""
    model = make_model(dtype=dtype, **fields)
    mask, _ = _masks("left")
    logits, cache = model.run_with_cache(_tokens(), attention_mask=mask)
    fused = model(_tokens(), attention_mask=mask)
    assert logits.dtype == fused.dtype == model.cfg.dtype
    assert all(v.isfinite().all() for k, v in cache.items() if "scores" not in k)
    for layer in range(model.cfg.n_layers):
        assert cache["pattern", layer].dtype == cache["resid_post", layer].dtype == model.cfg.dtype
    expected = model.float()(_tokens(), attention_mask=mask)[mask.bool()]
    rounding = torch.finfo(getattr(torch, dtype)).eps * expected.abs().max()
    for found in (logits, fused):
        assert (found.float()[mask.bool()] - expected).abs().max() < 8 * rounding


def test_second_derivatives_without_fused_attention(make_model: MakeModel) -> None:
    """Fused kernels have none; the config can turn them off."""
    model = make_model(use_fused_attention=False, dtype="float64")
    loss = model(_tokens(), return_type="loss")
    (gradient,) = torch.autograd.grad(loss, model.blocks[0].attn.W_Q, create_graph=True)
    (second,) = torch.autograd.grad(gradient.pow(2).sum(), model.W_E)
    assert second.abs().max() > 0


def test_tokens_beside_tokens_are_refused(make_model: MakeModel) -> None:
    with pytest.raises(InputError, match="start_at_layer"):
        make_model()(_tokens(), tokens=_tokens())
