"""One hook point: order, edits, and what may be relied on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from interp import HookedTransformer, HookPoint, InputError
from tests.interp.toy import Toy, X, zero

Make = Callable[..., HookedTransformer]
Check = Callable[..., None]


def double(x: Tensor, hook: HookPoint) -> Tensor:
    """Return a new tensor."""
    return x * 2


def test_unwatched_point_passes_the_tensor_itself() -> None:
    toy = Toy()
    assert toy.hook_a(X) is X
    handle = toy.hook_a.add_hook(double)
    assert not torch.equal(toy.hook_a(X), X)
    toy.hook_a.detach(handle)
    assert toy.hook_a(X) is X


def test_hooks_act_in_order_and_prepend_goes_first() -> None:
    toy, seen = Toy(), []

    def named(name: str) -> Callable[..., None]:
        return lambda x, hook: seen.append(name)

    toy.add_hook("hook_a", named("1"))
    toy.add_hook("hook_a", named("2"))
    toy.add_hook("hook_a", named("0"), prepend=True)
    toy.add_hook("hook_a", named("-1"), prepend=True)
    toy(X)
    assert seen == ["-1", "0", "1", "2"]


def test_each_hook_sees_what_the_one_before_left() -> None:
    toy, seen = Toy(), []
    toy.add_hook("hook_a", lambda x, hook: x + 1)
    toy.add_hook("hook_a", _times_ten)
    toy.add_hook("hook_a", lambda x, hook: seen.append(x.clone()))
    toy(X)
    assert torch.equal(seen[0], ((X @ toy.W) + 1) * 10)


def _times_ten(x: Tensor, hook: HookPoint) -> None:
    x.mul_(10)


def test_none_keeps_and_a_value_replaces() -> None:
    toy = Toy()
    plain = toy(X)
    with toy.hooks([("hook_a", lambda x, hook: None)]):
        assert torch.equal(toy(X), plain)
    with toy.hooks([("hook_a", double)]):
        assert torch.equal(toy(X), plain * 2)
    with toy.hooks([("hook_b", double)]):
        assert torch.equal(toy(X), (X @ toy.W) * 5)


@pytest.mark.parametrize("mode", ["no_grad", "inference", "grad"])
def test_writing_into_a_branch_leaves_the_others(mode: str) -> None:
    toy = Toy()
    modes = {
        "no_grad": torch.no_grad(),
        "inference": torch.inference_mode(),
        "grad": torch.enable_grad(),
    }
    with modes[mode], toy.hooks([("hook_b", zero)]):
        assert torch.equal(toy(X), X @ toy.W)


def test_writing_past_autograd_counts_too() -> None:
    toy = Toy()

    def through_data(x: Tensor, hook: HookPoint) -> None:
        x.data.zero_()

    def through_numpy(x: Tensor, hook: HookPoint) -> None:
        x.numpy()[:] = 0

    with torch.no_grad():
        for fn in (through_data, through_numpy):
            with toy.hooks([("hook_b", fn)]):
                assert torch.equal(toy(X), X @ toy.W)
            with toy.hooks([("hook_a", fn)]):
                assert torch.equal(toy(X), torch.zeros_like(X))


def test_what_a_hook_returned_is_not_written_into() -> None:
    toy = Toy()
    for later in ("hook_a", "hook_b"):
        mine = torch.ones_like(X)
        with (
            torch.no_grad(),
            toy.hooks([("hook_a", lambda x, hook, mine=mine: mine), (later, zero)]),
        ):
            out = toy(X)
        assert torch.equal(mine, torch.ones_like(X))
        assert torch.equal(out, torch.zeros_like(X) if later == "hook_a" else mine)


def test_write_after_a_returned_value_differentiates() -> None:
    toy = Toy()
    x = X.clone().requires_grad_()
    with toy.hooks([("hook_a", lambda x, hook: x.sigmoid()), ("hook_a", _first_column_to_zero)]):
        out = toy(x)
    out.sum().backward()
    inner = torch.sigmoid(X @ toy.W)
    slope = inner * (1 - inner) * 3 * torch.tensor([0.0, 1.0], dtype=torch.float64)
    assert torch.allclose(x.grad, slope @ toy.W.T, rtol=0, atol=1e-12)  # type: ignore[arg-type]


def _first_column_to_zero(x: Tensor, hook: HookPoint) -> None:
    x[:, 0] = 0


def test_a_hook_may_return_what_it_was_given() -> None:
    toy = Toy()
    with toy.hooks([("hook_a", lambda x, hook: x), ("hook_a", lambda x, hook: x.mul_(2))]):
        assert torch.equal(toy(X), (X @ toy.W) * 6)


@pytest.mark.parametrize(
    ("value", "text"),
    [("text", "received a str"), (torch.zeros(3, 3), r"\(3, 3\)"), (torch.zeros(3), r"\(3,\)")],
)
def test_wrong_return_values_are_refused_by_name(value: Any, text: str) -> None:
    toy = Toy()
    with toy.hooks([("hook_b", lambda x, hook: value)]):
        with pytest.raises(InputError, match=text) as caught:
            toy(X)
        assert "hook_b" in str(caught.value)
    assert not toy.hook_b.is_watched
    toy.add_hook("hook_b", lambda gradient, hook: value, dir="bwd")
    out = toy(X).sum()
    with pytest.raises(InputError, match="hook_b"):
        out.backward()


def test_the_batch_may_change() -> None:
    toy = Toy()
    with toy.hooks([("hook_a", lambda x, hook: x[:1].expand(5, -1))]):
        assert torch.equal(toy(X), ((X @ toy.W) * 3)[:1].expand(5, -1))


def test_context_stays_until_cleared() -> None:
    toy = Toy()

    def count(x: Tensor, hook: HookPoint) -> None:
        hook.ctx["n"] = hook.ctx.get("n", 0) + 1

    toy.add_hook("hook_a", count)
    toy(X)
    toy(X)
    assert toy.hook_a.ctx == {"n": 2}
    assert toy.hook_b.ctx == {}
    toy.reset_hooks(clear_contexts=False)
    assert toy.hook_a.ctx == {"n": 2}
    toy.hook_a.clear_context()
    assert toy.hook_a.ctx == {}


def test_contexts_are_cleared_on_request() -> None:
    toy = Toy()

    def note(x: Tensor, hook: HookPoint) -> None:
        hook.ctx["seen"] = True

    toy.run_with_hooks(X, fwd_hooks=[("hook_a", note)])
    assert toy.hook_a.ctx == {"seen": True}
    toy.run_with_hooks(X, fwd_hooks=[("hook_a", note)], clear_contexts=True)
    assert toy.hook_a.ctx == {}
    toy.hook_b.ctx["kept"] = 1
    toy.clear_contexts()
    assert toy.hook_b.ctx == {}
    toy.hook_b.ctx["kept"] = 1
    toy.run_with_cache(X, clear_contexts=True)
    assert toy.hook_b.ctx == {}
    toy.hook_b.ctx["kept"] = 1
    toy.reset_hooks()
    assert toy.hook_b.ctx == {}


def test_removal_from_inside() -> None:
    toy, seen = Toy(), []
    handles = []

    def once(x: Tensor, hook: HookPoint) -> Tensor:
        seen.append("once")
        hook.detach(handles[0])
        return x * 2

    handles.append(toy.hook_a.add_hook(once))
    toy.add_hook("hook_a", lambda x, hook: seen.append("after"))
    plain = (X @ toy.W) * 3
    assert torch.equal(toy(X), plain * 2)
    assert torch.equal(toy(X), plain)
    assert seen == ["once", "after", "after"]
    toy.hook_a.detach(handles[0])  # gone already: no error

    toy.add_hook("hook_a", lambda x, hook: toy.reset_hooks())
    toy.add_hook("hook_b", double)
    toy(X)
    assert not any(point.is_watched for point in toy.hook_points())


def test_removal_by_direction_level_and_permanence() -> None:
    toy = Toy()
    point = toy.hook_a
    point.add_hook(double)
    point.add_hook(double, level=1)
    point.add_hook(double, level=2)
    point.add_perma_hook(double)
    point.add_hook(double, dir="bwd")
    point.add_perma_hook(double, dir="bwd")

    def counts() -> tuple[int, int]:
        return len(point.fwd_hooks), len(point.bwd_hooks)

    assert counts() == (4, 2)
    assert point.extra_repr() == "4 fwd, 2 bwd"
    point.remove_hooks("fwd", level=2)
    assert counts() == (3, 2)
    point.remove_hooks("bwd")
    assert counts() == (3, 1)
    point.remove_hooks("fwd")
    assert counts() == (1, 1)
    point.remove_hooks("both")
    assert counts() == (1, 1)
    assert point.is_watched
    point.remove_hooks("both", including_permanent=True)
    assert counts() == (0, 0)
    assert not point.is_watched
    with pytest.raises(InputError, match="dir"):
        point.remove_hooks("sideways")  # type: ignore[arg-type]


def test_what_can_be_attached() -> None:
    toy = Toy()
    with pytest.raises(InputError, match="'fwd' or 'bwd'"):
        toy.add_hook("hook_a", double, dir="sideways")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"callable.*hook_a"):
        toy.add_hook("hook_a", None)  # type: ignore[arg-type]
    assert not toy.hook_a.is_watched


@pytest.mark.parametrize(
    "method",
    [
        "register_forward_hook",
        "register_forward_pre_hook",
        "register_full_backward_hook",
        "register_full_backward_pre_hook",
        "register_backward_hook",
    ],
)
def test_torch_s_own_hooks_are_refused(method: str) -> None:
    with pytest.raises(InputError, match="add_hook"):
        getattr(Toy().hook_a, method)(lambda *args: None)


def test_layer_is_the_block_s_number(make_model: Make) -> None:
    model = make_model(n_layers=12)
    assert model.hook_dict["blocks.11.attn.hook_z"].layer() == 11
    for outside in ("hook_embed", "ln_final.hook_scale"):
        with pytest.raises(InputError, match=outside):
            model.hook_dict[outside].layer()


# --- runs inside runs ----------------------------------------------------------------------------


def test_a_hook_may_run_the_model(make_model: Make, assert_close: Check) -> None:
    model = make_model(dtype="float64")
    tokens, others = torch.arange(5)[None], torch.arange(5, 10)[None]
    with torch.no_grad():
        plain, records = model.run_with_cache(tokens)
        inner: list[Any] = []

        def run(x: Tensor, hook: HookPoint) -> None:
            if not hook.ctx.get("inside"):
                hook.ctx["inside"] = True
                inner.append(model(others))
                inner.append(model.run_with_cache(others, names_filter="blocks.*.hook_resid_post"))
                hook.ctx["inside"] = False

        with model.hooks([("blocks.1.hook_resid_pre", run)]):
            outer, cache = model.run_with_cache(tokens)
        expected, expected_cache = model.run_with_cache(others)
    assert_close(outer, plain)
    assert_close(inner[0], expected)
    assert_close(inner[1][0], expected)
    assert set(cache.keys()) == set(records.keys())
    for name in cache:
        assert_close(cache[name], records[name], name)
    for name, value in inner[1][1].items():
        assert_close(value, expected_cache[name], name)
    assert not any(p.is_watched for p in model.hook_points())


def test_a_gradient_hook_may_run_the_model(make_model: Make, assert_close: Check) -> None:
    model = make_model(dtype="float64")
    tokens, others = torch.arange(5)[None], torch.arange(5, 10)[None]
    _, plain = model.run_with_cache(tokens, return_type="loss", incl_bwd=True)

    def run(gradient: Tensor, hook: HookPoint) -> None:
        with torch.no_grad():
            model(others)

    with model.hooks(bwd_hooks=[("blocks.1.hook_resid_pre", run)]):
        _, cache = model.run_with_cache(tokens, return_type="loss", incl_bwd=True)
    for name in plain:
        assert_close(cache[name], plain[name], name)


def test_hooks_attached_during_a_run_act_at_the_latest_in_the_next(make_model: Make) -> None:
    model, seen = make_model(), []
    later = ["blocks.1.attn.hook_pattern", "blocks.1.hook_resid_post"]

    def attach(x: Tensor, hook: HookPoint) -> None:
        for name in later:
            model.add_hook(name, lambda y, hook: seen.append(hook.name))

    with model.hooks([("blocks.0.hook_resid_pre", attach)]):
        model(torch.arange(3)[None])
    seen.clear()
    model(torch.arange(3)[None])
    assert seen == later
