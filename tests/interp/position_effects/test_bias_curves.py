"""Curves of ALiBi and T5's relative positions, read and recovered."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from interp import HookedTransformer, InputError
from interp.position_effects import bias_curves, recovered_bias
from tests.interp.definitions import alibi_slopes, relative_bucket
from tests.interp.kinds import KINDS, some_tokens

Kind = Callable[[str], HookedTransformer]
Make = Callable[..., HookedTransformer]


@pytest.mark.parametrize("n_heads", [1, 3, 4, 8, 12])
def test_slopes_and_curves_of_alibi(make_model: Make, n_heads: int) -> None:
    model = make_model(positional_embedding_type="alibi", n_heads=n_heads, dtype="float64")
    found = bias_curves(model, 40)
    slopes = alibi_slopes(n_heads, 8.0)
    assert found.slopes is not None
    assert found.slopes.tolist() == pytest.approx(slopes, rel=1e-12)
    assert found.buckets is None
    assert found.offsets.tolist() == list(range(40))
    for head, slope in enumerate(slopes):
        assert found.curve[head].tolist() == pytest.approx([-slope * d for d in range(40)])
        # Geometric weights: those up to distance d sum to 1 - e^(-slope (d + 1)), over all 40.
        whole = 1 - math.exp(-40 * slope)
        half = next(d for d in range(40) if 1 - math.exp(-slope * (d + 1)) >= whole / 2 - 1e-12)
        assert int(found.half_distance()[head]) == half


def test_slopes_are_hugging_faces(make_model: Make) -> None:
    bloom = pytest.importorskip("transformers.models.bloom.modeling_bloom", reason="needs 'hf'")
    for n_heads in (4, 6, 16):
        model = make_model(positional_embedding_type="alibi", n_heads=n_heads)
        slopes = bias_curves(model, 5).slopes
        assert slopes is not None
        # [heads, 1, key]: slope times the key's position
        theirs = bloom.build_alibi_tensor(torch.ones(1, 5), n_heads, torch.float32)
        assert slopes.tolist() == pytest.approx(theirs[:, 0, 1].tolist(), rel=1e-6)


@pytest.mark.parametrize("causal", [True, False])
def test_buckets_are_hugging_faces(make_model: Make, causal: bool) -> None:
    t5 = pytest.importorskip("transformers.models.t5.modeling_t5", reason="needs 'hf'")
    fields = {} if causal else {"architecture": "encoder", "head": "mlm"}
    model = make_model(positional_embedding_type="relative_positional_bias", **fields)
    found = bias_curves(model, 300)
    cfg = model.cfg
    n, most = cfg.relative_attention_num_buckets, cfg.relative_attention_max_distance
    assert found.slopes is None
    assert found.buckets is not None
    assert found.offsets.tolist() == list(range(0 if causal else -299, 300))
    theirs = t5.T5Attention._relative_position_bucket(-found.offsets, not causal, n, most)
    assert torch.equal(found.buckets, theirs)
    again = [relative_bucket(-k, causal, n, most) for k in found.offsets.tolist()]
    assert found.buckets.tolist() == again
    W_rel = model.state_dict()["pos_embed.W_rel"]
    assert torch.equal(found.curve, W_rel[found.buckets].T)
    attention = found.attention()
    for head in range(cfg.n_heads):
        weight = found.curve[head].double().exp()
        assert attention[head].tolist() == pytest.approx((weight / weight.sum()).tolist())
        within = [float(attention[head][found.offsets.abs() <= d].sum()) for d in range(300)]
        half = next(d for d, mass in enumerate(within) if mass >= 0.5 - 1e-12)
        assert int(found.half_distance()[head]) == half


def test_either_part_of_an_encoder_decoder(kind: Kind) -> None:
    model = kind("t5")
    decoder, encoder = bias_curves(model, 9), bias_curves(model, 9, part="encoder")
    assert torch.equal(decoder.curve, bias_curves(model, 9, part="decoder").curve)
    assert decoder.offsets.tolist() == list(range(9))
    assert encoder.offsets.tolist() == list(range(-8, 9))
    W_rel = model.encoder.state_dict()["pos_embed.W_rel"]
    assert torch.equal(encoder.curve[:, 8], W_rel[0])


@pytest.mark.parametrize("name", ["bloom", "next-sentence", "bert-folded-mlm", "t5-decoder"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_recovered_from_scores(
    kind: Kind, make_model: Make, assert_close: Any, name: str, dtype: str
) -> None:
    fields = KINDS.get(name, {"positional_embedding_type": "relative_positional_bias"})
    model = make_model(**{**fields, "dtype": dtype})
    curves = bias_curves(model, 9)
    tolerance = 1e-10 if dtype == "float64" else 1e-5
    for layer in range(2):
        found = recovered_bias(model, some_tokens(4, 9), layer)
        at = [curves.offsets.tolist().index(k) for k in found.offsets.tolist()]
        assert_close(found.curve, curves.curve[:, at].double(), tolerance=tolerance)
        assert float(found.deviation.max()) < tolerance
        if curves.slopes is not None:
            assert_close(found.slopes(), curves.slopes.double(), tolerance=tolerance)


def test_nothing_is_recovered_where_nothing_is_added(kind: Kind) -> None:
    for name in ("gpt2", "attn-only", "classifier", "shortformer"):
        found = recovered_bias(kind(name), some_tokens(3, 6), 0)
        if name == "shortformer":  # windowed: only the offsets that are seen
            assert found.offsets.tolist() == [0, 1, 2]
        assert float(found.curve.abs().max()) < 1e-12
        assert float(found.deviation.max()) < 1e-12


def test_what_depends_on_more_than_the_offset_shows(kind: Kind) -> None:
    model = kind("bloom")

    def disturb(bias: torch.Tensor, hook: Any) -> torch.Tensor:
        bias = bias.clone()
        bias[:, 1, 4, 2] += 0.7
        return bias

    with model.hooks(fwd_hooks=[("hook_pos_bias", disturb)]):
        found = recovered_bias(model, some_tokens(3, 6), 0)
    assert found.deviation.tolist() == pytest.approx([0.0, 0.7 * 3 / 4, 0.0], abs=1e-12)


def test_refusals(kind: Kind) -> None:
    with pytest.raises(InputError, match=r"need ALiBi or relative positions.*'standard'"):
        bias_curves(kind("gpt2"))
    with pytest.raises(InputError, match="part has no meaning"):
        bias_curves(kind("bloom"), part="encoder")
    with pytest.raises(InputError, match="length"):
        bias_curves(kind("bloom"), 0)
    with pytest.raises(InputError, match=r"no bias of the scores.*'rotary'"):
        recovered_bias(kind("llama"), some_tokens(), 0)
