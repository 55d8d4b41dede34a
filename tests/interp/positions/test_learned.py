from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from interp import HookedTransformer, InputError

MakeModel = Callable[..., HookedTransformer]


def test_positions_are_rows(make_model: MakeModel) -> None:
    model = make_model()
    _, cache = model.run_with_cache(torch.ones(2, 5).long())
    assert cache["hook_pos_embed"].shape == (2, 5, 24)
    assert torch.equal(cache["hook_pos_embed"][1], model.W_pos[:5])


def test_padding_has_no_position(make_model: MakeModel) -> None:
    model = make_model()
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 0]])
    _, cache = model.run_with_cache(torch.ones(2, 4).long(), attention_mask=mask)
    found, zero = cache["hook_pos_embed"], torch.zeros(24)
    for row, places in enumerate([(None, None, 0, 1), (0, 1, 2, None)]):
        for i, place in enumerate(places):
            expected = zero if place is None else model.W_pos[place]
            assert torch.equal(found[row, i], expected), (row, i)


def test_end_of_the_context(make_model: MakeModel) -> None:
    model = make_model(n_ctx=3)
    model(torch.ones(1, 3).long())
    with pytest.raises(InputError, match=r"n_ctx \(3\)"):
        model(torch.ones(1, 4).long())
