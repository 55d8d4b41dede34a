"""What hooks changed is told from what heads read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from interp import HookedTransformer
from interp.attribution.proximity import StreamImportance, proximity_hooks, stream_importance
from tests.interp.kinds import given_to

Kind = Callable[[str], HookedTransformer]
AssertClose = Callable[..., None]


def _with(model: HookedTransformer, hook: str, edit: Any) -> list[StreamImportance]:
    with torch.no_grad(), model.hooks(fwd_hooks=[(hook, edit)]):
        given = given_to(model)
        _, cache = model.run_with_cache(**given, names_filter=proximity_hooks(model))
    return stream_importance(cache)


def _head_off(x: Tensor, hook: Any) -> Tensor:
    x = x.clone()
    x[:, 2:, 1] = 0.0
    return x


@pytest.mark.parametrize("name", ["gpt2", "gemma2", "mixtral-post", "llama"])
@pytest.mark.parametrize("hook", ["hook_z", "hook_result"])
def test_a_head_that_is_switched_off_brings_nothing(name: str, hook: str, kind: Kind) -> None:
    model = kind(name)
    plain = _with(model, "hook_embed", lambda x, hook: x)[0]
    first = _with(model, f"blocks.0.attn.{hook}", _head_off)[0]
    assert first.heads is not None
    assert plain.heads is not None
    assert float(plain.heads[:, 1, 2:].sum()) > 0.1
    assert float(first.heads[:, 1, 2:].sum()) == 0.0
    # Where it was left alone all is as it was.
    torch.testing.assert_close(first.heads[:, :, :2], plain.heads[:, :, :2], rtol=0, atol=1e-10)
    torch.testing.assert_close(first.total(), torch.ones_like(first.total()), rtol=0, atol=1e-10)
    if hook == "hook_z":  # others are told apart still, and nothing is left unexplained
        assert float(first.heads[:, 0].sum()) > 0.1
        assert float(first.left.max()) < 1e-10
        assert float(first.edit.max()) < 1e-10


@torch.no_grad()
def test_what_takes_the_place_of_a_head_is_an_edit(kind: Kind, assert_close: AssertClose) -> None:
    model = kind("gpt2")
    given = given_to(model)
    new = torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def replace(x: Tensor, hook: Any) -> Tensor:
        x = x.clone()
        x[:, :, 3] = new
        return x

    first = _with(model, "blocks.0.attn.hook_z", replace)[0]
    assert first.heads is not None
    assert float(first.heads[:, 3].sum()) == 0.0
    with model.hooks(fwd_hooks=[("blocks.0.attn.hook_z", replace)]):
        _, cache = model.run_with_cache(**given)
    y = cache["resid_mid", 0]
    z = new @ model.blocks[0].attn.W_O[3]
    near = (y.abs().sum(-1) - (y - z).abs().sum(-1)).clamp(min=0)
    x = cache["resid_pre", 0]
    of_residual = (y.abs().sum(-1) - (y - x).abs().sum(-1)).clamp(min=0)
    assert float(near.sum()) > 0
    assert_close(first.edit * of_residual, near * first.residual)


def test_attention_that_is_replaced_as_a_whole_is_an_edit(kind: Kind) -> None:
    model = kind("gptj")
    b_O = model.blocks[0].attn.b_O.detach()
    # Much of the bias's own direction: were b_O still taken for a part, it would have a share.
    first = _with(model, "blocks.0.hook_attn_out", lambda x, hook: (20 * b_O).expand_as(x))[0]
    assert first.heads is not None
    assert float(first.heads.sum()) == float(first.bias.sum()) == 0.0
    assert float(first.edit.mean()) > 0.1


@pytest.mark.parametrize("hook", ["blocks.0.hook_resid_post", "blocks.1.hook_resid_pre"])
def test_what_is_added_to_a_stream_is_an_edit_of_it(hook: str, kind: Kind) -> None:
    model = kind("gpt2")
    mid, post, *later = _with(model, hook, lambda x, hook: x + 5.0)
    assert float(mid.edit.max()) < 1e-10
    assert float(post.edit.min()) > 0.3
    assert float(post.left.min()) > 0.1
    assert all(float(each.edit.max()) < 1e-10 for each in later)


def test_edits_of_what_heads_look_at_are_no_edits_of_the_stream(kind: Kind) -> None:
    model = kind("gpt2")

    def look_back(x: Tensor, hook: Any) -> Tensor:
        x = torch.zeros_like(x)
        x[..., 0] = 1.0
        return x

    first = _with(model, "blocks.0.attn.hook_pattern", look_back)[0]
    assert first.heads is not None
    assert float(first.heads[..., 1:].sum()) == 0.0
    assert float(first.edit.max()) < 1e-10
