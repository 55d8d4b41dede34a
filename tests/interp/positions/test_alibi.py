from __future__ import annotations

import pytest
import torch

from interp import HookedTransformerConfig
from interp.positions.alibi import AlibiPositions

BLOOM = "transformers.models.bloom.modeling_bloom"
MPT = "transformers.models.mpt.modeling_mpt"


def alibi(n_heads: int, max_bias: float = 8.0) -> AlibiPositions:
    cfg = HookedTransformerConfig(
        n_layers=0,
        d_model=n_heads,
        n_heads=n_heads,
        n_ctx=8,
        attn_only=True,
        positional_embedding_type="alibi",
        alibi_max_bias=max_bias,
    )
    return AlibiPositions(cfg)


def test_published_slopes() -> None:
    """Press et al. 2022, §3: for 8 heads 1/2, 1/4, … 1/256."""
    found = alibi(8).slopes(torch.device("cpu"), torch.float64)
    assert found.tolist() == [2.0**-i for i in range(1, 9)]


@pytest.mark.parametrize("n_heads", [1, 2, 3, 5, 6, 7, 12, 16, 20, 33])
def test_slopes_are_those_of_bloom_and_mpt(n_heads: int) -> None:
    """Two ways to write them down, in transformers, agree with ours."""
    bloom = pytest.importorskip(
        "transformers.models.bloom.modeling_bloom", reason="needs the extra 'hf'"
    )
    mpt = pytest.importorskip(MPT, reason="needs the extra 'hf'")
    slopes = alibi(n_heads).slopes(torch.device("cpu"), torch.float32)
    table = bloom.build_alibi_tensor(torch.ones(1, 5), n_heads, torch.float32)
    assert (table.view(n_heads, 5)[:, 1] - slopes).abs().max() <= 1e-7
    for max_bias in (8, 4):
        slopes = alibi(n_heads, max_bias).slopes(torch.device("cpu"), torch.float32)
        table = mpt.build_mpt_alibi_tensor(n_heads, 5, alibi_bias_max=max_bias)
        assert (table.reshape(n_heads, 5)[:, -2] + slopes).abs().max() <= 1e-7


def test_bias_by_hand() -> None:
    queries, keys = torch.tensor([[1, 2]]), torch.tensor([[0, 1, 2, 3]])
    bias = alibi(2).score_bias(queries, keys, torch.float64)  # slopes 1/16, 1/256
    assert bias.shape == (1, 2, 2, 4)
    assert bias[0, 0].tolist() == [[-1 / 16, 0, -1 / 16, -2 / 16], [-2 / 16, -1 / 16, 0, -1 / 16]]
    assert torch.equal(bias[0, 1], bias[0, 0] / 16)
