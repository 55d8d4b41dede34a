from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from interp import HookedTransformer

MakeModel = Callable[..., HookedTransformer]
AssertClose = Callable[..., None]
TOKENS = torch.randint(31, (2, 7), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("fields", [{}, {"parallel_attn_mlp": True}, {"attn_only": True}], ids=str)
def test_stream_is_the_sum_of_what_is_written(
    fields: dict[str, Any], make_model: MakeModel, assert_close: AssertClose
) -> None:
    model = make_model(dtype="float64", **fields)
    _, cache = model.run_with_cache(TOKENS)
    for layer in range(2):
        total = cache["resid_pre", layer] + cache["attn_out", layer]
        assert (("resid_mid", layer) in cache) == (not fields)
        if not fields:
            assert_close(cache["resid_mid", layer], total)
        if "attn_only" not in fields:
            total = total + cache["mlp_out", layer]
        assert_close(cache["resid_post", layer], total)


def test_parallel_mlp_does_not_read_attention(make_model: MakeModel) -> None:
    model = make_model(parallel_attn_mlp=True)
    _, cache = model.run_with_cache(TOKENS)
    with model.hooks([("blocks.0.hook_attn_out", lambda x, hook: x * 0)]):
        _, edited = model.run_with_cache(TOKENS)
    assert torch.equal(edited["mlp_out", 0], cache["mlp_out", 0])
    assert torch.equal(
        edited["resid_post", 0],
        cache["resid_pre", 0] + 0 * cache["attn_out", 0] + cache["mlp_out", 0],
    )


def test_causal_model_never_looks_ahead(make_model: MakeModel) -> None:
    model = make_model()
    changed = TOKENS.clone()
    changed[:, 4:] = (changed[:, 4:] + 1) % 31
    assert torch.equal(model(TOKENS)[:, :4], model(changed)[:, :4])
    encoder = make_model(attention_dir="bidirectional")
    assert not torch.allclose(encoder(TOKENS)[:, :4], encoder(changed)[:, :4])
