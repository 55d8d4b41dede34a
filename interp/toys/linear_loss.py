"""The expected loss of a linear toy, in closed form."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import require
from interp.toys.exact_loss import feature_variance


def linear_loss(
    W: Float[Tensor, "... d_hidden feature"],
    b: Float[Tensor, "... feature"],
    density: float | Float[Tensor, "... #feature"],
    importance: float | Float[Tensor, "... #feature"] = 1.0,
) -> Float[Tensor, "..."]:
    """Σ_i I_i E (x_i - (WᵀW x + b)_i)² of independent features, each 0 or uniform on 0 … 1.

    With A = 1 - WᵀW, means μ_j = p_j/2 and variances v_j = p_j/3 - p_j²/4, the error of output i
    has mean (A μ - b)_i and variance Σ_j A_ij² v_j. `linear_minimum` is the least that it can be.
    `exact_loss` is the same of a model with a ReLU.

    Args:
        W: The directions.
        b: The bias of each output.
        density: p = 1 - S of each feature, in 0 … 1; of shape `[..., 1]` to give each model one.
        importance: I_i, likewise.

    Raises:
        InputError: for shapes that do not fit or densities outside 0 … 1.
    """
    require(
        W.ndim >= 2 and b.ndim >= 1 and W.shape[-1] == b.shape[-1],
        "W must be [..., d_hidden, feature] and b [..., feature]. "
        f"Received {list(W.shape)} and {list(b.shape)}",
    )
    n_features = W.shape[-1]
    p = torch.as_tensor(density, dtype=W.dtype, device=W.device)
    weight = torch.as_tensor(importance, dtype=W.dtype, device=W.device)
    for name, values in (("density", p), ("importance", weight)):
        require(
            values.ndim == 0 or values.shape[-1] in (1, n_features),
            f"{name} must be a number or end in an axis of 1 or {n_features} features. "
            f"Received shape {list(values.shape)}",
        )
    require(
        bool(((p >= 0) & (p <= 1)).all()),
        f"density must lie in 0 … 1. Received {p.tolist()!r:.80}",
    )
    p = p.expand(*p.shape[:-1], n_features)
    missed = torch.eye(n_features, dtype=W.dtype, device=W.device) - W.mT @ W
    variance = torch.as_tensor(feature_variance(p))
    spread = (missed.square() * variance.unsqueeze(-2)).sum(-1)
    offset = (missed * (p / 2).unsqueeze(-2)).sum(-1) - b
    return ((spread + offset.square()) * weight).sum(-1)
