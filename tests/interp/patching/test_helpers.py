"""Every named sweep beside TransformerLens's own, on the same models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from interp import HookedTransformer, patching
from tests.covering import every_nth
from tests.interp.kinds import some_tokens

Check = Callable[..., None]
Kind = Callable[[str], HookedTransformer]

HELPERS = [
    name
    for name in patching.__all__
    if name.startswith("get_act_patch") and "direct_path" not in name
]


def kinds_for(number: int) -> Any:
    """Both for keys and values, whose heads may be fewer; else one of them."""
    both = ("gpt2", "llama")
    return both if {"k", "v"} & {*HELPERS[number].split("_")} else every_nth(both, 2, number)


@pytest.fixture(scope="module")
def lens() -> Any:
    return pytest.importorskip("transformer_lens.patching", reason="needs the extra 'lens'")


def last_logits(logits: Tensor) -> Tensor:
    return (logits[:, -1, 3] - logits[:, -1, 5]).mean()


def test_all_of_them_are_here(lens: Any) -> None:
    public = {n for n in vars(lens) if n.startswith("get_act_patch") or n.endswith("_setter")}
    assert public <= set(patching.__all__)


@pytest.mark.parametrize(
    ("name", "kind_name"), [(name, kind) for i, name in enumerate(HELPERS) for kind in kinds_for(i)]
)
def test_helper(name: str, kind_name: str, kind: Kind, lens: Any, assert_close: Check) -> None:
    model, tokens = kind(kind_name), some_tokens(2, 4)
    _, clean = model.run_with_cache(some_tokens(2, 4, seed=7))
    expected = getattr(lens, name)(model, tokens, clean, last_logits)
    helper = getattr(patching, name)
    for metric in (last_logits, patching.LogitDiff(3, 5)):
        found = helper(model, tokens, clean, metric)
        # TransformerLens keeps the values in fp32.
        assert_close(found.float(), expected, name, 1e-6)
    assert expected.std() > 1e-4
    assert torch.is_tensor(found)
