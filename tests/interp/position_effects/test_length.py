"""Loss by position against plain loops; stretched rotary models against Hugging Face."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp import HookedTransformer, InputError, load_model
from interp.config import PositionalEmbeddingType
from interp.position_effects import position_rows
from interp.position_effects.length import (
    PositionScores,
    by_position,
    length_generalisation,
    rotary_variant,
    trained_length_of,
    variants_of,
    with_rotary,
)
from interp.pretrained import from_hf
from interp.rotary_scaling import RotaryScaling

Make = Callable[..., HookedTransformer]
STRETCHED = ("linear", "ntk", "dynamic", "yarn")


@pytest.mark.parametrize("encoding", get_args(PositionalEmbeddingType))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_losses_are_those_of_a_plain_loop(
    make_model: Make, assert_close: Any, encoding: str, dtype: torch.dtype
) -> None:
    model = make_model(positional_embedding_type=encoding, dtype=dtype)
    rows = position_rows(model, 5, 9, kind="repeated")
    scores = by_position(model, rows, batch_size=2)
    assert rows.targets is not None
    logits = model(rows.tokens).detach().double()
    for t in range(9):
        losses, right = [], []
        for i in range(5):
            if rows.scored[i, t]:
                target = int(rows.targets[i, t])
                said = logits[i, t].exp() / logits[i, t].exp().sum()
                losses.append(-math.log(float(said[target])))
                right.append(float(int(logits[i, t].argmax()) == target))
        assert int(scores.count[t]) == len(losses)
        if not losses:
            assert math.isnan(scores.loss[t]) and math.isnan(scores.accuracy[t])
            continue
        mean, of_right = sum(losses) / 5, sum(right) / 5
        stderr = math.sqrt(sum((x - mean) ** 2 for x in losses) / 4 / 5)
        found = torch.stack([scores.loss[t], scores.loss_stderr[t], scores.accuracy[t]])
        expected = torch.tensor([mean, stderr, of_right], dtype=torch.float64)
        assert_close(found, expected, f"position {t}", 1e-5 if dtype == torch.float32 else 1e-10)


def test_mean_loss_is_the_models_own(make_model: Make, assert_close: Any) -> None:
    model = make_model()
    rows = position_rows(model, 6, 12)
    scores = by_position(model, rows)
    loss = model(rows.tokens, return_type="loss")
    assert_close(torch.tensor(scores.mean_loss().mean), loss.detach().double())
    assert scores.mean_loss().n_sequences == 6
    # As many predictions in each: the error of a ratio is that of a mean of means.
    of_rows = model(rows.tokens, return_type="loss", loss_per_token=True).double().mean(1)
    assert_close(
        torch.tensor(scores.mean_loss().stderr), (of_rows.std() / 6**0.5).detach(), "", 1e-6
    )


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(2, 6), length=st.integers(1, 7))
def test_means_over_positions_are_weighted(seed: int, n: int, length: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scored = torch.rand(n, length, generator=generator) < 0.6
    losses = torch.rand(n, length, generator=generator, dtype=torch.float64)
    right = torch.rand(n, length, generator=generator) < 0.5
    scores = PositionScores(losses.masked_fill(~scored, torch.nan), right & scored, scored)
    if not scored.any():
        assert math.isnan(scores.mean_loss().mean)
        return
    found = scores.mean_loss()
    assert found.mean == pytest.approx(float(losses[scored].mean()))
    assert scores.mean_accuracy().mean == pytest.approx(float(right[scored].double().mean()))
    at = scores.count > 0
    summed = (scores.loss[at] * scores.count[at]).sum() / scores.count.sum()
    assert float(summed) == pytest.approx(found.mean)
    # The error, row by row.
    parts = [(float(losses[i][scored[i]].sum()), int(scored[i].sum())) for i in range(n)]
    parts = [(total, count) for total, count in parts if count]
    assert found.n_sequences == len(parts)
    if len(parts) > 1:
        away = sum((total - found.mean * count) ** 2 for total, count in parts)
        error = math.sqrt(len(parts) / (len(parts) - 1) * away) / sum(c for _, c in parts)
        assert found.stderr == pytest.approx(error)
    else:
        assert math.isnan(found.stderr)


def test_the_error_is_the_spread_of_samples() -> None:
    """Drawn again and again, means spread as far as the error says; naive ones would not."""
    generator = torch.Generator().manual_seed(0)
    means, errors = [], []
    for _ in range(400):
        of_row = torch.randn(40, 1, generator=generator, dtype=torch.float64)
        losses = of_row + 0.1 * torch.randn(40, 9, generator=generator, dtype=torch.float64)
        scored = torch.rand(40, 9, generator=generator) < 0.5
        scores = PositionScores(losses.masked_fill(~scored, torch.nan), scored, scored)
        means.append(scores.mean_loss().mean)
        errors.append(scores.mean_loss().stderr)
    spread = float(torch.tensor(means).std())
    assert float(torch.tensor(errors).mean()) == pytest.approx(spread, rel=0.12)


def test_tokens_that_look_like_padding_are_none(make_model: Make, assert_close: Any) -> None:
    model = load_model("zoo:induction", device="cpu")
    pad = model.tokenizer.pad_token_id
    model.set_tokenizer(model.tokenizer, "left")
    rows = position_rows(model, 3, 20, kind="random", prepend_bos=False)
    tokens = rows.tokens.clone()
    tokens[:, :4] = pad
    given = replace(rows, tokens=tokens)
    logits = model(tokens, attention_mask=torch.ones_like(tokens))
    assert rows.targets is not None
    expected = -logits.log_softmax(-1).gather(-1, rows.targets[..., None])[..., 0]
    found = by_position(model, given).losses[:, :-1]
    assert_close(found, expected[:, :-1].detach(), "", 1e-5)


# --- rotary positions, stretched -----------------------------------------------------------------


@pytest.mark.parametrize("length", [20, 21, 50])
@pytest.mark.parametrize("variant", STRETCHED)
def test_variants_are_those_of_transformers(
    hf_llama: Callable[..., Any], assert_close: Any, variant: Any, length: int
) -> None:
    """Against a Llama whose config asks for the same, with the same weights."""
    hf = hf_llama(dtype=torch.float64)
    factor, theta = length / 20, 10_000.0
    parameters: dict[str, Any] = {"rope_type": variant, "rope_theta": theta, "factor": factor}
    if variant == "ntk":
        parameters = {"rope_type": "default", "rope_theta": theta * factor ** (10 / 8)}
    if variant == "yarn":
        parameters["original_max_position_embeddings"] = 20
    stretched = hf_llama(dtype=torch.float64, rope_parameters=parameters)
    stretched.load_state_dict(hf.state_dict())
    model = from_hf(hf)
    assert trained_length_of(model) == 20
    tokens = torch.randint(37, (2, length), generator=torch.Generator().manual_seed(0))
    found = rotary_variant(model, variant, length, 20)(tokens)
    expected = stretched(tokens).logits
    # The reference turns in fp32.
    assert_close(found, expected, variant, 1e-5)
    if length > 20:
        moved = (found - model(tokens)).detach().abs().max()
        assert float(moved) > 1e-3, "the variant does something"


def test_dynamic_stretches_further_than_its_paper(make_model: Make, assert_close: Any) -> None:
    """In texts of one length the paper's is the fixed base; that of transformers grows faster."""
    model = make_model(positional_embedding_type="rotary", rotary_dim=6)
    base, tokens = model.cfg.rotary_base, torch.arange(36)[None] % 31
    paper = RotaryScaling(kind="dynamic", factor=1.0, original_n_ctx=12)
    fixed = rotary_variant(model, "ntk", 36, 12)
    assert fixed.cfg.rotary_base == pytest.approx(base * 3 ** (6 / 4))
    assert_close(with_rotary(model, paper)(tokens), fixed(tokens), "the paper's")
    further = with_rotary(model, base=base * (3**2 - 3 + 1) ** (6 / 4))
    found = rotary_variant(model, "dynamic", 36, 12)(tokens)
    assert_close(found, further(tokens), "transformers'")
    assert not torch.allclose(found, fixed(tokens), atol=1e-3)


def test_variants_of_a_model_with_hooks_are_refused(make_model: Make) -> None:
    """They would be compared with a model that is not the same: theirs are other hook points."""
    model = make_model(positional_embedding_type="rotary")
    (before,) = length_generalisation(model, [12], n=3, variants=["plain"])
    with model.hooks(fwd_hooks=[("blocks.0.attn.hook_z", lambda x, hook: x * 0)]):
        with pytest.raises(InputError, match=r"with hooks is read as 'plain' alone.*'linear'"):
            length_generalisation(model, [12], n=3, variants=["plain", "linear"])
        with pytest.raises(InputError, match="with hooks is read as 'plain' alone"):
            length_generalisation(model, [12], n=3)
        (hooked,) = length_generalisation(model, [12], n=3, variants=["plain"])
    assert before.scores is not None and hooked.scores is not None
    assert hooked.scores.mean_loss().mean != before.scores.mean_loss().mean
    assert len(length_generalisation(model, [12], n=3)) == 1 + len(STRETCHED)


def test_weights_are_shared_and_the_model_is_left_alone(make_model: Make) -> None:
    model = make_model(positional_embedding_type="rotary", n_key_value_heads=2)
    model.add_hook("blocks.0.hook_resid_pre", lambda x, hook: x)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    cfg, tokens = model.cfg.to_dict(), torch.arange(20)[None]
    logits = model(tokens)
    scaling = RotaryScaling(kind="linear", factor=3.0, original_n_ctx=8)
    twin = with_rotary(model, scaling)
    ours, theirs = dict(model.named_parameters()), dict(twin.named_parameters())
    assert list(ours) == list(theirs)
    assert all(ours[name] is theirs[name] for name in ours)
    assert twin.cfg.rotary_scaling == scaling and twin.cfg.n_params == model.cfg.n_params
    assert model.cfg.to_dict() == cfg
    assert {**twin.cfg.to_dict(), "rotary_scaling": None} == cfg
    assert twin.watched_hooks() == (set(), set())
    assert not torch.equal(twin(tokens), logits)
    assert torch.equal(model(tokens), logits)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    with torch.no_grad():
        model.W_E.mul_(2.0)  # what is written into the one is in the other
    assert torch.equal(twin.W_E, model.W_E)
    assert torch.equal(with_rotary(twin)(tokens), model(tokens))  # and back again


@pytest.mark.parametrize(
    "fields",
    [
        {"tie_word_embeddings": True},
        {"normalization_type": "RMS", "gated_mlp": True, "act_fn": "silu", "qk_norm": "head"},
        {"num_experts": 3, "experts_per_token": 2, "gated_mlp": True, "attn_sinks": True},
        {"window_size": 3, "attn_types": ("local", "global"), "rotary_base_local": 50.0},
        {"rotary_dim": 4, "parallel_attn_mlp": True, "dtype": torch.float64},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_factor_one_changes_nothing(
    make_model: Make, assert_close: Any, fields: dict[str, Any]
) -> None:
    model = make_model(positional_embedding_type="rotary", **fields).train()
    tokens = torch.arange(14)[None]
    for variant in STRETCHED:
        twin = rotary_variant(model, variant, 14, 14)  # type: ignore[arg-type]
        assert twin.training
        assert_close(twin(tokens), model(tokens), variant)
        longer = rotary_variant(model, variant, 14, 5)  # type: ignore[arg-type]
        moved = (longer(tokens) - model(tokens)).detach()
        assert float(moved.abs().max()) > 1e-4, variant


def test_a_model_that_was_moved_has_moved_twins(make_model: Make) -> None:
    model = make_model(positional_embedding_type="rotary").to(torch.float64)
    twin = with_rotary(model, base=99.0)
    assert twin.W_E.dtype == torch.float64 == twin.cfg.dtype == model.cfg.dtype
    assert twin.cfg.device == model.cfg.device and twin.cfg.rotary_base == 99.0
    assert twin(torch.arange(9)[None]).dtype == torch.float64


# --- lengths -------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["standard", "shortformer"])
def test_tables_refuse_and_say_so(make_model: Make, encoding: str) -> None:
    model = make_model(positional_embedding_type=encoding, n_ctx=12)
    within, beyond = length_generalisation(model, [12, 13], n=3)
    assert within.scores is not None and within.refusal is None
    assert within.kind == "repeated random tokens" and within.variant == "plain"
    assert beyond.scores is None
    assert beyond.refusal == "learned positions end at n_ctx (12). Received 13 tokens."


def test_every_length_variant_and_distance_is_there() -> None:
    model = load_model("zoo:copy-rotary", device="cpu")
    found = length_generalisation(model, [48, 60], n=4, variants=["plain", "yarn"], seed=2)
    assert [(f.offsets, f.variant, f.length) for f in found] == [
        (offsets, variant, length)
        for offsets in ("scaled", "trained")
        for variant in ("plain", "yarn")
        for length in (48, 60)
    ]
    scaling = RotaryScaling(kind="yarn", factor=60 / 48, original_n_ctx=48)
    rows = position_rows(model, 4, 60, seed=2, offsets="trained")
    expected = by_position(with_rotary(model, scaling), rows)
    last = found[-1].scores
    assert last is not None and found[-1].kind == "task copy"
    assert torch.equal(last.losses.nan_to_num(), expected.losses.nan_to_num())
    assert [f.length for f in length_generalisation(model, n=2, variants=["plain"])] == [
        48, 96, 192, 384, 48, 96, 192, 384,
    ]  # fmt: skip


def test_texts_are_scored_as_text(make_model: Make) -> None:
    model = load_model("zoo:induction", device="cpu")
    (found,) = length_generalisation(model, [20], n=3, texts=["aBcDeFgHiJ" * 9])
    assert found.kind == "text" and found.offsets is None
    assert found.scores is not None and int(found.scores.count.sum()) == 3 * 19


def test_variants_that_fit(make_model: Make) -> None:
    assert variants_of(make_model()) == ("plain",)
    assert variants_of(make_model(positional_embedding_type="rotary")) == ("plain", *STRETCHED)
    two = make_model(positional_embedding_type="rotary", rotary_dim=2)
    assert variants_of(two) == ("plain", "linear", "yarn")
    scaling = {"kind": "linear", "factor": 2.0, "original_n_ctx": 8}
    stretched = make_model(positional_embedding_type="rotary", rotary_scaling=scaling)
    assert variants_of(stretched) == ("plain",)


def test_bad_input(make_model: Make) -> None:
    learned, rotary = make_model(), make_model(positional_embedding_type="rotary")
    encoder = make_model(architecture="encoder")
    scaling = RotaryScaling(kind="linear", factor=2.0, original_n_ctx=8)
    with pytest.raises(InputError, match=r"must have rotary positions\. It has 'standard'"):
        with_rotary(learned, scaling)
    with pytest.raises(InputError, match="base must be"):
        with_rotary(rotary, base=-1.0)
    with pytest.raises(InputError, match="variant must be one of"):
        rotary_variant(rotary, "longrope", 8, 8)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="stretched already"):
        rotary_variant(with_rotary(rotary, scaling), "yarn", 8, 8)
    with pytest.raises(InputError, match="must have rotary positions"):
        length_generalisation(learned, variants=["plain", "yarn"], n=2)
    with pytest.raises(InputError, match="nothing is to be predicted"):
        by_position(encoder, position_rows(encoder, 2))
    asked: dict[str, Any]
    for asked in ({"lengths": []}, {"variants": ()}, {"offsets": ()}):
        with pytest.raises(InputError, match=f"{next(iter(asked))} must name at least one"):
            length_generalisation(rotary, **asked, n=2)
    for asked in ({"lengths": [8, 8]}, {"variants": ["plain", "plain"]}):
        with pytest.raises(InputError, match="none twice"):
            length_generalisation(rotary, **asked, n=2)
    with pytest.raises(InputError, match="trained_length must be"):
        length_generalisation(rotary, trained_length=0, n=2)
    with pytest.raises(InputError, match="batch_size must be"):
        by_position(rotary, position_rows(rotary, 2), batch_size=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_a_gpu_it_is_the_same(make_model: Make, assert_close: Any) -> None:
    scores = []
    for device in ("cpu", "cuda"):
        model = make_model(positional_embedding_type="rotary", device=device)
        twin = rotary_variant(model, "yarn", 30, 10)
        assert twin.W_E.device == model.W_E.device == torch.device(str(twin.cfg.device))
        rows = position_rows(model, 4, 30, kind="repeated")
        scores.append(by_position(twin, rows))
    assert_close(scores[1].loss.cpu(), scores[0].loss, "", 1e-5)
