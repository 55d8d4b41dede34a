"""Identities of encodings hold in every kind of model, and break where the encoding is broken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp import HookedTransformer, InputError
from interp.config import PositionalEmbeddingType
from interp.position_effects.identities import (
    Identity,
    fitted_slopes,
    model_identities,
    offset_spread,
    rotary_identities,
    score_is_relative,
    scores_on_one_token,
    shift_rotation,
    sinusoidal_product,
)
from interp.positions import AlibiPositions, RotaryPositions, make_positions
from tests.covering import EXHAUSTIVE
from tests.interp.kinds import KINDS
from tests.interp.position_effects.planted import noise

ENCODINGS = get_args(PositionalEmbeddingType)
ONE_STACK = [k for k in KINDS if KINDS[k].get("architecture") != "encoder-decoder"]


@pytest.mark.parametrize("kind", ONE_STACK)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_they_hold_in_every_kind_of_model(
    kind: str, dtype: torch.dtype, make_model: Callable[..., HookedTransformer]
) -> None:
    """fp64 within 1e-10, fp32 within 1e-5; which there are depends on the encoding alone."""
    model = make_model(**KINDS[kind], dtype=dtype)
    found = model_identities(model, 12, token=3)
    for identity in found:
        limit = {"float64": 1e-10, "float32": 1e-5}[identity.dtype]
        assert identity.error <= limit == identity.tolerance, identity
    dtypes = [identity.dtype for identity in found]
    encoding = model.cfg.positional_embedding_type
    relative = score_is_relative(model) is None
    expected = {"sinusoidal": 4, "rotary": 4 if kind != "gemma3" else 8}.get(encoding, 0)
    expected += relative + (relative and encoding in ("alibi", "relative_positional_bias"))
    assert len(found) == expected
    if encoding in ("sinusoidal", "rotary"):
        assert {"float64", "float32"} <= set(dtypes)
    assert model.watched_hooks() == (set(), set())


def test_long_texts_in_fp64(make_model: Callable[..., HookedTransformer]) -> None:
    for encoding in ENCODINGS:
        model = make_model(positional_embedding_type=encoding, dtype=torch.float64)
        found = model_identities(model, 200) if encoding not in ("standard", "shortformer") else []
        assert all(identity.error <= 1e-10 for identity in found if identity.dtype == "float64")
        assert all(identity.error <= identity.tolerance for identity in found)


@pytest.mark.parametrize("encoding", ["rotary", "alibi", "relative_positional_bias", "none"])
def test_long_texts_in_fp32(encoding: str, make_model: Callable[..., HookedTransformer]) -> None:
    """Attention's weights sum to 1 but for n / 2^24: more than 1e-5 of hundreds of positions."""
    n = 1000 if EXHAUSTIVE else 400
    model = make_model(positional_embedding_type=encoding, d_model=64, n_heads=4, d_head=16)
    for identity in model_identities(model, n):
        assert identity.error <= identity.tolerance
        assert identity.tolerance == (1e-10 if identity.dtype == "float64" else 4 * n / 2**24)


def errors(found: list[Identity]) -> dict[str, float]:
    """Of those in fp64."""
    return {identity.name: identity.error for identity in found if identity.dtype == "float64"}


def test_broken_encodings_are_caught(
    make_model: Callable[..., HookedTransformer], monkeypatch: pytest.MonkeyPatch
) -> None:
    from interp.positions import RelativePositions, SinusoidalPositions

    def worst(**fields: Any) -> dict[str, float]:
        return errors(model_identities(make_model(dtype=torch.float64, **fields), 12))

    table = SinusoidalPositions.table
    score_bias, bias = AlibiPositions.score_bias, RelativePositions.score_bias
    turn = RotaryPositions.table
    with monkeypatch.context() as patch:  # scores by another slope than the encoding says
        patch.setattr(AlibiPositions, "score_bias", lambda *a: 1.01 * score_bias(*a))
        found = worst(positional_embedding_type="alibi")
        assert found["ALiBi slopes recovered from scores"] > 1e-4
        assert found["scores on one repeated token depend on the offset alone"] < 1e-10
    with monkeypatch.context() as patch:  # a penalty that depends on the query's position
        patch.setattr(
            AlibiPositions,
            "score_bias",
            lambda self, q, k, d: score_bias(self, q, k, d) * (1 + 0.01 * q[:, None, :, None]),
        )
        found = worst(positional_embedding_type="alibi")
        assert found["scores on one repeated token depend on the offset alone"] > 1e-4
    with monkeypatch.context() as patch:  # sines and cosines in each other's place at one position
        patch.setattr(
            SinusoidalPositions,
            "table",
            lambda *a: table(*a).index_copy(0, torch.tensor([5]), table(*a)[5:6].flip(-1)),
        )
        found = worst(positional_embedding_type="sinusoidal")
        assert (
            found["PE(t + k) = R_k PE(t)"] > 1e-2 and found["PE(t)·PE(t + k) = Σ cos(k ω)"] > 1e-2
        )
    with monkeypatch.context() as patch:  # positions stretched where they should not be
        patch.setattr(RotaryPositions, "table", lambda *a: [x**2 for x in turn(*a)])
        found = worst(positional_embedding_type="rotary")
        assert min(found.values()) > 1e-4
    with monkeypatch.context() as patch:  # the wrong heads' biases
        patch.setattr(RelativePositions, "score_bias", lambda *a: bias(*a).flip(1))
        fields = {**KINDS["next-sentence"], "attn_sinks": False}
        model = make_model(dtype=torch.float64, **fields)
        scores = scores_on_one_token(model, 0, 12)
        patch.undo()
        places = torch.arange(12)[None]
        encoding: Any = model.pos_embed
        right = encoding.score_bias(places, places, torch.float64)
        with torch.no_grad():
            off = (scores - scores[..., :1] - right + right[..., :1]).abs().max()
        assert float(off) > 1e-2


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5), st.integers(-20, 20), st.sampled_from(["interleaved", "halves"]))
def test_rotation_is_the_exponential_of_its_generator(n: int, offset: int, layout: str) -> None:
    """R_k = exp(kA), with A taking each sine to its cosine and each cosine to minus its sine."""
    frequencies = noise(n, seed=n).abs()
    generator = torch.zeros(2 * n, 2 * n, dtype=torch.float64)
    for i in range(n):
        sine, cosine = (2 * i, 2 * i + 1) if layout == "interleaved" else (i, n + i)
        generator[sine, cosine], generator[cosine, sine] = frequencies[i], -frequencies[i]
    found = shift_rotation(frequencies, offset, layout)
    torch.testing.assert_close(found, torch.matrix_exp(offset * generator), rtol=0, atol=1e-10)
    torch.testing.assert_close(found @ found.T, torch.eye(2 * n).double(), rtol=0, atol=1e-12)
    composed = shift_rotation(frequencies, offset - 3, layout) @ shift_rotation(
        frequencies, 3, layout
    )
    torch.testing.assert_close(found, composed, rtol=0, atol=1e-12)


def test_products_fall_off_around_zero() -> None:
    frequencies = 10_000.0 ** (-torch.arange(0, 64, 2, dtype=torch.float64) / 64)
    found = sinusoidal_product(frequencies, torch.arange(-50, 51))
    torch.testing.assert_close(found, found.flip(0))
    assert float(found[50]) == 32.0
    assert bool((found[51:54].diff() < 0).all()) and float(found[60]) < 0.75 * 32


@pytest.mark.parametrize(
    ("n_heads", "power"), [(4, [2.0**-2, 2.0**-4, 2.0**-6, 2.0**-8]), (2, [2.0**-4, 2.0**-8])]
)
@pytest.mark.parametrize("direction", ["causal", "bidirectional"])
def test_alibi_slopes_are_recovered_from_scores(
    n_heads: int, power: list[float], direction: str, make_model: Callable[..., HookedTransformer]
) -> None:
    """Against the paper's numbers, in every layer, with and without a causal mask."""
    model = make_model(
        positional_embedding_type="alibi", n_heads=n_heads, attention_dir=direction,
        dtype=torch.float64,
    )  # fmt: skip
    found = fitted_slopes(scores_on_one_token(model, 7, 20))
    assert found.shape == (2, n_heads)
    for layer in found:
        assert layer.tolist() == pytest.approx(power, abs=1e-12)


def test_slopes_are_found_beside_other_scores() -> None:
    """Rows may lie at different heights, and masked scores count nothing."""
    distance = (torch.arange(9)[:, None] - torch.arange(9)).abs().double()
    scores = -0.3 * distance + noise(9, 1)
    scores = scores.masked_fill(distance > 4, -torch.inf)
    assert float(fitted_slopes(scores)) == pytest.approx(0.3, abs=1e-12)
    flat = noise(4, 9, 9)
    expected = []
    for head in flat:
        far = distance - distance.mean(-1, keepdim=True)
        rest = head - head.mean(-1, keepdim=True)
        expected.append(-float((far * rest).sum() / far.square().sum()))
    assert fitted_slopes(flat).tolist() == pytest.approx(expected)


def test_spread_is_that_of_a_loop() -> None:
    scores = noise(2, 6, 6).masked_fill(torch.ones(6, 6).triu(1).bool(), -torch.inf)
    worst = 0.0
    for head in scores:
        for k in range(6):
            on = [float(head[t + k, t]) for t in range(6 - k)]
            worst = max([worst, *(abs(x - sum(on) / len(on)) for x in on)])
    assert float(offset_spread(scores)) == pytest.approx(worst)


@pytest.mark.parametrize("n", [4, 16, 32])
@pytest.mark.parametrize("most", [17, 20, 128])
@pytest.mark.parametrize("causal", [True, False])
def test_t5_buckets_are_those_of_hugging_face(
    make_model: Callable[..., HookedTransformer], n: int, most: int, causal: bool
) -> None:
    t5 = pytest.importorskip("transformers.models.t5.modeling_t5", reason="needs the extra 'hf'")
    cfg = make_model().cfg.replace(
        positional_embedding_type="relative_positional_bias",
        relative_attention_num_buckets=n,
        relative_attention_max_distance=most,
    )
    offsets = torch.arange(-300, 301)
    encoding: Any = make_positions(cfg, causal)
    expected = t5.T5Attention._relative_position_bucket(offsets, not causal, n, most)
    assert torch.equal(encoding.buckets(offsets), expected)


def test_rotary_in_fp32_is_as_exact_as_it_says(
    make_model: Callable[..., HookedTransformer],
) -> None:
    """At 512 positions angles are rounded by up to 512 / 2^24: more than 1e-5, and said so."""
    cfg = make_model(positional_embedding_type="rotary", d_head=8).cfg
    encoding: Any = make_positions(cfg)
    short = rotary_identities(encoding, 32, torch.float32)
    long = rotary_identities(encoding, 512, torch.float32)
    assert all(x.tolerance == 1e-5 and x.error < 1e-6 for x in short)
    assert all(1e-6 < x.error <= x.tolerance == 4 * 512 / 2**24 for x in long)
    wide = rotary_identities(encoding, 512, torch.float64)
    assert all(x.error < 1e-10 == x.tolerance for x in wide)


def test_models_that_have_no_such_identity(make_model: Callable[..., HookedTransformer]) -> None:
    assert model_identities(make_model(), 8) == []
    assert model_identities(make_model(positional_embedding_type="shortformer"), 8) == []
    with pytest.raises(InputError, match="its positions are vectors"):
        scores_on_one_token(make_model(), 0, 8)
    with pytest.raises(InputError, match="sinks"):
        scores_on_one_token(make_model(**KINDS["gpt-oss"]), 0, 8)
    with pytest.raises(InputError, match="one stack"):
        model_identities(make_model(**KINDS["t5"]), 8)
    with pytest.raises(InputError, match="length"):
        model_identities(make_model(), 1)
    with pytest.raises(InputError, match="layout"):
        shift_rotation(torch.ones(2), 1, "mixed")
    with pytest.raises(InputError, match="two positions"):
        fitted_slopes(torch.zeros(1, 1))
