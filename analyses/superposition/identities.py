"""What holds for the weights of any toy, trained or not."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from analyses.results.checks import SCALED, scaled_error
from analyses.results.result import Check
from interp.toys.measures import feature_dimensionality, feature_norms, superposition


def weight_checks(W: Float[Tensor, "... d_hidden feature"]) -> list[Check]:
    """The measures that are reported, beside what the Gram matrices WᵀW say, in fp64.

    Args:
        W: The weights, on any device.
    """
    W = W.detach().double()
    gram = W.mT @ W
    own = gram.diagonal(dim1=-2, dim2=-1)
    others = gram.square().sum(-1) - own.square()
    safe = torch.where(own > 0, own, 1.0)
    rank = torch.linalg.matrix_rank(W).double()
    excess = feature_dimensionality(W).sum(-1) - rank
    return [
        Check(
            "squared norms are the diagonal of WᵀW",
            scaled_error(feature_norms(W).square(), own),
            1e-10,
            SCALED,
        ),
        Check(
            "superposition is what the rest of WᵀW says",
            scaled_error(superposition(W), others / safe),
            1e-10,
            f"Σ_{{j≠i}} (WᵀW)_ij² / (WᵀW)_ii; {SCALED}",
        ),
        Check(
            "dimensionalities sum to the rank at most",
            float(excess.max().clamp(min=0.0)),
            1e-9,
            "Σ_i D_i less the rank of W, where it is above 0",
        ),
    ]
