"""Sweeps of a model with hooks of one's own, and recorders that see nothing of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from interp import HookedTransformer, InputError, patching
from tests.interp.kinds import (
    some_tokens,
)
from tests.interp.patching.cases import inputs, squares
from tests.interp.patching.loop import patched_one_by_one

Check = Callable[..., None]
Kind = Callable[[str], HookedTransformer]


@pytest.mark.parametrize("site", ["resid_pre", "z", "hook_embed", "unembed.hook_in"])
def test_own_hooks_act_in_every_world(site: str, kind: Kind, assert_close: Check) -> None:
    model = kind("gpt2")
    run = inputs(model, None)
    with torch.no_grad():
        _, source = model.run_with_cache(**inputs(model, None, 7))

    def own(x: Tensor, hook: Any) -> None:
        assert x.shape[:2] == (3, 5)
        x[1, 2] *= 2.0

    sites = patching.sites(model, site)
    metric = patching.LogitDiff(1, 2)
    plain = patching.sweep(model, run["input"], source, sites, metric)
    with model.hooks(fwd_hooks=[("blocks.0.hook_mlp_out", own)]):
        before = {name: list(point.fwd_hooks) for name, point in model.hook_dict.items()}
        found = patching.sweep(model, run["input"], source, sites, metric)
        expected = patched_one_by_one(model, run, source, sites, metric)
        setter = patching.generic_activation_patch(
            model, run["input"], source, metric, lambda x, i, c: c, "resid_pre", ("layer", "pos")
        )
        assert setter.shape == (2, 5)
        assert before == {name: point.fwd_hooks for name, point in model.hook_dict.items()}
    assert_close(found.values, expected, site, 1e-10)
    assert (found.base - plain.base).abs().max() > 1e-6


def test_a_recorder_of_ones_own_sees_nothing_of_a_sweep(kind: Kind) -> None:
    model = kind("gpt2")
    tokens = some_tokens()

    def sweep_inside(x: Tensor, hook: Any) -> None:
        if hook.ctx.setdefault("done", False):
            return
        hook.ctx["done"] = True
        handles = hook.fwd_hooks
        hook.fwd_hooks = []
        patching.sweep(model, tokens.flip(0), 0.0, "resid_pre", patching.Logit(1))
        hook.fwd_hooks = handles

    with torch.no_grad():
        _, expected = model.run_with_cache(tokens)
        with model.hooks(
            fwd_hooks=[("blocks.1.hook_resid_pre", sweep_inside)], clear_contexts=True
        ):
            _, found = model.run_with_cache(tokens)
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


def test_a_recorder_left_on_the_model_sees_nothing_of_a_sweep(kind: Kind) -> None:
    model = kind("gpt2")
    _, found = model.run_with_cache(some_tokens(), reset_hooks_end=False)
    expected = {name: x.clone() for name, x in found.items()}
    recorders = [point.recorder for point in model.hook_points()]
    for site in ("resid_pre", "q", "hook_embed", "ln_final.hook_scale"):
        patching.sweep(model, some_tokens(seed=7), 0.0, site, patching.Logit(1))
    assert [point.recorder for point in model.hook_points()] == recorders and any(recorders)
    assert all(torch.equal(x, expected[name]) for name, x in found.items())
    model.reset_hooks()


@torch.no_grad()
def test_a_function_may_write_into_its_logits(kind: Kind, assert_close: Check) -> None:
    """The base's logits, which worlds take what is before their patch from, stay what they are."""
    model = kind("gpt2")
    run = inputs(model, None)

    def doubles(logits: Tensor) -> Tensor:
        logits *= 2.0
        return squares(logits)

    sites = patching.sites(model, "resid_pre", positions=[3, 4])
    found = patching.sweep(model, run["input"], 0.0, sites, doubles)
    expected = patched_one_by_one(model, run, 0.0, sites, doubles)
    assert_close(found.values, expected, "writes", 1e-10)


def test_nothing_is_left_after_an_exception(kind: Kind) -> None:
    model = kind("gpt2")

    def fails(logits: Tensor) -> Tensor:
        raise RuntimeError("no metric")

    with pytest.raises(RuntimeError, match="no metric"):
        patching.sweep(model, some_tokens(), 0.0, "z", fails)
    _, cache = model.run_with_cache(some_tokens())
    narrow = {name: x[..., :2] for name, x in cache.items()}
    for site in ("q", "z", "ln1.hook_normalized", "hook_embed", "ln_final.hook_normalized"):
        with pytest.raises(InputError, match="must have the base's shape"):
            patching.sweep(model, some_tokens(), narrow, site, patching.Logit(1))
    assert not any(point.is_watched for point in model.hook_points())
    assert model._watchers.run_depth == 0
