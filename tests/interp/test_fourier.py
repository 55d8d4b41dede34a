"""The real Fourier basis beside torch's complex transform."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from interp.errors import InputError
from interp.fourier import (
    fourier_basis,
    from_waves,
    power_by_frequencies,
    power_by_frequency,
    to_waves,
    wave_frequencies,
    wave_names,
)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def folded(power: Tensor, dim: int) -> Tensor:
    """Squares of a complex transform with each frequency and its negative in one place."""
    p = power.shape[dim]
    half = power.narrow(dim, 0, p // 2 + 1).clone()
    for k in range(1, (p + 1) // 2):
        half.select(dim, k).add_(power.select(dim, p - k))
    return half


def test_each_caller_has_a_basis_of_its_own(assert_close: Any) -> None:
    with torch.inference_mode():
        expected = fourier_basis(11).clone()
        fourier_basis(11).zero_()
    assert_close(fourier_basis(11), expected)
    x = noise(11).requires_grad_()  # made outside of inference mode, so it can be differentiated
    to_waves(x).square().sum().backward()
    assert x.grad is not None
    assert_close(x.grad, 2 * x)


@pytest.mark.parametrize("p", [1, 2, 3, 4, 7, 12, 113])
def test_the_basis_is_orthonormal(p: int, assert_close: Any) -> None:
    basis = fourier_basis(p)
    assert_close(basis @ basis.T, torch.eye(p, dtype=torch.float64))
    assert len(wave_names(p)) == len(wave_frequencies(p)) == p
    for row, name, k in zip(basis, wave_names(p), wave_frequencies(p).tolist(), strict=True):
        wave = {"const": lambda x: 1.0, "cos": math.cos, "sin": math.sin}[name.split()[0]]
        values = [wave(2 * math.pi * k * x / p) for x in range(p)]
        size = math.sqrt(sum(v * v for v in values))
        assert_close(row, torch.tensor([v / size for v in values], dtype=torch.float64), name)


def test_names() -> None:
    assert wave_names(4) == ["const", "cos 1", "sin 1", "cos 2"]
    assert wave_frequencies(5).tolist() == [0, 1, 1, 2, 2]


@settings(max_examples=40, deadline=None)
@given(p=st.integers(1, 13), q=st.integers(1, 13), seed=st.integers(0, 99))
def test_transforms(p: int, q: int, seed: int, assert_close: Any) -> None:
    x = noise(p, 2, q, seed=seed)
    both = to_waves(x, (0, 2))
    assert_close(from_waves(both, (0, 2)), x, "there and back")
    assert_close(to_waves(to_waves(x, 2), 0), both, "one axis after the other")
    assert_close(both.square().sum(), x.square().sum(), "Parseval")
    complex_power = torch.fft.fft(x, dim=2, norm="ortho").abs().square()
    assert_close(power_by_frequency(x), folded(complex_power, 2), "one axis")
    both_power = torch.fft.fft2(x, dim=(0, 2), norm="ortho").abs().square()
    expected = folded(folded(both_power, 0), 2).movedim(1, 0)
    assert_close(power_by_frequencies(x, (0, 2)), expected, "two axes")
    expected = folded(torch.fft.fft(x, dim=0, norm="ortho").abs().square(), 0)
    assert_close(power_by_frequency(x, 0), expected.movedim(0, -1), "the first axis")


def test_fp32_stays_fp32(assert_close: Any) -> None:
    x = noise(113, 5).float()
    assert to_waves(x, 0).dtype == torch.float32
    assert_close(from_waves(to_waves(x, 0), 0), x)


def test_bad_input() -> None:
    x = torch.zeros(3, 3)
    for dims in (2, (0, 0), (0, -2), (), (True,)):
        with pytest.raises(InputError, match="dims"):
            to_waves(x, dims)
    with pytest.raises(InputError, match="two axes"):
        power_by_frequencies(x, (0,))  # type: ignore[arg-type]
    for number in (0, 2.5, True):
        with pytest.raises(InputError, match="p must be"):
            fourier_basis(number)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="floating"):
        fourier_basis(3, torch.int64)
    with pytest.raises(InputError, match="floating"):
        to_waves(x.long())
