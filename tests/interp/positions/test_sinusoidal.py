from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp import HookedTransformerConfig
from interp.positions.sinusoidal import SinusoidalPositions

Check = Callable[..., None]


def sinusoidal(
    d_model: int, layout: str = "interleaved", dtype: str = "float64"
) -> SinusoidalPositions:
    cfg = HookedTransformerConfig.from_dict(
        {
            "n_layers": 0,
            "d_model": d_model,
            "n_heads": 1,
            "n_ctx": 8,
            "attn_only": True,
            "positional_embedding_type": "sinusoidal",
            "sinusoidal_layout": layout,
            "dtype": dtype,
            "device": "cpu",
        }
    )
    return SinusoidalPositions(cfg)


def test_by_hand() -> None:
    """d_model 4: sin t, cos t, sin t/100, cos t/100."""
    found = sinusoidal(4).embedding(torch.tensor([[0, 1, 2]]), 3)[0].tolist()
    assert found[0] == [0.0, 1.0, 0.0, 1.0]
    wanted = [0.8414709848078965, 0.5403023058681398, 0.009999833334166664, 0.9999500004166653]
    assert found[1] == pytest.approx(wanted, abs=1e-15)
    assert found[2][:2] == pytest.approx([math.sin(2), math.cos(2)], abs=1e-15)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    half=st.integers(1, 40),
    position=st.integers(0, 3000),
    shift=st.integers(0, 500),
)
def test_a_shift_is_one_rotation_for_all_positions(half: int, position: int, shift: int) -> None:
    """PE(t+k) = R(k) PE(t): each pair turns by k / 10000^(2i/d), whatever t is."""
    encoding = sinusoidal(2 * half)
    here, there = encoding.embedding(torch.tensor([[position, position + shift]]), 4000)[0]
    for i in range(half):
        angle = shift / 10_000 ** (2 * i / (2 * half))
        sin, cos = here[2 * i].item(), here[2 * i + 1].item()
        turned = (
            sin * math.cos(angle) + cos * math.sin(angle),
            cos * math.cos(angle) - sin * math.sin(angle),
        )
        assert (there[2 * i].item(), there[2 * i + 1].item()) == pytest.approx(turned, abs=1e-10)


def test_halves_hold_the_same_waves() -> None:
    places = torch.arange(9)[None]
    woven = sinusoidal(10).embedding(places, 9)
    halves = sinusoidal(10, "halves").embedding(places, 9)
    assert torch.equal(torch.cat([woven[..., ::2], woven[..., 1::2]], -1), halves)


def test_it_goes_on_past_any_length_and_follows_the_models_dtype() -> None:
    encoding = sinusoidal(6)
    long = encoding.embedding(torch.tensor([[100_000]]), 100_001)
    assert long[0, 0, 0].item() == pytest.approx(math.sin(100_000), abs=1e-9)
    encoding.to(torch.bfloat16)
    assert encoding.embedding(torch.tensor([[1]]), 2).dtype == torch.bfloat16
    assert not list(encoding.parameters())
