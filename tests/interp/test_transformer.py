from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from interp import HookedTransformer, HookedTransformerConfig, InputError, KeyValueCache

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


# --- the arithmetic ------------------------------------------------------------------------------


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


# --- a batch is its rows -------------------------------------------------------------------------


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


@pytest.mark.parametrize("fields", [{}, LLAMA, VARIANTS["one-kv-head"]], ids=str)
@pytest.mark.parametrize("cuts", [(1,) * 9, (4, 5), (2, 1, 6), (9,)], ids=str)
@pytest.mark.parametrize("padded", [True, False], ids=["padded", "whole"])
@pytest.mark.parametrize("watched", [True, False], ids=["explicit", "fused"])
def test_in_pieces_with_a_key_value_cache(
    fields: dict[str, Any],
    cuts: tuple[int, ...],
    padded: bool,
    watched: bool,
    make_model: MakeModel,
    assert_close: AssertClose,
) -> None:
    model = make_model(dtype="float64", **fields)
    tokens, (mask, _) = _tokens(), _masks("left")
    mask = mask if padded else torch.ones_like(mask)
    whole = model(tokens, attention_mask=mask if padded else None)
    past = KeyValueCache.init_cache(model.cfg, "cpu", 3)
    pieces, start = [], 0
    for n in cuts:
        piece = slice(start, start + n)
        piece_mask = mask[:, piece] if padded else None
        args = {"attention_mask": piece_mask, "past_kv_cache": past}
        if watched:
            out, cache = model.run_with_cache(tokens[:, piece], **args)
            assert cache["pattern", 0].shape == (3, 4, n, start + n)
        else:
            out = model(tokens[:, piece], **args)
        pieces.append(out)
        start += n
        assert len(past) == start
    assert_close(torch.cat(pieces, 1)[mask.bool()], whole[mask.bool()])


def test_cache_takes_padding_only_later(make_model: MakeModel, assert_close: AssertClose) -> None:
    """A mask in the second run only, with a hole in it."""
    model = make_model(dtype="float64", **LLAMA)
    tokens = _tokens(2, 8)
    past = KeyValueCache.init_cache(model.cfg, "cpu", 2)
    model(tokens[:, :3], past_kv_cache=past)
    mask = torch.tensor([[1, 1, 1, 1, 1], [0, 1, 1, 0, 1]])
    out = model(tokens[:, 3:], attention_mask=mask, past_kv_cache=past)
    whole = torch.cat([torch.ones(2, 3).long(), mask], 1).bool()
    for row in range(2):
        alone = model(tokens[row][whole[row]][None])[0, 3:]
        assert_close(out[row][mask[row].bool()], alone)


# --- arguments -----------------------------------------------------------------------------------


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


def test_return_types(make_model: MakeModel) -> None:
    model = make_model()
    tokens = _tokens()
    logits = model(tokens)
    assert logits.shape == (3, 9, 31)
    assert model(tokens, return_type=None) is None
    loss = model(tokens, return_type="loss")
    assert loss.shape == ()
    both = model(tokens, return_type="both")
    assert torch.equal(both.logits, logits)
    assert torch.equal(both.loss, loss)
    per_token = model(tokens, return_type="loss", loss_per_token=True)
    assert per_token.shape == (3, 8)
    assert torch.equal(model(tokens[0]), model(tokens[:1]))
    with pytest.raises(InputError, match="return_type"):
        model(tokens, return_type="logit")


def test_loss_is_the_cross_entropy(make_model: MakeModel, assert_close: AssertClose) -> None:
    model = make_model(dtype="float64")
    tokens = _tokens()
    log_probs = model(tokens).log_softmax(-1)
    by_hand = torch.stack(
        [
            torch.stack([-log_probs[row, t, tokens[row, t + 1]] for t in range(8)])
            for row in range(3)
        ]
    )
    assert_close(model(tokens, return_type="loss", loss_per_token=True), by_hand)
    assert_close(model(tokens, return_type="loss"), by_hand.mean())


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


def test_loss_of_half_precision_is_taken_in_fp32(make_model: MakeModel) -> None:
    model = make_model(dtype="bfloat16")
    loss = model(_tokens(), return_type="loss")
    assert loss.dtype == torch.float32
    logits = model(_tokens()).float()
    assert loss.item() == pytest.approx(
        F.cross_entropy(logits[:, :-1].flatten(0, 1), _tokens()[:, 1:].flatten()).item(), abs=1e-5
    )


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8], ids=str)
def test_tokens_of_any_whole_dtype(dtype: torch.dtype, make_model: MakeModel) -> None:
    model = make_model()
    found = model(_tokens().to(dtype), return_type="both")
    expected = model(_tokens(), return_type="both")
    assert torch.equal(found.logits, expected.logits)
    assert torch.equal(found.loss, expected.loss)


BAD_CALLS: dict[str, tuple[Callable[[HookedTransformer], object], str]] = {
    "token too large": (lambda m: m(torch.tensor([[31]])), r"0 … 30"),
    "negative token": (lambda m: m(torch.tensor([[3, -1]])), r"0 … 30"),
    "float tokens": (lambda m: m(torch.ones(1, 3)), "whole numbers"),
    "bool tokens": (lambda m: m(torch.ones(1, 3).bool()), "whole numbers"),
    "three axes": (lambda m: m(torch.ones(1, 3, 2).long()), r"\[batch, pos\]"),
    "no tokens": (lambda m: m(torch.ones(1, 0).long()), "at least one"),
    "scalar": (lambda m: m(torch.tensor(3)), r"\[batch, pos\]"),
    "a number": (lambda m: m(3), "int"),
    "None": (lambda m: m(None), "None"),
    "text": (lambda m: m("hello"), "tokenizer"),
    "a list of ids": (lambda m: m([1, 2]), "text"),
    "past the positions": (lambda m: m(torch.ones(1, 17).long()), r"n_ctx \(16\)"),
    "mask of one row": (
        lambda m: m(_tokens(), attention_mask=torch.ones(1, 9).long()), "attention_mask"
    ),
    "mask too short": (
        lambda m: m(_tokens(), attention_mask=torch.ones(3, 8).long()), "attention_mask"
    ),
    "mask of scores": (
        lambda m: m(_tokens(), attention_mask=torch.ones(3, 1, 9, 9)), "attention_mask"
    ),
    "stop past the end": (lambda m: m(_tokens(), stop_at_layer=3), "stop_at_layer"),
    "start before the start": (
        lambda m: m(torch.ones(1, 2, 24), start_at_layer=-3), "start_at_layer"
    ),
    "tokens as a residual": (lambda m: m(_tokens(), start_at_layer=1), "residual stream"),
    "wrong width": (lambda m: m(torch.ones(1, 2, 23), start_at_layer=1), r"\[batch, pos, 24\]"),
    "cache of another batch": (
        lambda m: m(_tokens(), past_kv_cache=KeyValueCache.init_cache(m.cfg, "cpu", 2)), "batch",
    ),
    "loss without tokens": (
        lambda m: m(torch.ones(1, 2, 24), start_at_layer=1, return_type="loss"), "tokens"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("call", "message"), BAD_CALLS.values(), ids=BAD_CALLS)
def test_bad_calls(
    call: Callable[[HookedTransformer], object], message: str, make_model: MakeModel
) -> None:
    model = make_model()
    with pytest.raises(InputError, match=message):
        call(model)
    model(_tokens())  # and nothing is left behind


def test_cached_tokens_count_towards_the_context(make_model: MakeModel) -> None:
    model = make_model(n_ctx=5)
    past = KeyValueCache.init_cache(model.cfg, "cpu", 3)
    model(_tokens(3, 4), past_kv_cache=past)
    with pytest.raises(InputError, match="n_ctx"):
        model(_tokens(3, 2), past_kv_cache=past)
    assert len(past) == 4
    model(_tokens(3, 1), past_kv_cache=past)


@pytest.mark.parametrize("watched", [True, False], ids=["explicit", "fused"])
def test_failed_run_leaves_the_cache(
    watched: bool, make_model: MakeModel, assert_close: AssertClose
) -> None:
    """A hook that raises in the middle of a run: the cache is as it was before."""
    model = make_model(dtype="float64")
    tokens = _tokens()
    past = KeyValueCache.init_cache(model.cfg, "cpu", 3)
    model(tokens[:, :3], past_kv_cache=past)

    def fail(x: Tensor, hook: Any) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        model.run_with_hooks(
            tokens[:, 3:6], past_kv_cache=past, fwd_hooks=[("blocks.1.hook_resid_pre", fail)]
        )
    assert len(past) == 3
    assert {layer.keys.shape[1] for layer in past.layers} == {3}
    names = None if watched else ["hook_embed"]
    rest, _ = model.run_with_cache(tokens[:, 3:], past_kv_cache=past, names_filter=names)
    assert_close(rest, model(tokens)[:, 3:])


@pytest.mark.parametrize("part", ["stop", "start"])
def test_part_of_a_run_with_a_cache(
    part: str, make_model: MakeModel, assert_close: AssertClose
) -> None:
    """Refused, or without effect on what comes after."""
    model = make_model(dtype="float64")
    tokens = _tokens()
    past = KeyValueCache.init_cache(model.cfg, "cpu", 3)
    model(tokens[:, :3], past_kv_cache=past)
    refused = False
    try:
        if part == "stop":
            model(tokens[:, 3:], past_kv_cache=past, stop_at_layer=1)
        else:
            residual = model(tokens, stop_at_layer=1)[:, 3:]
            model(residual, past_kv_cache=past, start_at_layer=1)
    except InputError:
        refused = True
    assert refused or len(past) == 3
    assert_close(model(tokens[:, 3:], past_kv_cache=past), model(tokens)[:, 3:])


def test_encoder_refuses_a_cache(make_model: MakeModel) -> None:
    """What later tokens change cannot be kept."""
    model = make_model(attention_dir="bidirectional")
    with pytest.raises(InputError, match="causal"):
        model(_tokens(), past_kv_cache=KeyValueCache.init_cache(model.cfg, "cpu", 3))


def test_loss_beyond_the_outputs(make_model: MakeModel) -> None:
    with pytest.raises(InputError, match=r"d_vocab_out|logits"):
        make_model(d_vocab_out=5)(torch.tensor([[1, 30]]), return_type="loss")


@pytest.mark.parametrize("positions", ["rotary", "none"])
def test_other_positions_go_past_the_context(
    positions: str, make_model: MakeModel, assert_close: AssertClose
) -> None:
    """The first tokens' logits do not know how long the text goes on."""
    model = make_model(positional_embedding_type=positions, n_ctx=4, dtype="float64")
    tokens = _tokens(1, 20)
    assert_close(model(tokens)[:, :4], model(tokens[:, :4]))


# --- construction, dtypes ------------------------------------------------------------------------


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


# --- state dictionaries --------------------------------------------------------------------------


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


def test_second_derivatives_without_fused_attention(make_model: MakeModel) -> None:
    """Fused kernels have none; the config can turn them off."""
    model = make_model(use_fused_attention=False, dtype="float64")
    loss = model(_tokens(), return_type="loss")
    (gradient,) = torch.autograd.grad(loss, model.blocks[0].attn.W_Q, create_graph=True)
    (second,) = torch.autograd.grad(gradient.pow(2).sum(), model.W_E)
    assert second.abs().max() > 0


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


def test_tokens_beside_tokens_are_refused(make_model: MakeModel) -> None:
    with pytest.raises(InputError, match="start_at_layer"):
        make_model()(_tokens(), tokens=_tokens())
