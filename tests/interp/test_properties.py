"""Every hook of every kind of model, against a plain restatement of the Transformer.

`reference` shares no code with interp: loops and einsums over the weights by name. It applies edits
at every named point, so that it says what a hook there must do to everything after it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from interp import HookedTransformer

Edit = Callable[[Tensor], Tensor]
Check = Callable[..., None]
Make = Callable[..., HookedTransformer]

KINDS: dict[str, dict[str, Any]] = {
    "gpt2": {"act_fn": "gelu_new"},
    "gpt2-folded": {"normalization_type": "LNPre", "d_vocab_out": 13},
    "neox": {"positional_embedding_type": "rotary", "rotary_dim": 4, "parallel_attn_mlp": True},
    "gptj": {
        "positional_embedding_type": "rotary", "rotary_dim": 2, "rotary_adjacent_pairs": True,
        "parallel_attn_mlp": True, "act_fn": "gelu_fast", "normalization_type": "LNPre",
    },
    "llama": {
        "positional_embedding_type": "rotary", "normalization_type": "RMS", "gated_mlp": True,
        "act_fn": "silu", "n_key_value_heads": 2, "rotary_base": 500.0,
    },
    "llama-ungrouped": {
        "positional_embedding_type": "rotary", "normalization_type": "RMSPre", "gated_mlp": True,
        "act_fn": "silu", "n_key_value_heads": 2, "ungroup_grouped_query_attention": True,
        "rotary_adjacent_pairs": True,
    },
    "grouped-standard": {"n_key_value_heads": 2, "act_fn": "gelu_pytorch_tanh"},
    "multi-query": {"n_key_value_heads": 1, "normalization_type": "RMS", "attn_only": True},
    "solu": {"act_fn": "solu", "normalization_type": "LNPre"},
    "solu-ln": {"act_fn": "solu_ln"},
    "solu-ln-rms": {"act_fn": "solu_ln", "normalization_type": "RMS"},
    "attn-only": {"attn_only": True, "positional_embedding_type": "none"},
    "no-norm": {"normalization_type": None, "act_fn": "relu", "positional_embedding_type": "none"},
    "bidirectional-tied": {"attention_dir": "bidirectional", "tie_word_embeddings": True},
    "parallel-grouped-bare": {
        "parallel_attn_mlp": True, "n_key_value_heads": 2, "normalization_type": None,
        "act_fn": "silu",
    },
    "wide-heads": {"d_model": 6, "d_head": 10, "n_heads": 3, "attn_scale": 2.5},
    "unscaled": {"use_attn_scale": False, "scale_attn_by_inverse_layer_idx": True, "eps": 1e-2},
}  # fmt: skip
FOR_GRADIENTS = ["gpt2", "llama", "llama-ungrouped", "neox", "solu-ln", "multi-query"]
SPLIT = ("hook_attn_in", "hook_q_input", "hook_k_input", "hook_v_input")


# --- the restatement -----------------------------------------------------------------------------


def _activation(name: str, x: Tensor) -> Tensor:
    if name == "relu":
        return torch.where(x > 0, x, torch.zeros_like(x))
    if name == "gelu":
        return x * (1 + torch.erf(x / math.sqrt(2))) / 2
    if name in ("gelu_new", "gelu_pytorch_tanh"):
        return x / 2 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    if name == "gelu_fast":
        return x / 2 * (1 + torch.tanh(0.7978845608 * (x + 0.044715 * x**3)))
    if name == "silu":
        return x / (1 + torch.exp(-x))
    assert name in ("solu", "solu_ln")
    return x * torch.exp(x) / torch.exp(x).sum(-1, keepdim=True)


def _turned(x: Tensor, places: Tensor, dim: int, base: float, adjacent: bool) -> Tensor:
    columns = list(x.unbind(-1))
    for i in range(dim // 2):
        first, second = (2 * i, 2 * i + 1) if adjacent else (i, i + dim // 2)
        angle = (places.double() * base ** (-2 * i / dim))[:, :, None]
        a, b = columns[first], columns[second]
        columns[first] = a * angle.cos() - b * angle.sin()
        columns[second] = a * angle.sin() + b * angle.cos()
    return torch.stack(columns, -1)


def reference(
    model: HookedTransformer,
    tokens: Tensor,
    edits: dict[str, Edit] | None = None,
    mask: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits, and the value of every hook after its edit."""
    cfg, w = model.cfg, {k: v.double() for k, v in model.state_dict().items()}
    edits = edits or {}
    values: dict[str, Tensor] = {}
    n_batch, n_pos = tokens.shape
    real = torch.ones(n_batch, n_pos, dtype=torch.bool) if mask is None else mask.bool()
    places = (real.long().cumsum(1) - 1).clamp(min=0)

    def at(name: str, x: Tensor) -> Tensor:
        values[name] = edits[name](x) if name in edits else x
        return values[name]

    def norm(name: str, x: Tensor, kind: str | None) -> Tensor:
        if kind is None:
            return x
        if kind.startswith("LN"):
            x = x - x.mean(-1, keepdim=True)
        x = x / at(f"{name}.hook_scale", ((x**2).mean(-1, keepdim=True) + cfg.eps) ** 0.5)
        x = at(f"{name}.hook_normalized", x)
        if kind == "LN":
            return x * w[f"{name}.w"] + w[f"{name}.b"]
        return x * w[f"{name}.w"] if kind == "RMS" else x

    def heads(x: Tensor, n: int) -> Tensor:
        return torch.stack([x] * n, 2)

    tokens = at("hook_tokens", tokens)
    stream = at("hook_embed", w["embed.W_E"][tokens])
    if cfg.positional_embedding_type == "standard":
        stream = stream + at("hook_pos_embed", w["pos_embed.W_pos"][places] * real[..., None])

    visible = real[:, None, None, :].expand(n_batch, 1, n_pos, n_pos)
    if cfg.attention_dir == "causal":
        visible = visible & (torch.arange(n_pos)[:, None] >= torch.arange(n_pos))

    for layer in range(cfg.n_layers):
        block = f"blocks.{layer}"
        attn = f"{block}.attn"
        stream = at(f"{block}.hook_resid_pre", stream)

        # What the heads read.
        split = [name for name in SPLIT if f"{block}.{name}" in edits]
        grouped = not (cfg.ungroup_grouped_query_attention or "hook_attn_in" in split)
        n_kv = cfg.n_kv_heads if grouped else cfg.n_heads
        attn_in = at(f"{block}.hook_attn_in", heads(stream, cfg.n_heads))
        for_keys = attn_in if "hook_attn_in" in split else heads(stream, n_kv)
        inputs = [
            at(f"{block}.hook_q_input", attn_in),
            at(f"{block}.hook_k_input", for_keys),
            at(f"{block}.hook_v_input", for_keys),
        ]
        if split:
            read = norm(f"{block}.ln1", torch.cat(inputs, 2), cfg.normalization_type)
            q_in, k_in, v_in = read.split([cfg.n_heads, n_kv, n_kv], 2)
        else:
            read = norm(f"{block}.ln1", stream, cfg.normalization_type)
            q_in, k_in, v_in = heads(read, cfg.n_heads), heads(read, n_kv), heads(read, n_kv)

        # Queries, keys, values.
        stored = "_" if f"{attn}._W_K" in w else ""
        own = torch.arange(n_kv) * cfg.n_kv_heads // n_kv  # stored key/value head of each
        keys_of = torch.arange(cfg.n_heads) * n_kv // cfg.n_heads  # key/value head of each query

        def project(x: Tensor, name: str, rows: Tensor, attn: str = attn) -> Tensor:
            prefix, letter = f"{attn}.{name[:-1]}", name[-1]
            weight, bias = w[f"{prefix}W_{letter}"][rows], w[f"{prefix}b_{letter}"][rows]
            return torch.einsum("bphd,hde->bphe", x, weight) + bias

        q = at(f"{attn}.hook_q", project(q_in, "Q", torch.arange(cfg.n_heads)))
        k = at(f"{attn}.hook_k", project(k_in, f"{stored}K", own))
        v = at(f"{attn}.hook_v", project(v_in, f"{stored}V", own))
        if cfg.positional_embedding_type == "rotary":
            assert cfg.rotary_dim is not None
            how = (places, cfg.rotary_dim, cfg.rotary_base, cfg.rotary_adjacent_pairs)
            q = at(f"{attn}.hook_rot_q", _turned(q, *how))
            k = at(f"{attn}.hook_rot_k", _turned(k, *how))

        # Attention.
        divisor = cfg.attn_scale * (layer + 1 if cfg.scale_attn_by_inverse_layer_idx else 1)
        scores = torch.einsum("bqhe,bkhe->bhqk", q, k[:, :, keys_of]) / divisor
        scores = torch.where(visible, scores, torch.tensor(-torch.inf, dtype=scores.dtype))
        scores = at(f"{attn}.hook_attn_scores", scores)
        highest = scores.detach().amax(-1, keepdim=True)
        weights = torch.exp(scores - torch.where(highest.isfinite(), highest, 0.0))
        total = weights.sum(-1, keepdim=True)
        pattern = at(f"{attn}.hook_pattern", weights / torch.where(total > 0, total, 1.0))
        z = at(f"{attn}.hook_z", torch.einsum("bhqk,bkhe->bqhe", pattern, v[:, :, keys_of]))
        result = at(f"{attn}.hook_result", torch.einsum("bqhe,hed->bqhd", z, w[f"{attn}.W_O"]))
        attn_out = at(f"{block}.hook_attn_out", result.sum(2) + w[f"{attn}.b_O"])

        # MLP.
        after = stream + attn_out
        if not cfg.attn_only:
            if cfg.parallel_attn_mlp:
                mlp_reads = stream
            else:
                after = mlp_reads = at(f"{block}.hook_resid_mid", after)
            mlp_reads = at(f"{block}.hook_mlp_in", mlp_reads)
            x = norm(f"{block}.ln2", mlp_reads, cfg.normalization_type)
            mlp = f"{block}.mlp"
            assert cfg.act_fn is not None
            if cfg.gated_mlp:
                pre = at(f"{mlp}.hook_pre", x @ w[f"{mlp}.W_gate"])
                linear = at(f"{mlp}.hook_pre_linear", x @ w[f"{mlp}.W_in"])
                post = _activation(cfg.act_fn, pre) * linear + w[f"{mlp}.b_in"]
            else:
                pre = at(f"{mlp}.hook_pre", x @ w[f"{mlp}.W_in"] + w[f"{mlp}.b_in"])
                post = _activation(cfg.act_fn, pre)
                if cfg.act_fn == "solu_ln":
                    post = at(f"{mlp}.hook_mid", post)
                    kind = "LN" if cfg.normalization_type == "LN" else "LNPre"
                    post = norm(f"{mlp}.ln", post, kind)
            post = at(f"{mlp}.hook_post", post)
            mlp_out = at(f"{block}.hook_mlp_out", post @ w[f"{mlp}.W_out"] + w[f"{mlp}.b_out"])
            after = after + mlp_out
        stream = at(f"{block}.hook_resid_post", after)

    stream = at("unembed.hook_in", norm("ln_final", stream, cfg.normalization_type))
    W_U = w["embed.W_E"].T if cfg.tie_word_embeddings else w["unembed.W_U"]
    return at("unembed.hook_out", stream @ W_U + w["unembed.b_U"]), values


# --- edits ---------------------------------------------------------------------------------------


def _write(name: str, x: Tensor, n_vocab: int = 31, row: int = 1, place: int = 2) -> None:
    """Change one row, position and (where there is one) head of a tensor, in place."""
    if name == "hook_tokens":
        x[row, place] = (x[row, place] + 3) % n_vocab
    elif name.endswith(("hook_attn_scores", "hook_pattern")):
        x[row, 1, place] = x[row, 1, place] * 0.5 + 0.1
    else:
        # Not one factor for all of d_model: a norm would not see it.
        at = (row, place, -1) if x.ndim == 4 else (row, place)
        x[at] = x[at] * torch.linspace(0.5, 2.0, x.shape[-1], dtype=x.dtype) + 0.3


def in_place(x: Tensor, hook: Any) -> None:
    """A hook that writes into what it is given."""
    _write(hook.name, x)


def returned(x: Tensor, hook: Any) -> Tensor:
    """A hook that returns a changed copy."""
    x = x.clone()
    _write(hook.name, x)
    return x


def edit_of(name: str) -> Edit:
    """The same edit for `reference`."""

    def edit(x: Tensor) -> Tensor:
        x = x.clone()
        _write(name, x)
        return x

    return edit


def _tokens(n_batch: int = 3, n_pos: int = 5, seed: int = 0) -> Tensor:
    return torch.randint(31, (n_batch, n_pos), generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def kind(make_model: Make) -> Callable[[str], HookedTransformer]:
    made: dict[str, HookedTransformer] = {}

    def get(name: str) -> HookedTransformer:
        if name not in made:
            made[name] = make_model(dtype="float64", **KINDS[name])
        assert not any(p.is_watched for p in made[name].hook_points())
        return made[name]

    return get


def _everything(name: str) -> bool:
    return True


# --- forward -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_hooks_fire_alone_with_the_value_that_flows(
    name: str, kind: Callable[[str], HookedTransformer], assert_close: Check
) -> None:
    model, tokens = kind(name), _tokens()
    with torch.no_grad():
        logits, values = reference(model, tokens)
        assert set(values) == set(model.hook_dict)
        assert_close(model(tokens), logits, "unwatched")
        watched, among_all = model.run_with_cache(tokens, names_filter=_everything)
        assert_close(watched, logits, "all watched")
        for hook in model.hook_dict:
            output, cache = model.run_with_cache(tokens, names_filter=hook)
            assert list(cache.keys()) == [hook]
            assert_close(cache[hook], values[hook].to(cache[hook].dtype), hook, tolerance=1e-10)
            assert_close(among_all[hook], cache[hook], hook, tolerance=1e-10)
            assert_close(output, logits, f"{hook} watched")


@pytest.mark.parametrize("name", KINDS)
def test_edits_do_what_the_arithmetic_says(
    name: str, kind: Callable[[str], HookedTransformer], assert_close: Check
) -> None:
    model, tokens = kind(name), _tokens()
    given_tokens = tokens.clone()
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    with torch.no_grad():
        untouched = model(tokens)
        for hook in model.hook_dict:
            expected, values = reference(model, tokens, {hook: edit_of(hook)})
            assert (expected[1] - untouched[1]).abs().max() > 1e-6, hook
            for way in (returned, in_place):
                what = f"{hook}, {way.__name__}"
                found = model.run_with_hooks(tokens, fwd_hooks=[(hook, way)])
                assert_close(found, expected, what)
                assert_close(found[[0, 2]], untouched[[0, 2]], f"{what}: other rows")
                with model.hooks([(hook, way)]):
                    found, cache = model.run_with_cache(tokens, names_filter=_everything)
                assert_close(found, expected, f"{what}, watched")
                for other, value in cache.items():
                    assert_close(value, values[other].to(value.dtype), f"{what} → {other}", 1e-10)
    assert torch.equal(tokens, given_tokens)
    for key, weight in model.state_dict().items():
        assert torch.equal(weight, weights[key]), key


@pytest.mark.parametrize("mode", ["grad", "inference"])
@pytest.mark.parametrize("name", ["gpt2", "llama", "solu-ln", "multi-query"])
def test_edits_in_other_modes(
    name: str, mode: str, kind: Callable[[str], HookedTransformer], assert_close: Check
) -> None:
    model, tokens = kind(name), _tokens()
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    for hook in model.hook_dict:
        expected = reference(model, tokens, {hook: edit_of(hook)})[0]
        for way in (returned, in_place):
            context = torch.enable_grad() if mode == "grad" else torch.inference_mode()
            with context, model.hooks([(hook, way)]):
                alone = model(tokens)
                watched, _ = model.run_with_cache(tokens, names_filter=_everything)
            assert_close(alone, expected, hook)
            assert_close(watched, expected, hook)
    for key, weight in model.state_dict().items():
        assert torch.equal(weight, weights[key]), key


@pytest.mark.parametrize("name", ["gpt2", "llama", "no-norm"])
def test_fp32(name: str, make_model: Make, assert_close: Check) -> None:
    model, tokens = make_model(**KINDS[name]), _tokens()
    with torch.no_grad():
        logits, values = reference(model, tokens)
        assert_close(model(tokens), logits, "unwatched", 1e-5)
        found, cache = model.run_with_cache(tokens, names_filter=_everything)
        assert_close(found, logits, "watched", 1e-5)
        for hook in cache:
            assert_close(cache[hook], values[hook].to(cache[hook].dtype), hook, 1e-5)


_MODELS: dict[str, HookedTransformer] = {}


@settings(max_examples=80, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_edits_together(make_model: Make, assert_close: Check, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(list(KINDS)), label="kind")
    if name not in _MODELS:
        _MODELS[name] = make_model(dtype="float64", **KINDS[name])
    model = _MODELS[name]
    names = list(model.hook_dict)
    edited = data.draw(st.sets(st.sampled_from(names), min_size=1, max_size=6), label="edited")
    watched = data.draw(st.sets(st.sampled_from(names), max_size=4), label="watched")
    n_pos = data.draw(st.integers(3, 6), label="n_pos")
    n_pad = data.draw(st.lists(st.integers(0, n_pos - 1), min_size=2, max_size=2), label="padding")
    left = data.draw(st.booleans(), label="left")
    mask = None
    if any(n_pad):
        mask = torch.ones(2, n_pos, dtype=torch.long)
        for row, n in enumerate(n_pad):
            mask[row, slice(0, n) if left else slice(n_pos - n, n_pos)] = 0
    tokens = _tokens(2, n_pos, data.draw(st.integers(0, 5), label="seed"))
    expected, values = reference(model, tokens, {n: edit_of(n) for n in edited}, mask)
    hooks = [(n, data.draw(st.sampled_from([returned, in_place]))) for n in sorted(edited)]
    with torch.no_grad(), model.hooks(hooks):
        plain = model(tokens, attention_mask=mask)
        found, cache = model.run_with_cache(
            tokens, names_filter=sorted(watched), attention_mask=mask
        )
    assert_close(plain, expected, "unwatched")
    assert_close(found, expected, "watched")
    for hook in watched:
        assert_close(cache[hook], values[hook].to(cache[hook].dtype), hook, 1e-10)


@st.composite
def _fields(draw: st.DrawFn) -> dict[str, Any]:
    n_kv = draw(st.integers(1, 3))
    n_heads = n_kv * draw(st.integers(1, 3))
    d_head = 2 * draw(st.integers(1, 4))
    fields: dict[str, Any] = {
        "n_layers": draw(st.integers(0, 3)),
        "d_model": draw(st.integers(2, 12)),
        "n_heads": n_heads,
        "n_key_value_heads": n_kv,
        "d_head": d_head,
        "normalization_type": draw(st.sampled_from(["LN", "LNPre", "RMS", "RMSPre", None])),
        "positional_embedding_type": draw(st.sampled_from(["standard", "rotary", "none"])),
        "attention_dir": draw(st.sampled_from(["causal", "bidirectional"])),
        "attn_only": draw(st.booleans()),
        "rotary_adjacent_pairs": draw(st.booleans()),
        "rotary_dim": 2 * draw(st.integers(1, d_head // 2)),
        "ungroup_grouped_query_attention": draw(st.booleans()),
        "tie_word_embeddings": draw(st.booleans()),
    }
    if not fields["attn_only"]:
        fields["d_mlp"] = draw(st.integers(1, 9))
        fields["gated_mlp"] = draw(st.booleans())
        fields["parallel_attn_mlp"] = draw(st.booleans())
        acts = ["relu", "gelu", "gelu_new", "gelu_fast", "silu", "solu"]
        fields["act_fn"] = draw(
            st.sampled_from(acts if fields["gated_mlp"] else [*acts, "solu_ln"])
        )
    return fields


@settings(max_examples=60, deadline=None, derandomize=True)
@given(fields=_fields(), n_pos=st.integers(1, 6), n_batch=st.integers(1, 3))
def test_any_architecture(
    make_model: Make, assert_close: Check, fields: dict[str, Any], n_pos: int, n_batch: int
) -> None:
    model = make_model(dtype="float64", **fields)
    tokens = _tokens(n_batch, n_pos)
    with torch.no_grad():
        logits, values = reference(model, tokens)
        assert_close(model(tokens), logits, "unwatched")
        found, cache = model.run_with_cache(tokens, names_filter=_everything)
    assert_close(found, logits, "watched")
    assert set(cache.keys()) == set(values)
    for hook in cache:
        assert_close(cache[hook], values[hook].to(cache[hook].dtype), hook, 1e-10)


# --- rows of a padded batch ----------------------------------------------------------------------


def _real_part(name: str, x: Tensor, places: Tensor) -> Tensor:
    """One row's tensor at its real positions."""
    if name.endswith(("hook_attn_scores", "hook_pattern")):
        return x[:, places][:, :, places]
    return x[places]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(data=st.data())
def test_padded_batch_is_its_rows(
    make_model: Make, assert_close: Check, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(list(KINDS)), label="kind")
    if name not in _MODELS:
        _MODELS[name] = make_model(dtype="float64", **KINDS[name])
    model = _MODELS[name]
    lengths = data.draw(st.lists(st.integers(1, 6), min_size=2, max_size=3), label="lengths")
    left = data.draw(st.booleans(), label="left")
    longest = max(lengths)
    tokens = _tokens(len(lengths), longest, data.draw(st.integers(0, 3), label="seed"))
    mask = torch.zeros_like(tokens)
    for row, n in enumerate(lengths):
        mask[row, slice(longest - n, longest) if left else slice(0, n)] = 1
    with torch.no_grad():
        plain = model(tokens, attention_mask=mask)
        logits, cache = model.run_with_cache(
            tokens, names_filter=_everything, attention_mask=mask
        )  # fmt: skip
        for value in [plain, logits, *cache.values()]:
            assert not value.isnan().any()
        for row in range(len(lengths)):
            places = mask[row].nonzero().flatten()
            alone = tokens[row, places][None]
            expected, of_row = model.run_with_cache(alone, names_filter=_everything)
            assert_close(plain[row, places], expected[0], "unwatched")
            assert_close(logits[row, places], expected[0], "watched")
            for hook, value in cache.items():
                found = _real_part(hook, value[row], places)
                assert_close(found, of_row[hook][0], hook, 1e-10)


@pytest.mark.parametrize("left", [True, False])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_gradients_of_a_padded_batch_are_those_of_its_rows(
    name: str, left: bool, kind: Callable[[str], HookedTransformer], assert_close: Check
) -> None:
    model, tokens = kind(name), _tokens(2, 5)
    model.zero_grad()
    places = torch.arange(2, 5) if left else torch.arange(3)
    mask = torch.ones_like(tokens)
    mask[0] = 0
    mask[0, places] = 1
    names = list(model.default_hook_names())
    _, whole = model.run_with_cache(
        tokens, attention_mask=mask, return_type="loss", incl_bwd=True, names_filter=names
    )
    # The mean over 2 + 4 predictions; alone it is one over 2.
    _, alone = model.run_with_cache(
        tokens[:1, places], return_type="loss", incl_bwd=True, names_filter=names
    )
    model.zero_grad()
    for hook in names:
        gradient = whole[f"{hook}_grad"]
        assert not gradient.isnan().any(), hook
        found = _real_part(hook, gradient[0], places) * 3
        assert_close(found, alone[f"{hook}_grad"][0], hook)


@pytest.mark.parametrize("left", [True, False])
@pytest.mark.parametrize("name", ["gpt2", "llama", "bidirectional-tied"])
def test_fused_and_spelled_out_kernels_have_the_same_gradients(
    name: str, left: bool, kind: Callable[[str], HookedTransformer], assert_close: Check
) -> None:
    model, tokens = kind(name), _tokens(2, 5)
    mask = torch.ones_like(tokens)
    mask[0, slice(0, 2) if left else slice(3, 5)] = 0
    found = []
    for names in ([], _everything):
        model.zero_grad()
        loss, _ = model.run_with_cache(
            tokens, attention_mask=mask, return_type="loss", names_filter=names
        )
        loss.backward()
        found.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    model.zero_grad()
    assert found[0].keys() == found[1].keys()
    for key, gradient in found[0].items():
        assert_close(gradient, found[1][key], key)


# --- backward ------------------------------------------------------------------------------------


def _scalar(logits: Tensor) -> Tensor:
    weights = torch.linspace(-1, 1, logits.numel(), dtype=logits.dtype).reshape(logits.shape)
    return (logits.sin() * weights).sum()


def _reference_gradient(model: HookedTransformer, tokens: Tensor, hook: str) -> Tensor:
    """By the restatement: the gradient of something added to the tensor at this point."""
    added: list[Tensor] = []

    def edit(x: Tensor) -> Tensor:
        added.append(torch.zeros_like(x, requires_grad=True))
        return x + added[0]

    logits, _ = reference(model, tokens, {hook: edit})
    return torch.autograd.grad(_scalar(logits), added[0])[0]


@pytest.mark.parametrize("name", FOR_GRADIENTS)
def test_gradient_hooks_see_the_gradient(
    name: str, kind: Callable[[str], HookedTransformer], assert_close: Check
) -> None:
    model, tokens = kind(name), _tokens(2, 4)
    for hook in model.hook_dict:
        if hook == "hook_tokens":
            continue
        expected = _reference_gradient(model, tokens, hook)
        seen: list[Tensor] = []

        def keep(gradient: Tensor, hook: Any, seen: list[Tensor] = seen) -> None:
            seen.append(gradient.clone())

        logits = model.run_with_hooks(tokens, bwd_hooks=[(hook, keep)])
        _scalar(logits).backward()
        assert len(seen) == 1, hook
        assert_close(seen[0], expected, hook)

        # The gradient of a loss, recorded.
        model.zero_grad()
        loss, cache = model.run_with_cache(
            tokens, names_filter=hook, incl_bwd=True, return_type="loss"
        )
        assert set(cache.keys()) == {hook, f"{hook}_grad"}
        captured: list[Tensor] = []

        def add(x: Tensor, hook: Any, captured: list[Tensor] = captured) -> Tensor:
            captured.append(torch.zeros_like(x, requires_grad=True))
            return x + captured[0]

        loss = model.run_with_hooks(tokens, return_type="loss", fwd_hooks=[(hook, add)])
        expected = torch.autograd.grad(loss, captured[0])[0]
        assert_close(cache[f"{hook}_grad"], expected, hook)
    model.zero_grad()


@pytest.mark.parametrize("way", ["returned", "tuple", "in place"])
@pytest.mark.parametrize("name", FOR_GRADIENTS)
def test_edited_gradients_flow_back(
    name: str, way: str, kind: Callable[[str], HookedTransformer], assert_close: Check
) -> None:
    """An edited gradient reaches what made the tensor, and nothing else."""
    model, tokens = kind(name), _tokens(2, 4)

    def changed(gradient: Tensor) -> Tensor:
        return gradient * -0.5 + 0.01

    def fn(gradient: Tensor, hook: Any) -> Any:
        if way == "in place":
            gradient.mul_(-0.5).add_(0.01)
            return None
        return (changed(gradient),) if way == "tuple" else changed(gradient)

    weights = dict(model.named_parameters())
    for hook in model.hook_dict:
        if hook == "hook_tokens":
            continue

        def edit(x: Tensor) -> Tensor:
            x = x.view_as(x)
            x.register_hook(lambda g: changed(g.clone()))
            return x

        state = {k: v.detach().clone().requires_grad_() for k, v in weights.items()}
        logits, _ = reference(_WithState(model, state), tokens, {hook: edit})  # type: ignore[arg-type]
        expected = torch.autograd.grad(_scalar(logits), list(state.values()), allow_unused=True)
        model.zero_grad()
        _scalar(model.run_with_hooks(tokens, bwd_hooks=[(hook, fn)])).backward()
        for (key, weight), gradient in zip(weights.items(), expected, strict=True):
            wanted = torch.zeros_like(weight) if gradient is None else gradient
            found = torch.zeros_like(weight) if weight.grad is None else weight.grad
            assert_close(found, wanted, f"{hook} → {key}")
    model.zero_grad()


class _WithState:
    """What `reference` reads of a model, with other weights."""

    def __init__(self, model: HookedTransformer, state: dict[str, Tensor]) -> None:
        self.cfg = model.cfg
        self._state = state

    def state_dict(self) -> dict[str, Tensor]:
        return self._state


@pytest.mark.parametrize("name", FOR_GRADIENTS)
def test_edits_in_place_still_differentiate(
    name: str, kind: Callable[[str], HookedTransformer], assert_close: Check
) -> None:
    model, tokens = kind(name), _tokens(2, 4)
    weights = dict(model.named_parameters())
    for hook in model.hook_dict:
        state = {k: v.detach().clone().requires_grad_() for k, v in weights.items()}
        logits, _ = reference(_WithState(model, state), tokens, {hook: edit_of(hook)})  # type: ignore[arg-type]
        expected = torch.autograd.grad(_scalar(logits), list(state.values()), allow_unused=True)
        for way in (in_place, returned):
            model.zero_grad()
            _scalar(model.run_with_hooks(tokens, fwd_hooks=[(hook, way)])).backward()
            for (key, weight), gradient in zip(weights.items(), expected, strict=True):
                wanted = torch.zeros_like(weight) if gradient is None else gradient
                found = torch.zeros_like(weight) if weight.grad is None else weight.grad
                assert_close(found, wanted, f"{hook} {way.__name__} → {key}")
    model.zero_grad()


# --- the list of hooks ---------------------------------------------------------------------------


def _transformerlens_names(model: HookedTransformer, flags_off: bool) -> set[str]:
    """What TransformerLens 3.9 lists (or, with its flags off, fires), from its source.

    Left out on purpose: `hook_mlp_in` of models without MLPs (never fires there), `hook_pos_embed`
    where no position is added. `hook_tokens`, there only with its flag, is always here.
    """
    cfg = model.cfg
    names = {"hook_embed", "unembed.hook_in", "unembed.hook_out"}
    if cfg.positional_embedding_type == "standard":
        names.add("hook_pos_embed")
    norm = ["hook_scale", "hook_normalized"] if cfg.normalization_type else []
    for i in range(cfg.n_layers):
        block = ["hook_resid_pre", "hook_attn_out", "hook_resid_post"]
        attn = ["hook_q", "hook_k", "hook_v", "hook_attn_scores", "hook_pattern", "hook_z"]
        if cfg.positional_embedding_type == "rotary":
            attn += ["hook_rot_q", "hook_rot_k"]
        block += [f"ln1.{h}" for h in norm]
        if not cfg.attn_only:
            block += ["hook_mlp_out", "mlp.hook_pre", "mlp.hook_post", *(f"ln2.{h}" for h in norm)]
            if cfg.gated_mlp:
                block.append("mlp.hook_pre_linear")
            if cfg.act_fn == "solu_ln":
                block += ["mlp.hook_mid", "mlp.ln.hook_scale", "mlp.ln.hook_normalized"]
            if not cfg.parallel_attn_mlp:
                block.append("hook_resid_mid")
        if not flags_off:
            block += SPLIT
            attn.append("hook_result")
            if not cfg.attn_only:
                block.append("hook_mlp_in")
        names |= {f"blocks.{i}.{h}" for h in block} | {f"blocks.{i}.attn.{h}" for h in attn}
    names |= {f"ln_final.{h}" for h in norm}
    return names if flags_off else names | {"hook_tokens"}


@pytest.mark.parametrize("name", KINDS)
def test_hook_names_are_transformerlens_s(
    name: str, kind: Callable[[str], HookedTransformer]
) -> None:
    model = kind(name)
    assert set(model.hook_dict) == _transformerlens_names(model, flags_off=False)
    assert model.default_hook_names() == _transformerlens_names(model, flags_off=True)
    _, cache = model.run_with_cache(_tokens())
    assert set(cache.keys()) == _transformerlens_names(model, flags_off=True)


# --- one tensor, one memory ----------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_no_tensor_is_kept_twice(
    name: str, kind: Callable[[str], HookedTransformer], assert_close: Check
) -> None:
    model, tokens = kind(name), _tokens()
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens, names_filter=_everything)

    def place(hook: str) -> int:
        return cache[hook].untyped_storage().data_ptr()

    cfg = model.cfg
    same = [("blocks.0.hook_resid_post", "blocks.1.hook_resid_pre")]
    for i in range(cfg.n_layers):
        same += [(f"blocks.{i}.hook_resid_pre", f"blocks.{i}.{h}") for h in SPLIT]
        if not cfg.attn_only:
            stream = "hook_resid_pre" if cfg.parallel_attn_mlp else "hook_resid_mid"
            same.append((f"blocks.{i}.{stream}", f"blocks.{i}.hook_mlp_in"))
        if cfg.act_fn == "solu_ln" and cfg.normalization_type != "LN":
            mlp = f"blocks.{i}.mlp"
            same.append((f"{mlp}.ln.hook_normalized", f"{mlp}.hook_post"))
    if cfg.positional_embedding_type != "standard":
        same.append(("hook_embed", "blocks.0.hook_resid_pre"))
    if cfg.normalization_type is None:
        same.append(("blocks.1.hook_resid_post", "unembed.hook_in"))
    elif cfg.normalization_type.endswith("Pre"):
        same.append(("ln_final.hook_normalized", "unembed.hook_in"))
    for one, other in same:
        assert place(one) == place(other), (one, other)

    # Every other pair is apart, and bytes count each storage once.
    groups = {hook: hook for hook in cache}
    for one, other in same:
        old, new = groups[other], groups[one]
        groups = {hook: new if group == old else group for hook, group in groups.items()}
    assert len({place(hook) for hook in cache}) == len(set(groups.values()))
    once = {place(hook): cache[hook].untyped_storage().nbytes() for hook in cache}
    assert cache.nbytes == sum(once.values())
    assert cache.nbytes < sum(t.numel() * t.element_size() for t in cache.values())
