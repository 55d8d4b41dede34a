"""An edit is told from rounding by the size of what is recorded, however small that is."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from interp import HookedTransformer
from interp.attribution.arrival import _differs


@pytest.mark.parametrize("size", [1e-12, 1.0, 1e12])
def test_what_differs_does_so_at_any_scale(
    size: float, make_model: Callable[..., HookedTransformer]
) -> None:
    model = make_model()
    expected = size * torch.rand(1, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    found = expected.clone()
    found[0, 1, 2, 0] += 0.01 * size
    found[0, 0, 0, 0] += 1e-5 * size  # as rounding may
    changed = _differs(found, expected, model)
    assert changed.nonzero().tolist() == [[0, 1, 2]]
