"""Decoder rows of unit length, kept so during training.

An L1 penalty on activations is made small by small activations and long decoder rows, without any
gain in sparsity. Rows of unit length rule that out and give activations the unit of the input. As
in Bricken et al. 2023, the part of the gradient along a row is taken away before the optimiser
sees it (else its moments would hold what the rescaling undoes) and rows are rescaled after each
update. The gated SAE (Rajamanoharan et al. 2024) and the TopK SAE (Gao et al. 2024) do the same.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


@torch.no_grad()
def normalise_rows_(weight: Float[Tensor, "... unit d_in"]) -> None:
    """Scale rows to unit length, in place; rows of zeros stay."""
    tiny = torch.finfo(weight.dtype).tiny
    weight.div_(torch.linalg.vector_norm(weight, dim=-1, keepdim=True).clamp_(min=tiny))


@torch.no_grad()
def remove_parallel_gradient_(weight: nn.Parameter) -> None:
    """Take away the part of the gradient along each row; rows must have unit length."""
    if weight.grad is not None:
        along = (weight.grad * weight).sum(-1, keepdim=True)
        weight.grad.sub_(along * weight)
