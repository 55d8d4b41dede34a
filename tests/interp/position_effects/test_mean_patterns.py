"""Mean patterns against patterns that were recorded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from interp import HookedTransformer, InputError
from interp.kernels import attention_statistics
from interp.position_effects import mean_patterns
from tests.interp.kinds import some_tokens

Kind = Callable[[str], HookedTransformer]


@pytest.mark.parametrize("name", ["gpt2", "gemma2", "bert-folded-mlm", "gpt-oss", "shortformer"])
def test_equal_recorded_patterns(kind: Kind, assert_close: Any, name: str) -> None:
    model = kind(name)
    tokens = some_tokens(5, 7)
    found = mean_patterns(model, tokens, batch_size=2)
    _, cache = model.run_with_cache(tokens, names_filter="blocks.*.attn.hook_pattern")
    statistics = attention_statistics(model, tokens, statistics=["entropy", "first_mass"])
    assert found.n_sequences == 5
    assert found.n_pos == 7
    assert found.causal == (model.cfg.attention_dir == "causal")
    for layer in range(2):
        pattern = cache["pattern", layer]
        assert_close(found.mean[layer], pattern.mean(0))
        squares = torch.zeros(model.cfg.n_heads, dtype=torch.float64)
        for row in pattern:
            for query in range(7):
                seen = found.visible[layer, query]
                assert bool((row[:, query, ~seen] == 0).all())
                assert bool((row[:, query, seen] > 0).all())
                p = row[:, query, seen]
                squares += ((p - p.mean(-1, keepdim=True)) ** 2).sum(-1)
        assert_close(found.squares[layer], squares / 5)
        assert_close(found.entropy[layer], statistics["entropy"][layer].mean(0))
        entropy = statistics["entropy"][layer, :, :, 1:].mean((0, 2))
        assert_close(found.mean_entropy()[layer], entropy)
        first = statistics["first_mass"][layer, :, :, 1:].mean((0, 2))
        assert_close(found.first_mass()[layer], first)
        n_seen = found.visible[layer].sum(-1).double()
        assert_close(found.even_entropy()[layer], n_seen.log()[1:].mean())
        even_first = (found.visible[layer, :, 0].double() / n_seen)[1:].mean()
        assert_close(found.even_first_mass()[layer], even_first)


def test_refusals(kind: Kind, make_model: Callable[..., HookedTransformer]) -> None:
    with pytest.raises(InputError, match="one stack"):
        mean_patterns(kind("t5"), some_tokens())
    with pytest.raises(InputError, match="two tokens or more"):
        mean_patterns(kind("gpt2"), some_tokens(2, 1))
    with pytest.raises(InputError, match="must have heads"):
        mean_patterns(make_model(n_layers=0), some_tokens())
