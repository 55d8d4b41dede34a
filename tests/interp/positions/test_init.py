from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import pytest
import torch

from interp import HookedTransformer, InputError
from interp.config import PositionalEmbeddingType
from interp.positions import ENCODINGS

MakeModel = Callable[..., HookedTransformer]


def test_every_name_has_one() -> None:
    assert set(ENCODINGS) == set(get_args(PositionalEmbeddingType))


@pytest.mark.parametrize("kind", ENCODINGS)
def test_kind_decides_hooks_and_weights(kind: str, make_model: MakeModel) -> None:
    model = make_model(positional_embedding_type=kind)
    vectors = kind in ("standard", "sinusoidal", "shortformer")
    assert ("hook_pos_embed" in model.hook_dict) == vectors
    assert ("hook_pos_bias" in model.hook_dict) == (kind in ("alibi", "relative_positional_bias"))
    assert ("blocks.0.attn.hook_rot_q" in model.hook_dict) == (kind == "rotary")
    learned = kind in ("standard", "shortformer")
    assert ("pos_embed.W_pos" in model.state_dict()) == learned
    assert ("pos_embed.W_rel" in model.state_dict()) == (kind == "relative_positional_bias")
    if not learned:
        with pytest.raises(InputError, match="W_pos"):
            _ = model.W_pos


def test_without_positions_order_of_the_past_is_lost(make_model: MakeModel) -> None:
    """In one layer the last token sees the others as a set, unless an encoding tells them apart."""
    for kind in ENCODINGS:
        model = make_model(positional_embedding_type=kind, n_layers=1, dtype="float64")
        first, second = torch.tensor([[1, 2, 3, 4]]), torch.tensor([[3, 1, 2, 4]])
        gap = (model(first)[0, -1] - model(second)[0, -1]).abs().max()
        assert (gap < 1e-12) == (kind == "none"), kind
