"""Gradients at every hook of every kind of model, against those of the plain restatement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from interp import HookedTransformer
from tests.interp.kinds import (
    Change,
    everything,
    given_to,
    one_place_each,
    shared_out,
    some_tokens,
    with_padding,
)
from tests.interp.restatement import SPLIT, Edit, reference

Check = Callable[..., None]
Kind = Callable[[str], HookedTransformer]

# One of every part: norms of each placement, qk_norms, experts, sinks, caps, heads, shapes.
FOR_GRADIENTS = [
    "gpt2", "solu-ln", "llama-ungrouped", "olmo2", "gpt-oss", "full-ungrouped",
    "bert", "classifier", "translator",
]  # fmt: skip


def _scalar(logits: Tensor) -> Tensor:
    weights = torch.linspace(-1, 1, logits.numel(), dtype=logits.dtype).reshape(logits.shape)
    return (logits.sin() * weights).sum()


def _hooks(model: HookedTransformer) -> list[str]:
    """Those with a gradient."""
    return [name for name in model.hook_dict if not name.endswith("hook_tokens")]


def _some_hooks(name: str, kind: Kind, n: int) -> list[str]:
    """Of one place each; of what several of `FOR_GRADIENTS` have, in every `n`th of them."""
    hooks = {x: one_place_each(_hooks(kind(x)), i) for i, x in enumerate(FOR_GRADIENTS)}
    return shared_out(hooks, n)[name]


class _WithState:
    """What `reference` reads of a model, with other weights."""

    def __init__(self, model: HookedTransformer, state: dict[str, Tensor]) -> None:
        self.cfg = model.cfg
        self._state = state

    def state_dict(self) -> dict[str, Tensor]:
        return self._state


def _restated_gradients(
    model: HookedTransformer, run: dict[str, Tensor], edits: dict[str, Any]
) -> dict[str, Tensor]:
    """By the restatement: what every weight gets."""
    weights = dict(model.named_parameters())
    state = {k: v.detach().clone().requires_grad_() for k, v in weights.items()}
    logits, _ = reference(_WithState(model, state), **run, edits=edits)
    found = torch.autograd.grad(_scalar(logits), list(state.values()), allow_unused=True)
    return {
        key: torch.zeros_like(weight) if gradient is None else gradient
        for (key, weight), gradient in zip(weights.items(), found, strict=True)
    }


def _check_gradients(
    model: HookedTransformer, expected: dict[str, Tensor], assert_close: Check, what: str
) -> None:
    for key, weight in model.named_parameters():
        found = torch.zeros_like(weight) if weight.grad is None else weight.grad
        assert_close(found, expected[key], f"{what} → {key}")
    model.zero_grad()


def _restated_gradients_at_hooks(
    model: HookedTransformer, run: dict[str, Tensor]
) -> dict[str, Tensor]:
    """By the restatement: the gradient of something added to the tensor at each of these points.

    All in one run, but for the inputs of single heads: an edit of one shapes the others.
    """
    gradients = {}
    groups: dict[str, list[str]] = {}
    for hook in _hooks(model):
        last = hook.rpartition(".")[2]
        groups.setdefault(last if last in SPLIT else "", []).append(hook)
    for hooks in groups.values():
        added: dict[str, Tensor] = {}

        def adding(hook: str, added: dict[str, Tensor] = added) -> Edit:
            def edit(x: Tensor) -> Tensor:
                assert hook not in added
                added[hook] = torch.zeros_like(x, requires_grad=True)
                return x + added[hook]

            return edit

        logits, _ = reference(model, **run, edits={hook: adding(hook) for hook in hooks})
        places = [added[hook] for hook in hooks]
        found = torch.autograd.grad(_scalar(logits), places, allow_unused=True)
        for hook, place, gradient in zip(hooks, places, found, strict=True):
            gradients[hook] = torch.zeros_like(place) if gradient is None else gradient
    return gradients


@pytest.mark.parametrize("name", FOR_GRADIENTS)
def test_gradient_hooks_see_the_gradient(name: str, kind: Kind, assert_close: Check) -> None:
    model = kind(name)
    run = given_to(model, 2, 4)
    expected = _restated_gradients_at_hooks(model, run)
    for hook in _some_hooks(name, kind, 2):
        seen: list[Tensor] = []

        def keep(gradient: Tensor, hook: Any, seen: list[Tensor] = seen) -> None:
            seen.append(gradient.clone())

        logits = model.run_with_hooks(**run, bwd_hooks=[(hook, keep)])
        _scalar(logits).backward()
        assert len(seen) == 1, hook
        assert_close(seen[0], expected[hook], hook)
    model.zero_grad()


@pytest.mark.parametrize("name", ["gpt2", "gpt-oss", "t5"])
def test_gradients_of_the_loss_are_recorded(name: str, kind: Kind, assert_close: Check) -> None:
    model = kind(name)
    run: dict[str, Any] = {**given_to(model, 2, 4), "return_type": "loss"}
    for hook in one_place_each(_hooks(model), 0):
        loss, cache = model.run_with_cache(**run, names_filter=hook, incl_bwd=True)
        assert set(cache.keys()) == {hook, f"{hook}_grad"}
        captured: list[Tensor] = []

        def add(x: Tensor, hook: Any, captured: list[Tensor] = captured) -> Tensor:
            captured.append(torch.zeros_like(x, requires_grad=True))
            return x + captured[0]

        loss = model.run_with_hooks(**run, fwd_hooks=[(hook, add)])
        expected = torch.autograd.grad(loss, captured[0])[0]
        assert_close(cache[f"{hook}_grad"], expected, hook)
    model.zero_grad()


@pytest.mark.parametrize("way", ["returned", "tuple", "in place"])
@pytest.mark.parametrize("name", FOR_GRADIENTS)
def test_edited_gradients_flow_back(name: str, way: str, kind: Kind, assert_close: Check) -> None:
    """An edited gradient reaches what made the tensor, and nothing else."""
    model = kind(name)
    run = given_to(model, 2, 4)

    def changed(gradient: Tensor) -> Tensor:
        return gradient * -0.5 + 0.01

    def fn(gradient: Tensor, hook: Any) -> Any:
        if way == "in place":
            gradient.mul_(-0.5).add_(0.01)
            return None
        return (changed(gradient),) if way == "tuple" else changed(gradient)

    def edit(x: Tensor) -> Tensor:
        x = x.view_as(x)
        if x.requires_grad:
            x.register_hook(lambda g: changed(g.clone()))
        return x

    ways = ("returned", "tuple", "in place")
    hooks = _some_hooks(name, kind, 3)
    for hook in hooks[ways.index(way) :: 3]:  # each hook in one way
        expected = _restated_gradients(model, run, {hook: edit})
        model.zero_grad()
        _scalar(model.run_with_hooks(**run, bwd_hooks=[(hook, fn)])).backward()
        _check_gradients(model, expected, assert_close, hook)


@pytest.mark.parametrize("name", FOR_GRADIENTS)
def test_edits_in_place_still_differentiate(name: str, kind: Kind, assert_close: Check) -> None:
    model = kind(name)
    run = given_to(model, 2, 4)
    ways = [Change(in_place, everywhere=True) for in_place in (True, False)]
    tokens = [hook for hook in model.hook_dict if hook.endswith("hook_tokens")]
    for i, hook in enumerate([*tokens, *_some_hooks(name, kind, 3)]):
        way = ways[i // 2 % 2]  # both in each model
        expected = _restated_gradients(model, run, {hook: way.edit(hook)})
        model.zero_grad()
        _scalar(model.run_with_hooks(**run, fwd_hooks=[(hook, way)])).backward()
        _check_gradients(model, expected, assert_close, f"{hook}, {way}")


# --- padding -------------------------------------------------------------------------------------


@pytest.mark.parametrize("left", [True, False])
@pytest.mark.parametrize("name", ["gpt2", "llama", "gpt-oss", "bloom", "shortformer", "gemma2"])
def test_gradients_of_a_padded_batch_are_those_of_its_rows(
    name: str, left: bool, kind: Kind, assert_close: Check
) -> None:
    model, tokens = kind(name), some_tokens(2, 5)
    model.zero_grad()
    places = torch.arange(2, 5) if left else torch.arange(3)
    run = with_padding({"input": tokens}, [2, 0], left)
    names = [n for n in model.default_hook_names() if not n.endswith("hook_tokens")]
    _, whole = model.run_with_cache(**run, return_type="loss", incl_bwd=True, names_filter=names)
    # The mean over 2 + 4 predictions; alone it is one over 2.
    _, alone = model.run_with_cache(
        tokens[:1, places], return_type="loss", incl_bwd=True, names_filter=names
    )
    model.zero_grad()
    for hook in names:
        gradient = whole[f"{hook}_grad"]
        assert not gradient.isnan().any(), hook
        found = gradient[0]
        if hook.endswith(("hook_attn_scores", "hook_pattern", "hook_pos_bias")):
            found = found[:, places][:, :, places]
        else:
            found = found[places]
        assert_close(found * 3, alone[f"{hook}_grad"][0], hook)


@pytest.mark.parametrize("left", [True, False])
@pytest.mark.parametrize("name", ["llama", "bidirectional-tied", "bloom", "olmo2", "t5", "bert"])
def test_fused_and_spelled_out_kernels_have_the_same_gradients(
    name: str, left: bool, kind: Kind, assert_close: Check
) -> None:
    model = kind(name)
    run = with_padding(given_to(model, 2, 5), [2, 0], left)
    real = run.get("decoder_attention_mask", run["attention_mask"]) > 0
    found = []
    for names in ([], everything):
        model.zero_grad()
        logits, _ = model.run_with_cache(**run, names_filter=names)
        _scalar(logits[real]).backward()
        found.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    model.zero_grad()
    assert found[0].keys() == found[1].keys()
    for key, gradient in found[0].items():
        assert_close(gradient, found[1][key], key)
