"""Parts of attention scores: they sum to the run's, and each is what its formula says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from interp import HookedTransformer, InputError
from interp.config import PositionalEmbeddingType
from interp.position_effects import PositionMeans, ScoreParts, position_means, score_parts
from interp.position_effects.score_parts import BIAS_PARTS, ENCODING, FOUR
from interp.zoo import known
from tests.interp.definitions import frequency
from tests.interp.kinds import KINDS, some_tokens

Kind = Callable[[str], HookedTransformer]
Make = Callable[..., HookedTransformer]
Check = Callable[..., None]

ONE_STACK = [n for n, f in KINDS.items() if f.get("architecture") != "encoder-decoder"]
STREAMS = "blocks.*.hook_resid_pre"


def _seen(model: HookedTransformer, tokens: Tensor) -> Any:
    return model.run_with_cache(tokens, names_filter=lambda name: "lambda" not in name)[1]


def _means(model: HookedTransformer, n: int = 6, length: int = 8) -> PositionMeans:
    return position_means(model, some_tokens(n, length, 3), STREAMS)


@pytest.mark.parametrize("name", ONE_STACK)
def test_parts_sum_to_the_scores_of_the_run(kind: Kind, assert_close: Check, name: str) -> None:
    model = kind(name)
    tokens = some_tokens(3, 7)
    means, cache = _means(model), _seen(model, tokens)
    for layer in range(model.cfg.n_layers):
        for options in (
            {},
            {"grand_mean": "bias"},
            {"split_bias": True},
            {"grand_mean": "bias", "split_bias": True},
        ):
            found = score_parts(model, tokens, means, layer, **options)
            bias = BIAS_PARTS if "split_bias" in options else ("bias",)
            own = (ENCODING,) if model.main_stack.pos_embed.biases_scores else ()
            assert found.names == (*FOUR, *bias, *own)
            assert_close(found.scores(), cache["attn_scores", layer], f"{layer} {options}")
            assert_close(found.pattern(), cache["pattern", layer], f"{layer} {options}")
            if model.cfg.attn_scores_soft_cap <= 0:
                total = found.total().masked_fill(~found.visible, -torch.inf)
                assert_close(total, cache["attn_scores", layer], f"{layer} {options}")


@pytest.mark.parametrize("encoding", get_args(PositionalEmbeddingType))
def test_parts_sum_in_single_precision(
    make_model: Make, assert_close: Check, encoding: str
) -> None:
    model = make_model(positional_embedding_type=encoding)
    tokens = some_tokens(3, 12)
    means, cache = _means(model, length=12), _seen(model, tokens)
    for layer in range(2):
        found = score_parts(model, tokens, means, layer)
        assert found["content-content"].dtype == torch.float32
        assert_close(found.scores(), cache["attn_scores", layer])


@st.composite
def _fields(draw: st.DrawFn) -> dict[str, Any]:
    n_kv = draw(st.integers(1, 2))
    encoding = draw(
        st.sampled_from(
            ["standard", "sinusoidal", "rotary", "alibi", "relative_positional_bias", "shortformer"]
        )
    )
    norm = draw(st.sampled_from(["LN", "LNPre", "RMS", "RMSPre", None]))
    placements = ["pre"]
    if norm is not None:
        placements.append("sandwich")
        if not norm.endswith("Pre"):
            placements += ["post", "output"]
    return {
        "n_layers": 2,
        "d_model": 2 * draw(st.integers(2, 5)),
        "n_heads": n_kv * draw(st.integers(1, 2)),
        "n_key_value_heads": n_kv,
        "d_head": 2 * draw(st.integers(1, 4)),
        "normalization_type": norm,
        "norm_placement": draw(st.sampled_from(placements)),
        "positional_embedding_type": encoding,
        "scale_attn_by_inverse_layer_idx": draw(st.booleans()),
        "dtype": "float64",
    }


@settings(max_examples=25, deadline=None)
@given(fields=_fields(), seed=st.integers(0, 99), length=st.integers(2, 9))
def test_any_model(
    make_model: Make, assert_close: Check, fields: dict[str, Any], seed: int, length: int
) -> None:
    model = make_model(**fields)
    tokens = some_tokens(2, length, seed)
    means, cache = _means(model, 3, 9), _seen(model, tokens)
    for layer in range(2):
        found = score_parts(model, tokens, means, layer)
        assert_close(found.scores(), cache["attn_scores", layer], str(fields))


# --- each part, spelled out ----------------------------------------------------------------------


class _Formula:
    """One part of the scores, from weights and recorded scales."""

    def __init__(self, model: HookedTransformer, cache: Any, layer: int) -> None:
        self.cfg, self.cache, self.layer = model.cfg, cache, layer
        self.block: Any = model.blocks[layer]
        self.w = {k: v.double() for k, v in model.state_dict().items()}

    def read(self, x: Tensor) -> Tensor:
        """Behind the norm in front of the heads, whose scale stays and whose bias is left out."""
        name = f"blocks.{self.layer}.ln1"
        if f"{name}.hook_scale" not in self.cache or not self.block.reads_normalised:
            return x
        if str(self.cfg.normalization_type).startswith("LN"):
            x = x - x.mean(-1, keepdim=True)
        return x / self.cache[f"{name}.hook_scale"] * self.w.get(f"{name}.w", torch.tensor(1.0))

    def vector(self, which: str, read: Tensor, bias: bool) -> Tensor:
        """A query or key, `[batch, pos, head, d_head]`, made from this."""
        attn = self.block.attn
        weight = attn.W_Q if which == "q" else attn.W_K
        x = torch.stack([read @ weight[h].double() for h in range(self.cfg.n_heads)], 2)
        if bias:
            x = x + (attn.b_Q if which == "q" else attn.b_K)
        if self.cfg.qk_norm == "head":
            whole = self.cache[f"blocks.{self.layer}.attn.hook_{which}"]
            if whole.shape[2] != self.cfg.n_heads:
                whole = whole.repeat_interleave(self.cfg.n_heads // whole.shape[2], 2)
            name = f"blocks.{self.layer}.attn.{which}_norm"
            if self.cfg.normalization_type == "LN":
                whole, x = (v - v.mean(-1, keepdim=True) for v in (whole, x))
            scale = ((whole**2).mean(-1, keepdim=True) + self.cfg.eps).sqrt()
            x = x / scale * self.w[f"{name}.w"]
            if bias and f"{name}.b" in self.w:
                x = x + self.w[f"{name}.b"]
        return self.turned(x)

    def turned(self, x: Tensor) -> Tensor:
        cfg = self.cfg
        if cfg.positional_embedding_type != "rotary":
            return x
        x = x.clone()
        places = torch.arange(x.shape[1], dtype=torch.float64)
        for i in range(cfg.rotary_dim // 2):
            a, b = (2 * i, 2 * i + 1) if cfg.rotary_adjacent_pairs else (i, i + cfg.rotary_dim // 2)
            angle = places * frequency(cfg, i, x.shape[1], self.block.local)
            plane = (
                torch.complex(x[..., a], x[..., b])
                * torch.polar(torch.ones_like(angle), angle)[:, None]
            )
            x[..., a], x[..., b] = plane.real, plane.imag
        return x

    def score(self, q: Tensor, k: Tensor) -> Tensor:
        scale = self.cfg.attn_scale
        if self.cfg.scale_attn_by_inverse_layer_idx:
            scale *= self.layer + 1
        return torch.einsum("bphe,bkhe->bhpk", q, k) / scale


@pytest.mark.parametrize(
    "name",
    [
        "gpt2",
        "neox",
        "gptj",
        "llama",
        "unscaled",
        "olmo2-head",
        "stablelm2-head",
        "gemma3",
        "bert",
        "no-norm",
    ],
)
@pytest.mark.parametrize("grand_mean", ["position", "bias"])
def test_each_part_is_its_formula(
    kind: Kind, make_model: Make, assert_close: Check, name: str, grand_mean: Any
) -> None:
    if name.endswith("-head"):
        fields = KINDS[name.removesuffix("-head")]
        model = make_model(dtype="float64", **{**fields, "qk_norm": "head"})
    else:
        model = kind(name)
    tokens = some_tokens(3, 7)
    cache = _seen(model, tokens)
    reference = some_tokens(6, 8, 3)
    others = _seen(model, reference)
    means = position_means(model, reference, STREAMS)
    for layer in range(model.cfg.n_layers):
        formula = _Formula(model, cache, layer)
        stream = cache["resid_pre", layer]
        mean = others["resid_pre", layer].mean(0)
        position = mean[:7].expand_as(stream)
        constant = torch.zeros_like(stream)
        if grand_mean == "bias":
            constant = mean.mean(0).expand_as(stream)
        read = {
            "content": formula.read(stream - position),
            "position": formula.read(position - constant),
            "bias": formula.read(constant)
            + formula.w.get(f"blocks.{layer}.ln1.b", 0.0) * formula.block.reads_normalised,
        }
        q = {part: formula.vector("q", x, part == "bias") for part, x in read.items()}
        k = {part: formula.vector("k", x, part == "bias") for part, x in read.items()}
        found = score_parts(model, tokens, means, layer, grand_mean=grand_mean, split_bias=True)
        for part in (*FOUR, *BIAS_PARTS):
            of_query, of_key = part.split("-")
            assert_close(found[part], formula.score(q[of_query], k[of_key]), f"{layer} {part}")
        lumped = score_parts(model, tokens, means, layer, grand_mean=grand_mean)
        assert_close(lumped["bias"], sum(found[part] for part in BIAS_PARTS), "bias")


def test_shortformers_vector_is_position(make_model: Make, assert_close: Check) -> None:
    """It is added behind the norm, to queries and keys alone."""
    model = make_model(dtype="float64", positional_embedding_type="shortformer", n_layers=1)
    tokens = some_tokens(3, 7)
    attn = model.blocks[0].attn
    nothing = [("hook_embed", lambda x, hook: torch.zeros_like(x))]
    zero = position_means(model, some_tokens(2, 9), STREAMS, fwd_hooks=nothing)
    W_pos = model.state_dict()["pos_embed.W_pos"]
    for grand_mean in ("position", "bias"):
        added = W_pos[:9] - (W_pos[:9].mean(0) if grand_mean == "bias" else 0)
        q, k = (torch.einsum("pd,hde->hpe", added[:7], w) for w in (attn.W_Q, attn.W_K))
        found = score_parts(model, tokens, zero, 0, grand_mean=grand_mean)  # type: ignore[arg-type]
        expected = (q @ k.mT / model.cfg.attn_scale).expand(3, -1, -1, -1)
        assert_close(found["position-position"], expected.detach(), grand_mean)


def test_the_encodings_own_part(kind: Kind, assert_close: Check) -> None:
    for name in ("bloom", "next-sentence", "bert-folded-mlm"):
        model = kind(name)
        tokens = some_tokens(3, 7)
        cache = _seen(model, tokens)
        found = score_parts(model, tokens, _means(model), 1)
        assert_close(found[ENCODING], cache["hook_pos_bias"], name)
        # Without it the first layer's pattern is that of a run in which it is zero.
        first = score_parts(model, tokens, _means(model), 0)
        with model.hooks(fwd_hooks=[("hook_pos_bias", lambda x, hook: torch.zeros_like(x))]):
            without = _seen(model, tokens)
        assert_close(first.pattern([ENCODING]), without["pattern", 0], name)


@pytest.mark.parametrize("name", ["gpt2", "gemma2", "gpt-oss", "classifier", "bloom"])
def test_patterns_without_a_part(kind: Kind, assert_close: Check, name: str) -> None:
    model = kind(name)
    tokens = some_tokens(3, 7)
    found = score_parts(model, tokens, _means(model), 1)
    cap = model.cfg.attn_scores_soft_cap
    for part in FOUR:

        def take_off(scores: Tensor, hook: Any, part: str = part) -> Tensor:
            if cap > 0:
                return cap * torch.tanh(torch.atanh(scores / cap) - found[part] / cap)
            return scores - found[part]

        hook = ("blocks.1.attn.hook_attn_scores", take_off)
        with model.hooks(fwd_hooks=[hook]):
            expected = _seen(model, tokens)["pattern", 1]
        visible = found.visible.expand_as(expected)
        pattern = found.pattern([part])
        if cap > 0:  # the edit makes masked scores NaN
            expected = _softmax(found, part, cap)
        assert_close(pattern[visible], expected[visible], part)
        assert bool((pattern[~visible] == 0).all())


def _softmax(found: ScoreParts, part: str, cap: float) -> Tensor:
    kept = sum(found[name] for name in found.names if name not in (part, ENCODING))
    scores = cap * torch.tanh(kept / cap)
    return scores.masked_fill(~found.visible, -torch.inf).softmax(-1)


def test_known_heads() -> None:
    truth = known.previous_token()
    means = position_means(truth.model, truth.reference, STREAMS)
    found = score_parts(truth.model, truth.clean, means, 0)
    score = torch.zeros(8, 8, dtype=torch.float64)
    score[torch.arange(1, 8), torch.arange(7)] = 5.0
    below = found.visible
    position = found["position-position"][:, 0].masked_fill(~below, 0)
    assert torch.allclose(position, score.expand(4, -1, -1), atol=1e-12)
    for name in found.names:
        if name != "position-position":
            assert float(found[name].abs().max()) < 1e-12, name


def test_refusals(kind: Kind, make_model: Make) -> None:
    model = kind("gpt2")
    means, tokens = _means(model), some_tokens(3, 7)
    with pytest.raises(InputError, match=r"layer must lie in 0 … 1. Received 2"):
        score_parts(model, tokens, means, 2)
    with pytest.raises(InputError, match=r"at least 9 tokens.*means of 8"):
        score_parts(model, some_tokens(3, 9), means, 0)
    with pytest.raises(InputError, match=r"must hold those of blocks.1.hook_resid_pre"):
        only = position_means(model, tokens, "blocks.0.hook_resid_pre")
        score_parts(model, tokens, only, 1)
    with pytest.raises(InputError, match="grand_mean must be one of"):
        score_parts(model, tokens, means, 0, grand_mean="content")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"whole numbers \[batch, pos\]"):
        score_parts(model, tokens[0], means, 0)
    with pytest.raises(InputError, match="unknown part of the scores"):
        score_parts(model, tokens, means, 0).scores(["encoding"])
    with pytest.raises(InputError, match="one stack"):
        score_parts(kind("t5"), tokens, means, 0)
