from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp import HookedTransformerConfig
from interp.positions.relative import RelativePositions


def relative(causal: bool, n_buckets: int = 32, max_distance: int = 128) -> RelativePositions:
    cfg = HookedTransformerConfig(
        n_layers=0,
        d_model=6,
        n_heads=3,
        n_ctx=8,
        attn_only=True,
        positional_embedding_type="relative_positional_bias",
        relative_attention_num_buckets=n_buckets,
        relative_attention_max_distance=max_distance,
        dtype=torch.float64,
        device="cpu",
    )
    encoding = RelativePositions(cfg, causal)
    with torch.no_grad():
        encoding.W_rel.copy_(torch.arange(3 * n_buckets).reshape(n_buckets, 3))
    return encoding


def test_buckets_by_hand() -> None:
    """Eight buckets up to distance 16, causal: 0 1 2 3, then 4-5, 6-7, 8-11, 12 and beyond."""
    found = relative(True, 8, 16).buckets(-torch.arange(20))
    wanted = [0, 1, 2, 3, 4, 4, 5, 5, 6, 6, 6, 6, 7, 7, 7, 7, 7, 7, 7, 7]
    assert found.tolist() == wanted
    assert relative(True, 8, 16).buckets(torch.tensor([3])).tolist() == [0]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    causal=st.booleans(),
    quarter=st.integers(1, 16),
    further=st.integers(1, 300),
)
def test_buckets_are_those_of_t5(causal: bool, quarter: int, further: int) -> None:
    t5 = pytest.importorskip("transformers.models.t5.modeling_t5", reason="needs the extra 'hf'")
    n, longest = 4 * quarter, 2 * quarter + further
    offsets = torch.arange(-600, 600)
    wanted = t5.T5Attention._relative_position_bucket(
        offsets, bidirectional=not causal, num_buckets=n, max_distance=longest
    )
    assert torch.equal(relative(causal, n, longest).buckets(offsets), wanted)


@pytest.mark.parametrize("causal", [False, True])
def test_scores_depend_on_distance_alone(causal: bool) -> None:
    encoding = relative(causal)
    keys = torch.arange(10)[None]
    bias = encoding.score_bias(keys, keys, torch.float64)[0]
    assert bias.shape == (3, 10, 10)
    assert torch.equal(bias[:, 1:, 1:], bias[:, :-1, :-1])
    assert torch.equal(bias[:, 4, 2], encoding.W_rel[2])  # two back: bucket 2 either way
    after = encoding.W_rel[0] if causal else encoding.W_rel[16 + 2]
    assert torch.equal(bias[:, 4, 6], after)
    later = encoding.score_bias(keys[:, 7:], keys, torch.float64)[0]
    assert torch.equal(later, bias[:, 7:])
