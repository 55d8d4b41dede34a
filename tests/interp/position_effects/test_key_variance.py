"""Sums over the keys of a query, and along offsets, against plain loops."""

from __future__ import annotations

import pytest
import torch

from interp.position_effects.key_variance import OffsetSums, SeenKeys, above_rounding
from tests.interp.position_effects.planted import noise

CPU = torch.device("cpu")


def _visible(causal: bool, window: int | None) -> torch.Tensor:
    places = torch.arange(6)
    back = places[:, None] - places
    visible = back >= 0 if causal else torch.ones(6, 6, dtype=torch.bool)
    return visible if window is None else visible & (back.abs() < window)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("window", [None, 1, 3])
def test_equal_loops(causal: bool, window: int | None) -> None:
    visible = _visible(causal, window)
    keys, sums = SeenKeys(visible), OffsetSums(6, causal, CPU)
    a, b = noise(2, 6, 6), noise(2, 6, 6, seed=1)
    product = torch.zeros(2, dtype=torch.float64)
    by_offset = torch.zeros(2, len(sums.offsets), dtype=torch.float64)
    shown = a.masked_fill(~visible, 0.0)
    for query in range(6):
        at = visible[query].nonzero()[:, 0]
        x, y = a[:, query, at], b[:, query, at]
        assert torch.allclose(keys.mean(a)[:, query], x.mean(-1))
        centred = x - x.mean(-1, keepdim=True)
        assert torch.allclose(keys.centred(a)[:, query, at], centred)
        assert keys.even[query, at].tolist() == pytest.approx([1 / len(at)] * len(at))
        product += (centred * (y - y.mean(-1, keepdim=True))).mean(-1)
        for key in at.tolist():
            index = sums.offsets.tolist().index(query - key)
            by_offset[:, index] += a[:, query, key]
            assert sums.matrix_of(shown[0])[query, index] == a[0, query, key]
    assert bool((keys.centred(a)[:, ~visible] == 0).all())
    assert torch.allclose(keys.product(keys.centred(a), keys.centred(b)), product)
    assert torch.allclose(sums(shown), by_offset)
    values = noise(len(sums.offsets))
    spread = sums.spread(values)
    for query, key in visible.nonzero().tolist():
        assert spread[query, key] == values[sums.offsets.tolist().index(query - key)]
    assert keys.n_choosing == int((visible.sum(-1) > 1).sum())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_above_rounding(dtype: torch.dtype) -> None:
    """What differs in its last digits alone does not count, whatever its size."""
    for size in (1e-4, 1.0, 1e6):
        scale = torch.tensor([size], dtype=torch.float64)
        last_digit = torch.finfo(dtype).eps * scale
        assert not above_rounding(last_digit, scale, dtype)
        assert above_rounding(1e3 * last_digit, scale, dtype)
    assert not above_rounding(torch.zeros(1), torch.zeros(1), dtype)
