"""A model's hooks in contexts that undo themselves."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
import torch
from torch import Tensor

from interp import HookedTransformer, HookPoint, InputError
from tests.interp.attached import PATTERN, POST, PRE, TOKENS, attached, double, zero

Make = Callable[..., HookedTransformer]
Check = Callable[..., None]


class Fault(Exception):
    """Raised by hooks on purpose."""


@pytest.fixture
def model(make_model: Make) -> HookedTransformer:
    return make_model(dtype="float64")


def fail(x: Tensor, hook: HookPoint) -> None:
    raise Fault


def test_hooks_are_gone_after_the_block(model: HookedTransformer) -> None:
    plain = model(TOKENS)
    with model.hooks([(PRE, double), ("*.hook_mlp_out", zero)], [(PRE, double)]) as inside:
        assert inside is model
        assert attached(model) == {PRE: 2, "blocks.0.hook_mlp_out": 1, "blocks.1.hook_mlp_out": 1}
        assert not torch.equal(model(TOKENS), plain)
    assert attached(model) == {}
    assert torch.equal(model(TOKENS), plain)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (2, 0, 1)])
def test_contexts_undo_in_any_order(model: HookedTransformer, order: tuple[int, ...]) -> None:
    model.add_hook(PRE, double)
    contexts = [model.hooks([(PRE, fn), (name, fn)]) for fn, name in _three()]
    for context in contexts:
        context.__enter__()
    assert attached(model) == {PRE: 4, POST: 2, PATTERN: 1}
    levels = sorted(h.level for h in model.hook_dict[PRE].fwd_hooks if h.level is not None)
    assert levels == [1, 2, 3]
    open_contexts = {0, 1, 2}
    for which in order:
        contexts[which].__exit__(None, None, None)
        open_contexts.remove(which)
        fns = [h.fn for h in model.hook_dict[PRE].fwd_hooks]
        assert fns == [double] + [_three()[i][0] for i in sorted(open_contexts)]
    assert attached(model) == {PRE: 1}
    assert model.context_level == 0


def _three() -> list[tuple[Any, str]]:
    return [(zero, POST), (double, PATTERN), (fail, POST)]


def test_a_fault_in_the_block_undoes_all_levels(model: HookedTransformer) -> None:
    def nest() -> None:
        with ExitStack() as stack:
            for _ in range(3):
                stack.enter_context(model.hooks([(PRE, zero)], [(PRE, zero)]))
            assert attached(model) == {PRE: 6}
            raise Fault

    with pytest.raises(Fault):
        nest()
    assert attached(model) == {}
    assert model.context_level == 0


def test_a_fault_in_a_hook_leaves_nothing(model: HookedTransformer) -> None:
    runs: list[Callable[[], Any]] = [
        lambda: model.run_with_hooks(TOKENS, fwd_hooks=[(POST, double), (PRE, fail)]),
        lambda: _cached_with(model, fail),
        lambda: model.run_with_hooks(torch.tensor([[99]]), fwd_hooks=[(PRE, double)]),
        lambda: model.run_with_cache(torch.tensor([[99]])),
        lambda: model.run_with_cache(TOKENS, remove_batch_dim=True),
        lambda: model.run_with_cache(TOKENS, incl_bwd=True),
        lambda: model.run_with_cache(TOKENS, pos_slice=17),
    ]
    plain = model(TOKENS)
    for run in runs:
        with pytest.raises((Fault, InputError)):
            run()
        assert attached(model) == {}
        assert torch.equal(model(TOKENS), plain)
    logits, cache = model.run_with_cache(TOKENS)
    assert torch.allclose(logits, plain, rtol=0, atol=1e-12)
    assert set(cache.keys()) == model.default_hook_names()


def _cached_with(model: HookedTransformer, fn: Any, **kwargs: Any) -> Any:
    with model.hooks([(PRE, fn)]):
        return model.run_with_cache(TOKENS, **kwargs)


def test_a_fault_in_backward_leaves_nothing(model: HookedTransformer) -> None:
    with pytest.raises(Fault), model.hooks(bwd_hooks=[(PRE, fail)]):
        model(TOKENS, return_type="loss").backward()
    assert attached(model) == {}
    with pytest.raises(Fault), model.hooks(bwd_hooks=[(PRE, fail)]):
        model.run_with_cache(TOKENS, return_type="loss", incl_bwd=True)
    assert attached(model) == {}
    with torch.no_grad(), pytest.raises((RuntimeError, InputError), match="grad"):
        model.run_with_cache(TOKENS, return_type="loss", incl_bwd=True)
    assert attached(model) == {}


def test_gradients_of_frozen_weights_begin_at_the_hooks(
    model: HookedTransformer, assert_close: Check
) -> None:
    _, trained = model.run_with_cache(TOKENS, return_type="loss", incl_bwd=True)
    model.requires_grad_(False)
    _, frozen = model.run_with_cache(TOKENS, return_type="loss", incl_bwd=True)
    assert set(frozen) == set(trained)
    for name in trained:
        assert_close(frozen[name], trained[name], name)


def test_something_that_is_no_function_undoes_those_before_it(model: HookedTransformer) -> None:
    with pytest.raises(InputError, match="callable"), model.hooks([(PRE, zero), (POST, None)]):  # type: ignore[list-item]
        pytest.fail("the block must not run")
    assert attached(model) == {}
    assert model.context_level == 0


def test_user_hooks_survive_runs(model: HookedTransformer, assert_close: Check) -> None:
    fns = [double, lambda x, hook: x + 1]
    model.add_hook(PRE, fns[0])
    model.add_perma_hook(PRE, fns[1])
    model.add_hook(PRE, double, dir="bwd")
    expected = model(TOKENS)
    seen: list[Tensor] = []
    model.run_with_hooks(
        TOKENS, fwd_hooks=[(PRE, lambda x, hook: seen.append(x.clone())), (POST, zero)]
    )
    logits, cache = model.run_with_cache(TOKENS, names_filter=[PRE, POST])
    # The record holds what flows on after the user's hooks.
    assert_close(logits, expected)
    assert_close(cache[PRE], cache[POST] * 2 + 1)
    assert_close(seen[0], torch.ones_like(seen[0]))
    with pytest.raises(Fault):
        model.run_with_hooks(TOKENS, fwd_hooks=[(PRE, fail)])
    assert [h.fn for h in model.hook_dict[PRE].fwd_hooks] == fns
    assert attached(model) == {PRE: 3}
    assert_close(model(TOKENS), expected)


def test_reset_hooks(model: HookedTransformer) -> None:
    def attach() -> None:
        model.reset_hooks(including_permanent=True)
        model.add_hook(PRE, double)
        model.add_hook(POST, double, level=1)
        model.add_hook(PRE, double, dir="bwd")
        model.add_perma_hook(PATTERN, double)

    attach()
    model.reset_hooks()
    assert attached(model) == {PATTERN: 1}
    attach()
    model.reset_hooks(direction="fwd")
    assert attached(model) == {PRE: 1, PATTERN: 1}
    attach()
    model.reset_hooks(direction="bwd")
    assert attached(model) == {PRE: 1, POST: 1, PATTERN: 1}
    attach()
    model.reset_hooks(level=1)
    assert attached(model) == {PRE: 2, PATTERN: 1}
    attach()
    model.hook_dict[PRE].ctx["kept"] = 1
    model.remove_all_hook_fns()
    assert attached(model) == {PATTERN: 1}
    assert model.hook_dict[PRE].ctx == {"kept": 1}
    model.reset_hooks(clear_contexts=False)
    assert model.hook_dict[PRE].ctx == {"kept": 1}
    model.reset_hooks(including_permanent=True)
    assert attached(model) == {}
    assert model.hook_dict[PRE].ctx == {}


def test_reset_hooks_end_false_leaves_them(model: HookedTransformer) -> None:
    edited = model.run_with_hooks(TOKENS, fwd_hooks=[(PRE, double)], reset_hooks_end=False)
    assert attached(model) == {PRE: 1}
    assert torch.equal(model(TOKENS), edited)
    with model.hooks([(POST, zero)]):  # a later context at the same depth
        pass
    assert attached(model) == {PRE: 1}
    model.reset_hooks()
    assert attached(model) == {}


def test_a_recorder_left_behind_goes_on_recording_until_reset(
    model: HookedTransformer, assert_close: Check
) -> None:
    others = (TOKENS + 7) % 31
    _, cache = model.run_with_cache(TOKENS, names_filter=[PRE, POST], reset_hooks_end=False)
    assert attached(model) == {PRE: 1, POST: 1}
    first = cache[PRE].clone()
    model(others)
    _, expected = model.run_with_cache(others, names_filter=PRE)
    assert_close(cache[PRE], expected[PRE])
    assert not torch.equal(first, cache[PRE])
    model.reset_hooks()
    assert attached(model) == {}
    model(TOKENS)
    assert_close(cache[PRE], expected[PRE])
