"""One hook point: hooks on gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from interp import HookedTransformer, HookPoint
from tests.interp.toy import Toy, X, zero

TOKENS = torch.arange(10).view(2, 5)
NAME = "blocks.1.hook_resid_pre"

Make = Callable[..., HookedTransformer]


def test_gradient_hooks_see_and_change_the_gradient() -> None:
    toy, seen = Toy(), {}

    def keep(name: str) -> Callable[..., None]:
        return lambda gradient, hook: seen.__setitem__(name, gradient.clone())

    x = X.clone().requires_grad_()
    toy.run_with_hooks(
        x, bwd_hooks=[("hook_a", keep("a")), ("hook_b", keep("b")), ("hook_y", keep("y"))]
    ).sum().backward()
    assert torch.equal(seen["y"], torch.ones_like(X))
    assert torch.equal(seen["b"], torch.full_like(X, 2))
    assert torch.equal(seen["a"], torch.full_like(X, 3))
    assert torch.equal(x.grad, seen["a"] @ toy.W.T)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "fn", [zero, lambda g, hook: g * 0, lambda g, hook: (g * 0,)], ids=["write", "value", "tuple"]
)
def test_an_edited_gradient_stays_on_its_path(fn: Callable[..., Any]) -> None:
    toy = Toy()
    x = X.clone().requires_grad_()
    toy.run_with_hooks(x, bwd_hooks=[("hook_b", fn)]).sum().backward()
    assert torch.equal(x.grad, torch.ones_like(X) @ toy.W.T)  # type: ignore[arg-type]


def test_several_gradient_hooks_act_in_order() -> None:
    toy, seen = Toy(), []
    toy.add_hook("hook_b", lambda g, hook: g + 1, dir="bwd")
    toy.add_hook("hook_b", lambda g, hook: g * 10, dir="bwd")
    toy.add_hook("hook_b", lambda g, hook: seen.append(g.clone()), dir="bwd")
    toy(X).sum().backward()
    assert torch.equal(seen[0], torch.full_like(X, 30))


def test_the_gradient_is_that_of_the_edited_tensor() -> None:
    toy, seen = Toy(), []
    x = X.clone().requires_grad_()
    toy.run_with_hooks(
        x,
        fwd_hooks=[("hook_b", lambda x, hook: x * 7)],
        bwd_hooks=[("hook_b", lambda g, hook: seen.append(g.clone()))],
    ).sum().backward()
    assert torch.equal(seen[0], torch.full_like(X, 2))
    assert torch.equal(x.grad, torch.full_like(X, 1 + 2 * 7) @ toy.W.T)  # type: ignore[arg-type]


def test_what_a_hook_saw_can_keep_its_gradient() -> None:
    toy, kept = Toy(), []

    def keep(x: Tensor, hook: HookPoint) -> None:
        x.retain_grad()
        kept.append(x)

    toy.run_with_hooks(X, fwd_hooks=[("hook_b", keep)]).sum().backward()
    assert torch.equal(kept[0].grad, torch.full_like(X, 2))


@pytest.mark.parametrize(
    "name", ["hook_pos_embed", "blocks.0.hook_mlp_in", "blocks.1.hook_mlp_out"]
)
def test_frozen_models_can_be_asked_for_gradients_inside(make_model: Make, name: str) -> None:
    model, kept = make_model(), []
    model.requires_grad_(False)

    def ask(x: Tensor, hook: HookPoint) -> None:
        kept.append(x.requires_grad_())

    for run in (model, lambda t: model.run_with_cache(t)[0]):
        kept.clear()
        with model.hooks([(name, ask)]):
            run(torch.arange(5)[None]).sum().backward()
        assert kept[0].grad.abs().max() > 0


def test_gradients_meet_the_names_of_one_tensor_from_last_to_first(make_model: Make) -> None:
    model, seen = make_model(dtype="float64"), []
    tokens = torch.arange(5)[None]

    def named(gradient: Tensor, hook: HookPoint) -> Tensor:
        seen.append(hook.name)
        return gradient * (2 if hook.name == "blocks.1.hook_resid_pre" else 1)

    def kept(gradient: Tensor, hook: HookPoint) -> None:
        gradients[hook.name] = gradient.clone()

    names = ["blocks.0.hook_resid_post", "blocks.1.hook_resid_pre"]
    gradients: dict[str | None, Tensor] = {}
    bwd = [(n, fn) for n in names for fn in (named, kept)]
    model.run_with_hooks(tokens, return_type="loss", bwd_hooks=bwd).backward()
    assert seen == names[::-1]
    assert torch.equal(gradients[names[0]], gradients[names[1]])
    assert gradients[names[0]].abs().max() > 0


def test_no_gradient_hook_fires_without_gradients() -> None:
    toy, seen = Toy(), []
    toy.add_hook("hook_a", lambda g, hook: seen.append(1), dir="bwd")
    with torch.no_grad():
        assert torch.equal(toy(X), (X @ toy.W) * 3)
    assert seen == []


@pytest.mark.parametrize("as_tuple", [False, True])
@pytest.mark.parametrize("later", [NAME, "blocks.0.hook_resid_post", "blocks.0.hook_mlp_out"])
def test_what_a_gradient_hook_returned_is_not_written_into(
    later: str, as_tuple: bool, make_model: Callable[..., HookedTransformer]
) -> None:
    model = make_model()
    mine = torch.ones(2, 5, model.cfg.d_model)
    seen: list[Tensor] = []

    def give(gradient: Tensor, hook: Any) -> Any:
        return (mine,) if as_tuple else mine

    def keep(gradient: Tensor, hook: Any) -> None:
        seen.append(gradient.clone())

    bwd_hooks = [(NAME, give), (later, keep), (later, zero), (later, keep)]
    model.run_with_hooks(TOKENS, return_type="loss", bwd_hooks=bwd_hooks).backward()
    assert torch.equal(mine, torch.ones_like(mine))
    first, after = seen
    assert torch.equal(first, mine)
    assert not after.any()


def test_a_gradient_hook_may_return_what_it_was_given(
    make_model: Callable[..., HookedTransformer],
) -> None:
    model, seen = make_model(), []
    hooks = [
        (NAME, lambda gradient, hook: gradient),
        (NAME, lambda gradient, hook: gradient.fill_(3)),
        (NAME, lambda gradient, hook: seen.append(gradient.clone())),
    ]
    model.run_with_hooks(TOKENS, return_type="loss", bwd_hooks=hooks).backward()
    assert torch.equal(seen[0], torch.full_like(seen[0], 3.0))
