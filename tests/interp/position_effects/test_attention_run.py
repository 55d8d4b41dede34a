"""Watching a model's attention, layer by layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from interp import HookedTransformer, InputError
from interp.position_effects.attention_run import (
    checked_rows,
    in_batches,
    visible_keys,
    watch_layers,
)
from tests.interp.kinds import some_tokens

Kind = Callable[[str], HookedTransformer]


def test_it_shows_what_the_hooks_hold(kind: Kind) -> None:
    model, tokens = kind("gemma2"), some_tokens(3, 6)
    _, cache = model.run_with_cache(tokens)
    shown: list[int] = []

    def look(layer: int, seen: dict[str, Tensor]) -> None:
        shown.append(layer)
        assert list(seen) == ["hook_resid_pre", "attn.hook_attn_scores"]
        for name, tensor in seen.items():
            assert torch.allclose(tensor, cache[f"blocks.{layer}.{name}"], rtol=1e-12)

    watch_layers(model, tokens, ["hook_resid_pre", "attn.hook_attn_scores"], look)
    watch_layers(model, tokens, ["hook_resid_pre", "attn.hook_attn_scores"], look, [1])
    assert shown == [0, 1, 1]
    assert model.watched_hooks() == (set(), set())


def test_blocks_behind_the_last_one_do_not_run(kind: Kind) -> None:
    model, ran = kind("gpt2"), []
    names = [f"blocks.{layer}.hook_resid_post" for layer in range(2)]
    hooks = [(name, lambda x, hook: ran.append(hook.name)) for name in names]
    with model.hooks(fwd_hooks=hooks):
        watch_layers(model, some_tokens(), ["attn.hook_q"], lambda layer, seen: None, [0])
        assert ran == names[:1]
        watch_layers(model, some_tokens(), ["attn.hook_q"], lambda layer, seen: None)
        assert ran == [names[0], *names]


def test_hooks_go_when_the_look_fails(kind: Kind) -> None:
    def look(layer: int, seen: Any) -> None:
        raise RuntimeError("no more")

    model = kind("gpt2")
    with pytest.raises(RuntimeError, match="no more"):
        watch_layers(model, some_tokens(), ["attn.hook_q"], look)
    assert model.watched_hooks() == (set(), set())


@pytest.mark.parametrize("name", ["gpt2", "gemma2", "bert-folded-mlm"])
def test_visible_keys_are_those_of_the_run(kind: Kind, name: str) -> None:
    model = kind(name)
    _, cache = model.run_with_cache(some_tokens(2, 7))
    for layer in range(2):
        found = visible_keys(model, layer, 7, torch.device("cpu"))
        assert torch.equal(found, cache["attn_scores", layer][0, 0].isfinite())


def test_rows(kind: Kind) -> None:
    model = kind("gpt2")
    tokens = some_tokens(5, 6)
    assert torch.equal(checked_rows(model, tokens.int()), tokens)
    assert [len(part) for part in in_batches(tokens, 2)] == [2, 2, 1]
    assert [len(part) for part in in_batches(tokens, None)] == [5]
    for wrong in (tokens[0], tokens.float(), tokens[:0], tokens.tolist()):
        with pytest.raises(InputError, match=r"whole numbers \[batch, pos\]"):
            checked_rows(model, wrong)
