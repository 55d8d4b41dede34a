"""References against plain means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from interp import HookedTransformer
from interp.circuits import mean_reference
from tests.interp.kinds import some_tokens

Kind = Callable[[str], HookedTransformer]


@pytest.mark.parametrize("by_position", [True, False])
def test_one_prompt_without_a_batch_axis(
    by_position: bool, kind: Kind, assert_close: Callable[..., Any]
) -> None:
    """It is the batch of that prompt, as for `forward`: its mean by position is itself."""
    model, tokens = kind("gpt2"), some_tokens(1)
    found = mean_reference(model, tokens[0], by_position=by_position)
    assert "mean over 1 prompts" in found.description
    _, cache = model.run_with_cache(tokens)
    for hook, x in found.activations.items():
        plain = cache[hook].detach()
        plain = plain if by_position else plain.mean(1, keepdim=True)
        assert_close(torch.as_tensor(x).expand_as(plain), plain, hook, 1e-12)
