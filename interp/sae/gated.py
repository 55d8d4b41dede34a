"""The gated SAE (Rajamanoharan et al. 2024, "Improving Dictionary Learning with Gated …")."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.sae.config import SAEConfig
from interp.sae.sae import SAELoss, SparseAutoencoder, squared_error


class GatedSAE(SparseAutoencoder):
    """f(x) = 1[π_gate > 0] ⊙ ReLU(π_mag): whether a unit fires is apart from how strongly.

    π_gate = (x − b_dec) W_enc + b_gate and π_mag = (x − b_dec) W_mag + b_mag, with weights tied up
    to a factor for each unit: W_mag = W_enc exp(r_mag). The step passes no gradient, so gates learn
    from two terms of their own:

        ‖x − x̂‖² + λ‖ReLU(π_gate)‖₁ + ‖x − x̂_frozen(ReLU(π_gate))‖²

    where x̂_frozen decodes with `W_dec` and `b_dec` taken as given. L1 so pushes gates shut without
    shrinking magnitudes.

    Attributes:
        b_gate: `[d_sae]`.
        r_mag: `[d_sae]`.
        b_mag: `[d_sae]`.
    """

    UNIT_AXES: ClassVar[dict[str, int]] = {
        **SparseAutoencoder.UNIT_AXES, "b_gate": 0, "r_mag": 0, "b_mag": 0,
    }  # fmt: skip

    def __init__(self, cfg: SAEConfig) -> None:
        super().__init__(cfg)
        self.b_gate = self.unit_bias()
        self.r_mag = self.unit_bias()
        self.b_mag = self.unit_bias()

    def encode(self, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_sae"]:
        """1[π_gate > 0] ⊙ ReLU(π_mag)."""
        return self._encode(x)[0]

    def loss(
        self,
        x: Float[Tensor, "batch d_in"],
        l1_scale: float = 1.0,
        dead: Bool[Tensor, "d_sae"] | None = None,
    ) -> SAELoss:
        """Squared error, L1 of open gates, and the gates' own squared error."""
        assert self.cfg.l1_coefficient is not None
        activations, gate = self._encode(x)
        reconstructed = self.decode(activations)
        error = squared_error(x, reconstructed)
        opened = gate.relu()
        sparsity = (self.cfg.l1_coefficient * l1_scale) * opened.sum(-1)
        auxiliary = squared_error(x, opened @ self.W_dec.detach() + self.b_dec.detach())
        total = (error + sparsity + auxiliary).mean()
        return SAELoss(total, error, sparsity, auxiliary, activations, reconstructed)

    @torch.no_grad()
    def init_units_(self, units: Bool[Tensor, "d_sae"]) -> None:
        """Zero biases, and magnitudes tied without a factor."""
        for parameter in (self.b_gate, self.r_mag, self.b_mag):
            parameter.masked_fill_(units, 0.0)

    def _encode(
        self, x: Float[Tensor, "... d_in"]
    ) -> tuple[Float[Tensor, "... d_sae"], Float[Tensor, "... d_sae"]]:
        """Activations and π_gate; one product serves both paths."""
        shared = self._centred(x) @ self.W_enc
        gate = shared + self.b_gate
        magnitude = (shared * self.r_mag.exp() + self.b_mag).relu()
        return magnitude * (gate > 0), gate
