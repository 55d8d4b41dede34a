"""The real Fourier basis of the numbers modulo p, and functions on them written in it.

The basis is orthonormal, so that sums of squares are the same in numbers and in waves (Parseval).
A frequency is a whole number k: its waves go k times around while the number goes from 0 to p.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import InputError, require, require_whole


def fourier_basis(
    p: int, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu"
) -> Float[Tensor, "wave number"]:
    """The orthonormal waves on 0 … p - 1: constant, cos 1, sin 1, cos 2, sin 2, …

    cos k is √(2/p) cos(2πkx/p), sin k likewise; the constant is 1/√p, and so, for even p, is the
    size of the last wave, cos(πx), which has no sine. Rows are waves, and there are p of them.

    Raises:
        InputError: if p is no whole number of at least 1, or dtype is not floating-point.
    """
    require_whole("p", p, 1)
    require(dtype.is_floating_point, f"dtype must be floating-point. Received {dtype}")
    # A copy: what is kept is shared by all callers.
    return _basis(p).to(device=device, dtype=dtype, copy=True)


@functools.lru_cache(maxsize=8)
def _basis(p: int) -> Float[Tensor, "wave number"]:
    number = torch.arange(p)
    rows = [torch.full((p,), p**-0.5, dtype=torch.float64)]
    for k in range(1, p // 2 + 1):
        angle = (number * k % p).double() * (2 * math.pi / p)  # reduced first: exact for any k
        if 2 * k == p:
            rows.append(angle.cos() * p**-0.5)
        else:
            rows += [angle.cos() * (2 / p) ** 0.5, angle.sin() * (2 / p) ** 0.5]
    return torch.stack(rows)


def wave_frequencies(p: int, device: torch.device | str = "cpu") -> Int[Tensor, "wave"]:
    """The frequency of each row of `fourier_basis(p)`: 0, 1, 1, 2, 2, …

    Raises:
        InputError: if p is no whole number of at least 1.
    """
    require_whole("p", p, 1)
    return (torch.arange(p, device=device) + 1) // 2


def wave_names(p: int) -> list[str]:
    """The name of each row of `fourier_basis(p)`: `const`, `cos 1`, `sin 1`, …"""
    kinds = ("sin", "cos")  # odd rows are cosines
    names = [f"{kinds[i % 2]} {k}" for i, k in enumerate(wave_frequencies(p).tolist())]
    return ["const", *names[1:]]


def to_waves(x: Float[Tensor, "..."], dims: int | Sequence[int] = -1) -> Float[Tensor, "..."]:
    """Write functions of numbers modulo p as sums of waves, along one axis or several.

    Args:
        x: Values at 0 … p - 1 along each of these axes.
        dims: The axes; each may have a p of its own.

    Returns:
        The same shape, with the amount of each wave of `fourier_basis` instead.

    Raises:
        InputError: for an axis that x does not have or that is named twice, or x of whole numbers.
    """
    return _along(x, dims, transposed=False)


def from_waves(x: Float[Tensor, "..."], dims: int | Sequence[int] = -1) -> Float[Tensor, "..."]:
    """The inverse of `to_waves`."""
    return _along(x, dims, transposed=True)


def _along(x: Tensor, dims: int | Sequence[int], transposed: bool) -> Tensor:
    require(x.is_floating_point(), f"x must be floating-point. Received {x.dtype}")
    for dim in _checked_dims(x, dims):
        basis = fourier_basis(x.shape[dim], x.dtype, x.device)
        if transposed:
            basis = basis.T
        x = (x.movedim(dim, -1) @ basis.T).movedim(-1, dim)
    return x


def power_by_frequency(x: Float[Tensor, "..."], dim: int = -1) -> Float[Tensor, "... frequency"]:
    """Sum of squares of the waves of each frequency along one axis.

    Args:
        x: Values at 0 … p - 1 along `dim`; the other axes are kept.
        dim: The axis.

    Returns:
        The other axes in their order, then frequencies 0 … p // 2. They sum to the sum of squares
        of x along `dim` (Parseval).

    Raises:
        InputError: as `to_waves`.
    """
    waves = to_waves(x, dim).movedim(dim, -1).square()
    p = waves.shape[-1]
    power = waves.new_zeros(*waves.shape[:-1], p // 2 + 1)
    return power.index_add_(-1, wave_frequencies(p, x.device), waves)


def power_by_frequencies(
    x: Float[Tensor, "..."], dims: tuple[int, int] = (0, 1)
) -> Float[Tensor, "... frequency other_frequency"]:
    """Sum of squares of the products of waves, by the frequency along each of two axes.

    Returns:
        The other axes in their order, then both frequencies. They sum to the sum of squares of x
        along the two axes (Parseval).

    Raises:
        InputError: as `to_waves`, or for other than two axes.
    """
    first, second = _pair(x, dims)
    waves = to_waves(x, (first, second)).movedim((first, second), (-2, -1)).square()
    p, q = waves.shape[-2:]
    rows = waves.new_zeros(*waves.shape[:-2], p // 2 + 1, q)
    rows.index_add_(-2, wave_frequencies(p, x.device), waves)
    power = waves.new_zeros(*rows.shape[:-1], q // 2 + 1)
    return power.index_add_(-1, wave_frequencies(q, x.device), rows)


def _pair(x: Tensor, dims: Sequence[int]) -> tuple[int, int]:
    found = _checked_dims(x, dims)
    require(len(found) == 2, f"dims must be two axes. Received {dims!r}")
    return found[0], found[1]


def _checked_dims(x: Tensor, dims: int | Sequence[int]) -> list[int]:
    named = [dims] if isinstance(dims, int) else list(dims)
    found = []
    for dim in named:
        if not isinstance(dim, int) or isinstance(dim, bool) or not -x.ndim <= dim < x.ndim:
            raise InputError(f"dims must lie in -{x.ndim} … {x.ndim - 1}. Received {dim!r}.")
        found.append(dim % x.ndim)
    require(
        bool(found) and len(set(found)) == len(found),
        f"dims must name at least one axis, each once. Received {dims!r}",
    )
    return found
