from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from interp import HookedTransformerConfig
from interp.positions.rotary import RotaryPositions

AssertClose = Callable[..., None]


def _rotary(
    dim: int = 6, adjacent: bool = False, n_ctx: int = 8, d_head: int = 8
) -> RotaryPositions:
    cfg = HookedTransformerConfig(
        n_layers=1, d_model=8, n_ctx=n_ctx, n_heads=1, d_head=d_head, attn_only=True, d_vocab=5,
        positional_embedding_type="rotary", rotary_dim=dim, rotary_base=100.0,
        rotary_adjacent_pairs=adjacent, device="cpu",
    )  # fmt: skip
    return RotaryPositions(cfg)


def _x() -> Tensor:
    return torch.randn(2, 5, 3, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("adjacent", [True, False])
@pytest.mark.parametrize("dim", [2, 6, 8])
def test_pairs_turn_as_complex_numbers(dim: int, adjacent: bool, assert_close: AssertClose) -> None:
    positions = torch.tensor([[0, 1, 2, 3, 4], [3, 0, 7, 7, 1]])
    found = _rotary(dim, adjacent).rotation(positions, 8, torch.float64)(_x())
    expected = _x().clone()
    for row in range(2):
        for t, place in enumerate(positions[row].tolist()):
            for i in range(dim // 2):
                a, b = (2 * i, 2 * i + 1) if adjacent else (i, i + dim // 2)
                for head in range(3):
                    z = complex(_x()[row, t, head, a], _x()[row, t, head, b])
                    angle = place * 100.0 ** (-2 * i / dim)
                    z *= complex(math.cos(angle), math.sin(angle))
                    expected[row, t, head, a], expected[row, t, head, b] = z.real, z.imag
    assert_close(found, expected)


@pytest.mark.parametrize("adjacent", [True, False])
def test_scores_depend_on_distance_alone(adjacent: bool, assert_close: AssertClose) -> None:
    rotary, q, k = _rotary(8, adjacent), _x()[:1, :1], _x()[1:, :1]

    def score(t: int, s: int) -> Tensor:
        turned = [
            rotary.rotation(torch.tensor([[place]]), 40, torch.float64)(x)
            for place, x in ((t, q), (s, k))
        ]
        return (turned[0] * turned[1]).sum(-1)

    assert_close(score(5, 2), score(35, 32))
    assert (score(5, 2) - score(5, 3)).abs().max() > 1e-3


def test_length_is_kept(assert_close: AssertClose) -> None:
    rotation = _rotary(8).rotation(torch.arange(5)[None], 5, torch.float64)
    assert_close(rotation(_x()).norm(dim=-1), _x().norm(dim=-1))
    assert torch.equal(rotation(_x())[:, 0], _x()[:, 0])


def test_table_grows_and_is_kept(assert_close: AssertClose) -> None:
    rotary = _rotary(8, n_ctx=4)
    short = rotary.table(2, torch.device("cpu"), torch.float64)
    assert rotary.table(3, torch.device("cpu"), torch.float64)[0] is short[0]
    long = rotary.table(20, torch.device("cpu"), torch.float64)
    assert long[0].shape[0] >= 20
    assert_close(long[1][: len(short[1])], short[1])
    assert rotary.table(2, torch.device("cpu"), torch.float32)[0].dtype == torch.float32


def test_far_positions_are_exact_in_fp64(assert_close: AssertClose) -> None:
    sine = _rotary(8).table(10_001, torch.device("cpu"), torch.float64)[1]
    expected = [math.sin(10_000 * 100.0 ** (-2 * i / 8)) for i in range(4)] * 2
    assert_close(sine[10_000], torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_angles_are_not_rounded(dtype: torch.dtype) -> None:
    """Position 4097 is no bf16 number; its sine is taken in fp32 and rounded after."""
    narrow = _rotary(8).table(5000, torch.device("cpu"), dtype)
    wide = _rotary(8).table(5000, torch.device("cpu"), torch.float32)
    for found, expected in zip(narrow, wide, strict=True):
        assert torch.equal(found, expected.to(dtype))


def test_made_in_inference_mode_used_in_training() -> None:
    rotary = _rotary(8)
    with torch.inference_mode():
        rotary.rotation(torch.arange(5)[None], 5, torch.float64)
    x = _x().requires_grad_()
    rotary.rotation(torch.arange(5)[None], 5, torch.float64)(x).sum().backward()
    assert x.grad is not None
