from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from interp import HookedTransformer, InputError
from interp.weight_circuits import effective_embedding, position_vectors, token_vectors

Make = Callable[..., HookedTransformer]
Check = Callable[..., None]


@pytest.mark.parametrize("chunk", [1, 7, 31, 100])
def test_effective_embedding(chunk: int, make_model: Make, assert_close: Check) -> None:
    model = make_model(dtype="float64", embed_scale=1.7)
    block = model.blocks[0]
    with torch.no_grad():
        x = model.W_E * 1.7
        read = F.layer_norm(x, (24,), block.ln2.w, block.ln2.b, model.cfg.eps)
        post = F.gelu(read @ block.mlp.W_in + block.mlp.b_in)
        expected = x + post @ block.mlp.W_out + block.mlp.b_out
        assert_close(effective_embedding(model, chunk), expected)
        assert_close(token_vectors(model), x)


def test_position_vectors(make_model: Make, assert_close: Check) -> None:
    model = make_model(dtype="float64")
    assert_close(position_vectors(model), model.W_pos)
    waves = position_vectors(make_model(dtype="float64", positional_embedding_type="sinusoidal"))
    assert waves.shape == (16, 24)
    place, pair = 5, 3
    angle = torch.tensor(place / 10_000 ** (2 * pair / 24), dtype=torch.float64)
    assert_close(waves[place, 2 * pair : 2 * pair + 2], torch.stack([angle.sin(), angle.cos()]))
    for kind in ("rotary", "alibi", "none"):
        with pytest.raises(InputError, match="positions that are vectors"):
            position_vectors(make_model(positional_embedding_type=kind))
