"""The axes that patching splits, at norms of queries and keys."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from interp import HookedTransformer
from interp.patching.axes import axes_of
from tests.interp.kinds import KINDS


@pytest.mark.parametrize(
    ("kind", "norm", "n_heads"),
    [
        ("olmo2", "q_norm", 0),  # one norm for all heads together
        ("olmo2", "k_norm", 0),
        ("stablelm2", "q_norm", 4),
        ("stablelm2", "k_norm", 2),
        ("gemma3", "q_norm", 4),
        ("gemma3", "k_norm", 4),  # a key for each query's head
    ],
)
def test_norms_have_heads_unless_they_are_of_all_together(
    kind: str, norm: str, n_heads: int, make_model: Callable[..., HookedTransformer]
) -> None:
    model = make_model(**KINDS[kind])
    hook = f"blocks.0.attn.{norm}.hook_scale"
    assert hook in model.hook_dict
    axes = axes_of(model, hook)
    assert axes.names == (("pos", "head") if n_heads else ("pos",))
    assert axes.n_heads == n_heads
