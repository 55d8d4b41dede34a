"""Means by position beside loops over sequences and positions."""

from __future__ import annotations

import statistics
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from interp import HookedTransformer, InputError
from interp.position_effects.means import PositionMeans, merged, position_means
from tests.interp.kinds import KINDS, some_tokens

HOOKS = ["blocks.*.hook_resid_post", "blocks.1.attn.hook_k", "blocks.0.attn.hook_pattern"]


@pytest.fixture(scope="module")
def model(make_model: Callable[..., HookedTransformer]) -> HookedTransformer:
    return make_model(n_key_value_heads=2, dtype=torch.float64)


def check_against_loop(found: PositionMeans, name: str, x: Tensor) -> None:
    """`x`: `[sequence, pos, *rest]`."""
    flat = x.flatten(2)
    mean, variance = found.mean[name].flatten(1), found.variance[name].flatten(1)
    content = []
    for pos in range(x.shape[1]):
        content.append(0.0)
        for entry in range(flat.shape[2]):
            values = flat[:, pos, entry].tolist()
            assert mean[pos, entry] == pytest.approx(statistics.fmean(values), abs=1e-12)
            expected = statistics.variance(values)
            assert variance[pos, entry] == pytest.approx(expected, abs=1e-12)
            content[-1] += expected
    assert found.content_power[name].reshape(len(content), -1).sum(-1).tolist() == pytest.approx(
        content
    )
    error = (found.variance[name] / len(x)).sqrt()
    torch.testing.assert_close(found.stderr[name], error)
    torch.testing.assert_close(found.grand[name], x.mean((0, 1)))
    torch.testing.assert_close(found.centred[name], x.mean(0) - x.mean((0, 1)))


def test_means_and_variances_are_those_of_a_loop(model: HookedTransformer) -> None:
    tokens = some_tokens(7, 5)
    found = position_means(model, tokens, HOOKS, batch_size=3)
    _, cache = model.run_with_cache(tokens)
    assert found.names == model.match_hooks(HOOKS)
    for name in found.names:
        x = cache[name].movedim(2, 1) if "pattern" in name else cache[name]
        check_against_loop(found, name, x)
    assert found.content_power["blocks.1.attn.hook_k"].shape == (5, 2)
    assert found.mean["blocks.0.attn.hook_pattern"].shape == (5, 4, 5)  # pos head key_pos


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 9), st.integers(1, 7))
def test_neither_batches_nor_folds_change_anything(
    model: HookedTransformer, batch_size: int, folds: int
) -> None:
    tokens = some_tokens(7, 4)
    name = "blocks.1.hook_resid_pre"
    found = position_means(model, tokens, name, batch_size=batch_size, folds=folds)
    whole = position_means(model, tokens, name, batch_size=7)
    torch.testing.assert_close(found.mean[name], whole.mean[name], rtol=0, atol=1e-12)
    torch.testing.assert_close(found.squares[name], whole.squares[name], rtol=0, atol=1e-12)
    assert len(found.folds) == (folds if folds > 1 else 0)
    x = model.run_with_cache(tokens, names_filter=name)[1][name]
    start = 0
    for i, fold in enumerate(found.folds):
        rows = x[start : start + fold.n_sequences]
        others = torch.cat([x[:start], x[start + fold.n_sequences :]])
        torch.testing.assert_close(fold.mean[name], rows.mean(0), rtol=0, atol=1e-12)
        left = found.without_fold(i)
        torch.testing.assert_close(left.mean[name], others.mean(0), rtol=0, atol=1e-12)
        squares = (others - others.mean(0)).square().sum(0)
        torch.testing.assert_close(left.squares[name], squares, rtol=0, atol=1e-12)
        start += fold.n_sequences
    assert sum(fold.n_sequences for fold in found.folds) == (7 if folds > 1 else 0)


@pytest.mark.parametrize("kind", [k for k in KINDS if KINDS[k].get("architecture") is None])
def test_every_decoder(
    kind: str, make_model: Callable[..., HookedTransformer], assert_close: Any
) -> None:
    model = make_model(**KINDS[kind])
    tokens = some_tokens(4, 5)
    found = position_means(model, tokens, "blocks.*.hook_resid_post", batch_size=4)
    _, cache = model.run_with_cache(tokens)
    for name in found.names:
        assert found.mean[name].dtype == torch.float64
        assert_close(found.mean[name], cache[name].double().mean(0), name, 1e-5)


def test_a_large_mean_costs_no_digits(model: HookedTransformer) -> None:
    """A sum of squares less the square of a sum would have none left."""
    tokens, name = some_tokens(9, 4), "blocks.0.hook_resid_post"
    plain = position_means(model, tokens, name, batch_size=2)
    far = [(name, lambda x, hook: x + 1e8)]
    moved = position_means(model, tokens, name, batch_size=2, fwd_hooks=far)
    torch.testing.assert_close(moved.mean[name], plain.mean[name] + 1e8)
    assert float((moved.variance[name] - plain.variance[name]).abs().max()) < 1e-5
    assert float(plain.variance[name].mean()) > 0.01
    assert model.watched_hooks() == (set(), set())


def test_batches_are_merged_as_they_come(
    model: HookedTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many batches no more means are kept than of one, and one for each group."""
    from interp.position_effects import means

    alive: weakref.WeakSet[PositionMeans] = weakref.WeakSet()
    most, of = [0], means._means_of

    def counted(kept: Any) -> PositionMeans:
        found = of(kept)
        alive.add(found)
        most.append(len(alive))
        return found

    monkeypatch.setattr(means, "_means_of", counted)
    position_means(model, some_tokens(40, 3), "hook_embed", batch_size=1, folds=2)
    assert len(most) == 41 and max(most) <= 4


def test_half_precision_is_summed_in_fp64(make_model: Callable[..., HookedTransformer]) -> None:
    model = make_model(dtype=torch.bfloat16)
    tokens, name = some_tokens(64, 3), "blocks.0.hook_resid_post"
    found = position_means(model, tokens, name, batch_size=64)
    x = model.run_with_cache(tokens, names_filter=name)[1][name].double()
    torch.testing.assert_close(found.mean[name], x.mean(0), rtol=0, atol=1e-12)


def test_heads_are_taken_apart(model: HookedTransformer) -> None:
    found = position_means(model, some_tokens(6, 4), ["hook_embed", "*.1.attn.hook_k"], folds=2)
    apart = found.per_head()
    assert apart.names == ["hook_embed", "blocks.1.attn.hook_k[0]", "blocks.1.attn.hook_k[1]"]
    whole, name = found.mean["blocks.1.attn.hook_k"], "blocks.1.attn.hook_k[1]"
    assert torch.equal(apart.mean[name], whole[:, 1])
    curve = apart.curve(name)
    assert torch.equal(curve.mean, whole[:, 1])
    assert torch.equal(curve.folds[1], found.folds[1].mean["blocks.1.attn.hook_k"][:, 1])
    assert torch.equal(curve.content_power, found.content_power["blocks.1.attn.hook_k"][:, 1])
    assert curve.sizes == (3, 3)


def test_what_has_no_mean_is_refused(
    model: HookedTransformer, make_model: Callable[..., HookedTransformer]
) -> None:
    tokens, name = some_tokens(4, 4), "hook_embed"
    refused: list[tuple[Callable[[], Any], str]] = [
        (lambda: position_means(model, tokens[:1], name), "two sequences or more"),
        (lambda: position_means(model, tokens[0], name), "two sequences or more"),
        (lambda: position_means(model, tokens, name, folds=5), "no more than sequences"),
        (lambda: position_means(model, tokens, name, folds=0), "folds must be"),
        (lambda: position_means(model, tokens, name, batch_size=0), "batch_size must be"),
        (lambda: position_means(model, tokens, []), "at least one hook"),
        (lambda: position_means(model, tokens, "blocks.0.attn.hook_attn_scores"), "-inf"),
        (lambda: position_means(model, tokens, "hook_tokens"), "position axis"),
        (lambda: position_means(model, tokens, name).curve(name), "two folds or more"),
        (lambda: position_means(model, tokens, name, folds=2).curve("hook_z"), "unknown hook"),
        (
            lambda: position_means(model, tokens, "*.0.attn.hook_z", folds=2).curve(
                "blocks.0.attn.hook_z"
            ),
            "per_head",
        ),
        (lambda: merged([]), "parts"),
        (
            lambda: position_means(make_model(**KINDS["t5"]), tokens, "encoder.hook_embed"),
            "one stack",
        ),
    ]
    for call, rule in refused:
        with pytest.raises(InputError, match=rule):
            call()
    spoilt = [(name, lambda x, hook: x / 0.0)]
    with pytest.raises(InputError, match="finite"):
        position_means(model, tokens, name, fwd_hooks=spoilt)


def test_padding_is_refused(make_model: Callable[..., HookedTransformer]) -> None:
    class Tokenizer:
        padding_side, pad_token_id, eos_token_id, bos_token_id = "left", 0, 1, 2

    model = make_model()
    model.tokenizer = Tokenizer()
    tokens = some_tokens(3, 5).clamp(min=3)
    position_means(model, tokens, "hook_embed")
    tokens[1, 0] = 0
    with pytest.raises(InputError, match="padding"):
        position_means(model, tokens, "hook_embed")
