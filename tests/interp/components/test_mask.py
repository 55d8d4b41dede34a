from __future__ import annotations

import itertools

import pytest
import torch

from interp.components.mask import AttentionMask

CPU = torch.device("cpu")
REAL = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1], [1, 0, 1, 1, 0]]).bool()


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("n_queries", [1, 2, 5])
def test_allowed(causal: bool, padded: bool, n_queries: int) -> None:
    """One destination and one source at a time; the last query is the last key."""
    mask = AttentionMask(n_queries, 5, causal, REAL if padded else None, CPU)
    assert mask.allowed.shape == (3 if padded else 1, 1, n_queries, 5)
    for row, i, j in itertools.product(range(len(mask.allowed)), range(n_queries), range(5)):
        place = 5 - n_queries + i
        expected = (j <= place or not causal) and (not padded or bool(REAL[row, j]))
        assert mask.allowed[row, 0, i, j] == expected


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("n_queries", [1, 2, 5])
def test_fused_form_says_the_same(causal: bool, padded: bool, n_queries: int) -> None:
    """Where a destination sees anything; torch's `is_causal` counts from the first key."""
    mask = AttentionMask(n_queries, 5, causal, REAL if padded else None, CPU)
    attn_mask, is_causal = mask.for_fused
    assert attn_mask is None or not is_causal
    if is_causal:
        assert n_queries == 5
        attn_mask = torch.ones(5, 5).tril().bool()
    elif attn_mask is None:
        attn_mask = torch.ones(n_queries, 5).bool()
    seeing = torch.ones_like(mask.allowed) if mask.blind is None else ~mask.blind
    seeing = seeing.expand_as(mask.allowed)
    assert torch.equal(attn_mask.expand_as(mask.allowed)[seeing], mask.allowed[seeing])
    assert attn_mask.any(-1).all()  # no kernel ever sees a row without keys


def test_blind() -> None:
    mask = AttentionMask(5, 5, True, REAL, CPU)
    assert mask.blind is not None
    assert mask.blind[:, 0, :, 0].tolist() == [
        [False] * 5,
        [True, True, False, False, False],
        [False] * 5,
    ]
    assert AttentionMask(5, 5, True, None, CPU).blind is None
