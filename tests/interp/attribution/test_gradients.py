"""Gradients at hooks, against finite differences of runs with something added there."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from interp import HookedTransformer, InputError, patching
from interp.attribution import gradients
from interp.attribution.gradients import GradientRun, run_with_gradients
from tests.covering import every_nth
from tests.interp.kinds import KINDS, given_to, some_tokens, with_padding

Check = Callable[..., None]
Kind = Callable[[str], HookedTransformer]
Make = Callable[..., HookedTransformer]


def differentiable(name: str) -> bool:
    return not name.endswith("hook_tokens")


def found_of(
    model: HookedTransformer, run: dict[str, Any], metric: Any, hooks: Any = differentiable
) -> GradientRun:
    rest = {name: x for name, x in run.items() if name != "input"}
    return run_with_gradients(model, run["input"], hooks, metric, **rest)


def slope(model: HookedTransformer, run: dict[str, Any], metric: Any, hook: str) -> tuple[Any, Any]:
    """A direction at a hook, and by central differences the metric's slopes along it, `[batch]`."""
    generator = torch.Generator().manual_seed(1)
    used: list[Tensor] = []

    def value(step: float) -> Tensor:
        def add(x: Tensor, hook: Any) -> Tensor:
            if not used:
                used.append(torch.randn(x.shape, generator=generator, dtype=x.dtype))
            return x + step * used[0]

        mask = run.get("decoder_attention_mask", run.get("attention_mask"))
        logits = model.run_with_hooks(**run, fwd_hooks=[(hook, add)])
        return metric.per_prompt(logits, None if logits.ndim == 2 else mask)

    step = 1e-6
    return used, (value(step) - value(-step)) / (2 * step)


@pytest.mark.parametrize("name", KINDS)
def test_every_hook_of_every_kind(name: str, kind: Kind, assert_close: Check) -> None:
    model = kind(name)
    place = list(KINDS).index(name)
    run = given_to(model)
    if place % 3:
        run = with_padding(run, [0, 2, 1], place % 3 == 1)
    metric = patching.LogitDiff(0, 1)
    apart = ("hook_attn_in", "hook_q_input", "hook_k_input", "hook_v_input")
    seen = set()
    for chosen in (lambda h: not h.endswith(apart), "*_input", "*attn_in"):
        hooks = [h for h in model.match_hooks(chosen) if differentiable(h)]
        with torch.no_grad():
            found = found_of(model, run, metric, hooks)
            # Where gradients are wanted each head reads a copy of its own, as where it is edited.
            edits = [(h, lambda x, hook: x) for h in hooks]
            with model.hooks(edits):
                _, cache = model.run_with_cache(**run, names_filter=hooks)
            seen |= set(found.gradients)
            for hook in hooks:
                assert_close(found.activations[hook], cache[hook], hook)
            # A ninth of the hooks of each kind, not the same of all.
            for hook in every_nth(hooks, 9, place):
                if hook.endswith("hook_attn_scores"):
                    continue  # noise that is added to −inf
                (direction,), expected = slope(model, run, metric, hook)
                product = found.gradients[hook] * direction
                along = product.flatten(1).sum(1) if len(product) == 3 else product.sum()[None]
                if len(product) != 3:  # made once for all prompts
                    expected = expected.sum()[None]
                assert_close(along, expected, hook, 1e-7)
    assert seen == {n for n in model.hook_dict if differentiable(n)}
    assert not any(point.is_watched for point in model.hook_points())


def test_it_leaves_no_trace(make_model: Make) -> None:
    model = make_model(dtype="float64")
    before = [torch.full_like(p, 3.0) for p in model.parameters()]
    for parameter, gradient in zip(model.parameters(), before, strict=True):
        parameter.grad = gradient.clone()
    tokens, metric = some_tokens(), patching.Logit(3)
    expected = found_of(model, {"input": tokens}, metric, "*hook_z")
    for parameter, gradient in zip(model.parameters(), before, strict=True):
        assert torch.equal(parameter.grad, gradient)  # type: ignore[arg-type]
    assert not expected.value.requires_grad
    assert not any(x.requires_grad for x in expected.activations.values())
    model.requires_grad_(False)
    frozen = found_of(model, {"input": tokens}, metric, "*hook_z")
    with torch.inference_mode():
        inferred = found_of(model, {"input": tokens.clone()}, metric, "*hook_z")
    for other in (frozen, inferred):
        for hook, gradient in expected.gradients.items():
            assert torch.allclose(other.gradients[hook], gradient, atol=1e-12, rtol=1e-10)
    assert not any(p.requires_grad for p in model.parameters())


def test_hooks_act_and_are_seen(make_model: Make, assert_close: Check) -> None:
    model = make_model(dtype="float64")
    run = {"input": some_tokens()}
    hook = "blocks.0.hook_attn_out"

    def double(x: Tensor, hook: Any) -> Tensor:
        return x * 2

    plain = found_of(model, run, patching.Logit(3), ["blocks.0.attn.hook_z", hook])
    with model.hooks([(hook, double)]):
        attached = found_of(model, run, patching.Logit(3), ["blocks.0.attn.hook_z", hook])
    given = run_with_gradients(
        model, run["input"], ["blocks.0.attn.hook_z", hook], patching.Logit(3), [(hook, double)]
    )
    for name in plain.gradients:
        assert_close(given.gradients[name], attached.gradients[name])
    # Behind the edit what flows on is seen; in front of it the gradient is that through it.
    assert_close(given.activations[hook], 2 * plain.activations[hook])
    out = model.blocks[0].attn.W_O
    assert_close(
        given.gradients["blocks.0.attn.hook_z"],
        2 * torch.einsum("bpd,hed->bphe", given.gradients[hook], out),
    )


def test_backward_hooks_act_and_are_seen(make_model: Make, assert_close: Check) -> None:
    model = make_model(dtype="float64")
    run = {"input": some_tokens()}
    hook, before = "blocks.1.hook_attn_out", "blocks.0.hook_resid_post"
    for hooks in ([hook], [hook, before]):
        plain = found_of(model, run, patching.Logit(3), hooks)
        with model.hooks(bwd_hooks=[(hook, lambda g, hook: 2 * g)]):
            found = found_of(model, run, patching.Logit(3), hooks)
        assert_close(found.gradients[hook], 2 * plain.gradients[hook])
    assert (found.gradients[before] - plain.gradients[before]).abs().max() > 1e-3


def test_another_recording_is_not_disturbed(make_model: Make) -> None:
    model = make_model()
    _, left = model.run_with_cache(some_tokens(), names_filter="hook_embed", reset_hooks_end=False)
    before = left["hook_embed"]
    found_of(model, {"input": some_tokens(seed=2)}, patching.Logit(3), "hook_embed")
    assert left["hook_embed"] is before
    model.reset_hooks()


def test_functions_of_logits(make_model: Make, assert_close: Check) -> None:
    model = make_model(dtype="float64")
    run = {"input": some_tokens()}
    metric = patching.LogitDiff(0, 1)
    expected = found_of(model, run, metric, "*hook_q")
    by_prompt = found_of(model, run, lambda x: x[:, -1, 0] - x[:, -1, 1], "*hook_q")
    single = found_of(model, run, lambda x: (x[:, -1, 0] - x[:, -1, 1]).mean(), "*hook_q")
    assert_close(by_prompt.value, expected.value)
    assert_close(single.value, expected.value.mean())
    for hook, gradient in expected.gradients.items():
        assert_close(by_prompt.gradients[hook], gradient)
        assert_close(single.gradients[hook] * 3, gradient)


@pytest.mark.parametrize("name", ["gpt2", "gemma2", "stablelm2", "bert", "classifier", "t5"])
def test_only_what_a_metric_reads(name: str, kind: Kind, assert_close: Check) -> None:
    """A metric, which says what it reads, and the same as a function of all logits."""
    model = kind(name)
    run = with_padding(given_to(model), [0, 2, 1], left=False)
    mask = run.get("decoder_attention_mask", run["attention_mask"])
    tokens = run.get("decoder_input", run["input"])
    metrics = [patching.LogitDiff(0, torch.tensor([1, 2, 1])), patching.LogProb(2)]
    metrics += [] if model.cfg.classifies else [patching.Loss()]
    for metric in metrics:

        def of_all(logits: Tensor, metric: patching.Metric = metric) -> Tensor:
            given = None if logits.ndim == 2 else mask
            return metric.prepared(tokens, given).per_prompt(logits, given)

        found, expected = (found_of(model, run, m, "*hook_resid_pre") for m in (metric, of_all))
        assert_close(found.value, expected.value)
        for hook, gradient in expected.gradients.items():
            assert_close(found.gradients[hook], gradient, hook)


def test_a_fault_keeps_no_graph(make_model: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Activations of a run whose metric failed are let go: no collector sees through a graph."""
    made: list[weakref.ref[Any]] = []
    init = gradients._Tracer.__init__

    def watched(self: Any, run_depth: int) -> None:
        init(self, run_depth)
        made.append(weakref.ref(self))

    monkeypatch.setattr(gradients._Tracer, "__init__", watched)
    for fault in (lambda x: 1 / 0, lambda x: x[:, :2, 0], lambda x: x.detach().mean()):
        with pytest.raises((InputError, ZeroDivisionError)):
            run_with_gradients(make_model(), some_tokens(), "*hook_z", fault)
    gc.collect()
    assert [ref() for ref in made] == [None] * 3


def test_bad_input(make_model: Make) -> None:
    model = make_model().requires_grad_(False)
    tokens = some_tokens()
    with pytest.raises(InputError, match="change by little"):
        run_with_gradients(model, tokens, "hook_tokens", patching.Logit(3))
    with pytest.raises(InputError, match="hooks must name one"):
        run_with_gradients(model, tokens, [], patching.Logit(3))
    with pytest.raises(InputError, match="no hook is called"):
        run_with_gradients(model, tokens, "blocks.9.hook_z", patching.Logit(3))
    with pytest.raises(InputError, match="must be a Metric"):
        run_with_gradients(model, tokens, "hook_embed", 3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="as a tensor"):
        run_with_gradients(model, tokens, "hook_embed", lambda x: 1.0)
    with pytest.raises(InputError, match="as a tensor"):
        run_with_gradients(model, tokens, "hook_embed", lambda x: x[:, :2, 0])
    with pytest.raises(InputError, match="must be differentiable"):
        run_with_gradients(model, tokens, "hook_embed", lambda x: x.detach().mean())
