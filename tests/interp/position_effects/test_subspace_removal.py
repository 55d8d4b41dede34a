"""Subspaces of position: planted ones are found, random ones are uniform, removal removes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp import HookedTransformer, InputError, load_model
from interp.interventions import applied
from interp.position_effects import (
    position_waves,
    random_subspace,
    rank_of_equal_share,
    spreads,
)
from tests.interp.kinds import some_tokens

HOOKS = ["blocks.0.hook_resid_pre", "blocks.1.hook_mlp_out"]


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("batch_size", [2, 50])
def test_spreads_are_plain_moments(
    make_model: Callable[..., HookedTransformer], first: int, batch_size: int, assert_close: Any
) -> None:
    model, tokens = make_model(dtype="float64"), some_tokens(7, 6)
    found = spreads(model, tokens, HOOKS, batch_size, first)
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens)
    for hook in HOOKS:
        x = cache[hook][:, first:]
        flat = x.reshape(-1, 24)
        assert_close(found[hook].mean, flat.mean(0))
        assert_close(found[hook].by_position, x.mean(0))
        assert_close(found[hook].covariance, torch.cov(flat.T, correction=0))
        directions = found[hook].position_directions
        assert_close(directions @ directions.T, torch.eye(len(directions)).double())
        assert len(directions) == 5 - first  # means of so many positions, less their mean
        basis = torch.linalg.qr(torch.randn(24, 3).double()).Q.T
        share = (flat @ basis.T).var(0, correction=0).sum() / flat.var(0, correction=0).sum()
        assert found[hook].share(basis) == pytest.approx(float(share))
        assert found[hook].share(torch.eye(24)) == pytest.approx(1.0)


def test_a_planted_direction_is_found_and_removed(
    make_model: Callable[..., HookedTransformer], assert_close: Any
) -> None:
    """Positions that are multiples of one vector: one direction, and no position without it."""
    model = make_model(dtype="float64", n_ctx=16)
    along = torch.randn(24, generator=torch.Generator().manual_seed(1)).double()
    with torch.no_grad():
        model.pos_embed.W_pos.copy_(torch.arange(16.0).double()[:, None] * along)
    one = torch.full((3, 9), 5)  # one token everywhere: nothing but position differs
    hook = "blocks.0.hook_resid_pre"
    of = spreads(model, one, [hook])[hook]
    assert len(of.position_directions) == 1
    assert_close(of.position_directions[0].abs(), (along / along.norm()).abs())
    assert of.share(of.position_directions) == pytest.approx(1.0)
    with torch.no_grad(), applied(model, of.removal(of.position_directions)):
        _, cache = model.run_with_cache(one)
    assert_close(cache[hook], of.mean.expand(3, 9, 24))
    before = spreads(model, one, [hook], first=2)[hook]
    with torch.no_grad(), applied(model, before.removal(before.position_directions)):
        _, cache = model.run_with_cache(one)
    assert_close(cache[hook][:, 2:], before.mean.expand(3, 7, 24))
    with torch.no_grad():
        assert_close(cache[hook][:, :2], model.run_with_cache(one)[1][hook][:, :2])


def test_a_model_without_positions_has_no_directions_of_its_own(
    make_model: Callable[..., HookedTransformer],
) -> None:
    """The same token at all positions of a bidirectional model: means do not vary at all."""
    model = make_model(
        dtype="float64", positional_embedding_type="none", attention_dir="bidirectional"
    )
    of = spreads(model, torch.full((3, 9), 5), HOOKS)
    assert [len(of[hook].position_directions) for hook in HOOKS] == [0, 0]


@settings(max_examples=20, deadline=None)
@given(dim=st.integers(1, 12), data=st.data(), seed=st.integers(0, 99))
def test_random_subspaces(dim: int, data: st.DataObject, seed: int) -> None:
    rank = data.draw(st.integers(1, dim))
    basis = random_subspace(dim, rank, seed)
    assert torch.allclose(basis @ basis.T, torch.eye(rank).double(), atol=1e-12)
    assert torch.equal(basis, random_subspace(dim, rank, seed))


def test_random_subspaces_hold_their_share_of_any_covariance() -> None:
    """In the mean rank/dim, which is what equal variance goes by."""
    sizes = torch.tensor([100.0, 10.0, 5.0, 1.0, 1.0, 0.1]).double()
    shares = []
    for seed in range(2000):
        basis = random_subspace(6, 2, seed)
        shares.append(float((basis.square() * sizes).sum() / sizes.sum()))
    found = torch.tensor(shares)
    assert abs(float(found.mean()) - 1 / 3) < 4 * float(found.std()) / 2000**0.5
    assert [rank_of_equal_share(share, 6) for share in (0.0, 1 / 3, 0.6, 1.0)] == [1, 2, 4, 6]


@settings(max_examples=20, deadline=None)
@given(length=st.integers(2, 40), data=st.data())
def test_waves_are_orthonormal_and_slow_first(length: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, length - 1))
    waves = position_waves(length, count)
    gram = waves.T @ waves / length
    assert torch.allclose(gram, torch.eye(count).double(), atol=1e-12)
    assert float(waves.mean(0).abs().max()) < 1e-12
    assert (waves[:, 0].diff() < 0).all()  # the first falls all along


def test_nothing_is_padding(assert_close: Any) -> None:
    """Whatever tokens rows begin with: as `intervention_effects` runs them."""
    model = load_model("zoo:copy-rotary", device="cpu", dtype="float64")
    assert model.tokenizer is not None
    model.tokenizer.padding_side = "left"
    tokens = some_tokens(4, 9)
    tokens[:, :3] = model.tokenizer.pad_token_id
    hook = "blocks.1.hook_resid_post"
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens, attention_mask=torch.ones_like(tokens))
    assert_close(spreads(model, tokens, [hook])[hook].by_position, cache[hook].mean(0))


def test_refusals(make_model: Callable[..., HookedTransformer]) -> None:
    model = make_model()
    for act, rule in (
        (lambda: spreads(model, some_tokens(), ["blocks.0.attn.hook_q"]), "must hold vectors"),
        (lambda: spreads(model, some_tokens(), HOOKS, first=5), "first must be below"),
        (lambda: random_subspace(4, 5, 0), "rank must be at most the dimensions, 4. Received 5"),
        (lambda: random_subspace(4, 0, 0), "rank must be a whole number"),
        (lambda: rank_of_equal_share(1.5, 4), "share must lie in 0 … 1"),
        (lambda: position_waves(4, 4), "count must be below the length, 4"),
    ):
        with pytest.raises(InputError, match=rule):
            act()
