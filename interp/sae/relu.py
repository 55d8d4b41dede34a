"""The ReLU SAE with an L1 penalty (Bricken et al. 2023, "Towards Monosemanticity")."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.sae.config import SAEConfig
from interp.sae.sae import SAELoss, SparseAutoencoder, squared_error


class ReluSAE(SparseAutoencoder):
    """f(x) = ReLU((x − b_dec) W_enc + b_enc); the loss is ‖x − x̂‖² + λ‖f‖₁.

    Attributes:
        b_enc: `[d_sae]`.
    """

    UNIT_AXES: ClassVar[dict[str, int]] = {**SparseAutoencoder.UNIT_AXES, "b_enc": 0}

    def __init__(self, cfg: SAEConfig) -> None:
        super().__init__(cfg)
        self.b_enc = self.unit_bias()

    def encode(self, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_sae"]:
        """ReLU((x − b_dec) W_enc + b_enc)."""
        return (self._centred(x) @ self.W_enc + self.b_enc).relu()

    def loss(
        self,
        x: Float[Tensor, "batch d_in"],
        l1_scale: float = 1.0,
        dead: Bool[Tensor, "d_sae"] | None = None,
    ) -> SAELoss:
        """Squared error and L1; dead units are left to resampling."""
        assert self.cfg.l1_coefficient is not None
        activations = self.encode(x)
        reconstructed = self.decode(activations)
        error = squared_error(x, reconstructed)
        sparsity = (self.cfg.l1_coefficient * l1_scale) * activations.sum(-1)
        total = (error + sparsity).mean()
        return SAELoss(total, error, sparsity, torch.zeros_like(error), activations, reconstructed)

    @torch.no_grad()
    def init_units_(self, units: Bool[Tensor, "d_sae"]) -> None:
        """Zero biases."""
        self.b_enc.masked_fill_(units, 0.0)
