"""Sequences whose positional part is known, for tests of its measures."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from interp.position_effects.curve import Curve


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def orthonormal(rows: int, d: int, seed: int = 0) -> Tensor:
    return torch.linalg.qr(noise(d, rows, seed=seed)).Q.T


def curve_of(x: Tensor, folds: int) -> Curve:
    """The curve of sequences `[sequence, pos, d]`, by the formulas in the docstrings."""
    n = len(x)
    ends = [n * i // folds for i in range(folds + 1)]
    parts = [x[a:b] for a, b in itertools.pairwise(ends)]
    return Curve(
        x.mean(0),
        torch.stack([part.mean(0) for part in parts]),
        tuple(len(part) for part in parts),
        x.var(0).sum(-1),
    )


def waves(n: int, periods: list[float], d: int, slope: float = 0.0, seed: int = 0) -> Tensor:
    """A helix `[pos, d]`: a circle of radius 1 for each period, and a line, all orthogonal."""
    t = torch.arange(n, dtype=torch.float64)
    axes = orthonormal(2 * len(periods) + 1, d, seed)
    found = slope * t[:, None] * axes[-1]
    for i, period in enumerate(periods):
        angle = 2 * math.pi * t / period
        found = found + angle.cos()[:, None] * axes[2 * i] + angle.sin()[:, None] * axes[2 * i + 1]
    return found
