"""The TopK SAE with AuxK (Gao et al. 2024, "Scaling and evaluating sparse autoencoders")."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.sae.config import SAEConfig
from interp.sae.sae import SAELoss, SparseAutoencoder, squared_error


class TopKSAE(SparseAutoencoder):
    """f(x) = ReLU(TopK((x − b_dec) W_enc + b_enc)); the loss is ‖x − x̂‖² + α‖e − ê‖².

    e = x − x̂, which the second term takes as given, and ê = z W_dec, where z are the `aux_k`
    largest pre-activations among dead units (as far as they are above 0). Without dead units that
    term is 0. Of equal pre-activations exactly as many are taken as make k.

    Attributes:
        b_enc: `[d_sae]`.
    """

    UNIT_AXES: ClassVar[dict[str, int]] = {**SparseAutoencoder.UNIT_AXES, "b_enc": 0}

    def __init__(self, cfg: SAEConfig) -> None:
        super().__init__(cfg)
        self.b_enc = self.unit_bias()

    def encode(self, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_sae"]:
        """The k largest pre-activations as far as they are above 0, and zeros."""
        assert self.cfg.k is not None
        return _largest(self._pre(x), self.cfg.k)

    def loss(
        self,
        x: Float[Tensor, "batch d_in"],
        l1_scale: float = 1.0,
        dead: Bool[Tensor, "d_sae"] | None = None,
    ) -> SAELoss:
        """Squared error, and that of dead units at what it leaves."""
        assert self.cfg.k is not None
        pre = self._pre(x)
        activations = _largest(pre, self.cfg.k)
        reconstructed = self.decode(activations)
        error = squared_error(x, reconstructed)
        auxiliary = torch.zeros_like(error)
        if dead is not None and dead.is_cpu and not dead.any():
            dead = None  # nothing to compute, as can be seen here without waiting for a GPU
        if dead is not None and self.cfg.aux_k and self.cfg.aux_coefficient:
            left = (x - reconstructed).detach()
            most = min(self.cfg.aux_k, self.cfg.d_sae)
            revived = _largest(pre.masked_fill(~dead, 0.0), most)
            auxiliary = self.cfg.aux_coefficient * squared_error(left, revived @ self.W_dec)
            # On a GPU a factor in place of the `if`, which would make it wait.
            auxiliary = auxiliary * dead.any()
        total = (error + auxiliary).mean()
        return SAELoss(total, error, torch.zeros_like(error), auxiliary, activations, reconstructed)

    @torch.no_grad()
    def init_units_(self, units: Bool[Tensor, "d_sae"]) -> None:
        """Zero biases."""
        self.b_enc.masked_fill_(units, 0.0)

    def _pre(self, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_sae"]:
        return self._centred(x) @ self.W_enc + self.b_enc


def _largest(pre: Float[Tensor, "... d_sae"], k: int) -> Float[Tensor, "... d_sae"]:
    """ReLU of the k largest, zeros elsewhere."""
    values, at = pre.topk(k, dim=-1, sorted=False)
    return torch.zeros_like(pre).scatter(-1, at, values.relu())
