"""The expected loss of a ReLU-output toy, without drawing an example.

Features are independent: x_i is 0 with probability 1 - p_i (the sparsity) and otherwise uniform on
0 … 1. The model is x' = ReLU(WᵀW x + b), the loss Σ_i I_i E (x_i - x'_i)², the sums of Elhage et
al. 2022 (`ReconstructionLoss` takes their mean over features: this divided by their number).

For one output, x'_i = z₊ with z = b_i + Σ_j (WᵀW)_ij x_j, and E (x_i - z₊)² = E x_i² -
E (2 x_i - z₊) z₊. The last expectation is taken over one feature after the other. As a function of
one x_j, with the features after it integrated out, it is a polynomial between knots: places where z
is 0 with each of the features after it at 0 or at 1. Gauss–Legendre on each piece, with as many
nodes as its degree needs, therefore gives the integral itself; only rounding is left.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import require, require_number

_MOST_FEATURES = 4  # a fifth would need thousands of nodes for each output


def exact_loss(
    W: Float[Tensor, "... d_hidden feature"],
    b: Float[Tensor, "... feature"],
    density: float | Float[Tensor, "... #feature"],
    importance: float | Float[Tensor, "... #feature"] = 1.0,
) -> Float[Tensor, "..."]:
    """Σ_i I_i E (x_i - ReLU(WᵀW x + b)_i)², to rounding.

    Leading axes broadcast; first gradients with respect to W and b are exact too (second ones are
    not: knots do not move in them). Use fp64: the loss of a good model is a small difference.

    Args:
        W: The directions of up to four features.
        b: The bias of each output.
        density: p = 1 - S of each feature, in 0 … 1; a number stands for all of them. To give each
            model its own, a tensor of shape `[..., 1]`.
        importance: I_i, likewise.

    Raises:
        InputError: for shapes that do not fit, more than four features, densities outside 0 … 1 or
            a negative number as the importance.
    """
    require(
        W.ndim >= 2 and b.ndim >= 1 and W.shape[-1] == b.shape[-1],
        "W must be [..., d_hidden, feature] and b [..., feature]. "
        f"Received {list(W.shape)} and {list(b.shape)}",
    )
    n_features = W.shape[-1]
    require(
        1 <= n_features <= _MOST_FEATURES,
        f"exact losses are of at most {_MOST_FEATURES} features. Received {n_features}",
    )
    p = _per_feature(density, "density", W, n_features)
    require(
        bool(((p >= 0) & (p <= 1)).all()), f"density must lie in 0 … 1. Received {p.tolist()!r:.80}"
    )
    weight = _per_feature(importance, "importance", W, n_features)
    outputs = range(n_features)  # each integrates its own feature first, then the others
    order = [[i, *(j for j in outputs if j != i)] for i in outputs]
    rows = torch.arange(n_features, device=W.device).unsqueeze(1)
    gains = (W.mT @ W)[..., rows, torch.tensor(order, device=W.device)]
    gained = _expected(b, None, gains, p[..., torch.tensor(order, device=W.device)])
    return (weight * (p / 3 - gained)).sum(-1)


def feature_variance(
    density: float | Float[Tensor, "*axes"],
) -> float | Float[Tensor, "*axes"]:
    """p/3 - p²/4: of a feature; its loss, too, by importance, where it is not represented.

    The best that an output can do without its feature is the mean, b = p/2.
    """
    return density / 3 - density * density / 4


def _expected(z: Tensor, own: Tensor | None, gains: Tensor, density: Tensor) -> Tensor:
    """E (2 x_i - z₊) z₊ over the features of `gains`, the first of them x_i unless it is `own`.

    Args:
        z: What the output reads so far, `[...]` and an axis of nodes for each feature before.
        own: x_i at those nodes.
        gains: By which each further feature moves z, `[..., further]`.
        density: Of each further feature, `[..., further]`.
    """
    gain, rest = gains[..., 0], gains[..., 1:]
    if rest.shape[-1]:
        edges = _knots(z, gain, rest)
        low, high = edges[..., :-1], edges[..., 1:]
    else:  # below 0 nothing is gained: the piece above is enough
        edge = _knots(z, gain, rest)[..., 1]
        low = torch.where(gain > 0, edge, 0.0).unsqueeze(-1)
        high = torch.where(gain < 0, edge, 1.0).unsqueeze(-1)
    points, parts = _gauss_legendre(2 + rest.shape[-1], z.dtype, z.device)
    width = (high - low).unsqueeze(-1)
    x = (low.unsqueeze(-1) + width * points).flatten(-2)
    nodes = (width * parts).flatten(-2)
    absent = torch.zeros_like(x[..., :1])
    x = torch.cat([absent, x], -1)
    p = density[..., :1]
    probability = torch.cat([absent + (1 - p), nodes * p], -1)
    z = z.unsqueeze(-1) + gain.unsqueeze(-1) * x
    own = x if own is None else own.unsqueeze(-1)
    if rest.shape[-1]:
        value = _expected(z, own, rest.unsqueeze(-2), density[..., 1:].unsqueeze(-2))
    else:
        above = z.relu()
        value = (2 * own - above) * above
    return (probability * value).sum(-1)


def _knots(z: Tensor, gain: Tensor, rest: Tensor) -> Tensor:
    """0, 1 and, cut to between them, the x at which z + gain x + (some of the rest) is 0; sorted.

    As constants: moving a knot changes no integral, as both pieces agree there.
    """
    z, gain, rest = z.detach(), gain.detach(), rest.detach()
    sums = torch.zeros_like(gain).unsqueeze(-1)
    for k in range(rest.shape[-1]):
        sums = torch.cat([sums, sums + rest[..., k : k + 1]], -1)
    slope = torch.where(gain == 0, 1.0, gain).unsqueeze(-1)  # without slope any cut will do
    inner = (-(z.unsqueeze(-1) + sums) / slope).clamp(0.0, 1.0).sort(-1).values
    first = torch.zeros_like(inner[..., :1])
    return torch.cat([first, inner, first + 1], -1)


def _gauss_legendre(degree: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Points in 0 … 1 and weights that integrate polynomials up to this degree exactly."""
    points, weights = _nodes(degree // 2 + 1)
    return (
        torch.tensor(points, dtype=dtype, device=device),
        torch.tensor(weights, dtype=dtype, device=device),
    )


@cache
def _nodes(count: int) -> tuple[list[float], list[float]]:
    points, weights = np.polynomial.legendre.leggauss(count)
    return ((points + 1) / 2).tolist(), (weights / 2).tolist()


def _per_feature(value: float | Tensor, name: str, W: Tensor, n_features: int) -> Tensor:
    """A number a feature, `[..., feature]`."""
    if not isinstance(value, Tensor):
        require_number(name, value, zero=True)
        return W.new_full((n_features,), float(value))
    require(
        value.ndim >= 1 and value.shape[-1] in (1, n_features),
        f"{name} must be a number or end in an axis of 1 or {n_features} features. "
        f"Received shape {list(value.shape)}",
    )
    return value.to(W).expand(*value.shape[:-1], n_features)
