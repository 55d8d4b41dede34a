"""Intervals against the model's own mask, one destination and one source at a time."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.components.mask import AttentionMask
from interp.kernels.visible import Visible

CPU = torch.device("cpu")


@settings(max_examples=100, deadline=None)
@given(
    real=st.one_of(
        st.none(),
        st.integers(1, 7).flatmap(
            lambda n: st.lists(st.lists(st.booleans(), min_size=n, max_size=n), min_size=1,
                               max_size=3)
        ),
    ),
    n=st.integers(1, 7),
    less=st.integers(0, 6),
    causal=st.booleans(),
    window=st.sampled_from([None, 1, 2, 5]),
)  # fmt: skip
def test_equals_the_models_mask(
    real: list[list[bool]] | None, n: int, less: int, causal: bool, window: int | None
) -> None:
    real_keys = None if real is None else torch.tensor(real)
    n_keys = n if real_keys is None else real_keys.shape[1]
    n_queries = max(n_keys - less, 1)
    visible = Visible(n_queries, n_keys, causal, window, real_keys, CPU)
    places = None
    if real_keys is not None:
        all_places = (real_keys.cumsum(1) - 1).clamp(min=0)
        places = (all_places[:, n_keys - n_queries :], all_places)
    mask = AttentionMask(n_queries, n_keys, causal, real_keys, CPU, window, places)
    key = torch.arange(n_keys)
    seen = (key >= visible.low[..., None]) & (key < visible.high[..., None])
    if real_keys is not None:
        seen = seen & real_keys[:, None, :]
    assert torch.equal(seen, mask.allowed[:, 0])
    for ends in (visible.low, visible.high):
        assert bool((ends.diff(dim=1) >= 0).all())  # a block's range is that of its ends


def test_single_sources() -> None:
    real = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1], [1, 0, 1, 1, 0], [0, 0, 0, 0, 0]]).bool()
    visible = Visible(5, 5, True, None, real, CPU)
    first = visible.single_source("first_mass")
    assert first[:, 0].tolist() == [0, 2, 0, -1]
    previous = [[-1, 0, 1, 2, 3], [-1, -1, -1, 2, 3], [-1, 0, 0, 2, 3], [-1] * 5]
    assert visible.single_source("previous_mass").tolist() == previous
    assert visible.single_source("self_mass").tolist() == [[0, 1, 2, 3, 4]] * 4
    last = Visible(2, 5, True, None, None, CPU)
    assert last.single_source("previous_mass").tolist() == [[2, 3]]
    assert last.single_source("self_mass").tolist() == [[3, 4]]


@pytest.mark.parametrize("window", [None, 2])
def test_rows_share_what_they_can(window: int | None) -> None:
    visible = Visible(4, 6, True, window, None, CPU)
    assert visible.low.shape == visible.high.shape == visible.places.shape == (1, 4)
