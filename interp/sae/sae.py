"""What all sparse autoencoders share: a dictionary, a way to encode, and the parts of a loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from interp.errors import InputError, require
from interp.sae.config import SAEConfig
from interp.sae.unit_norm import normalise_rows_


class SAELoss(NamedTuple):
    """A loss and its parts, in units of the squared input.

    Attributes:
        total: What is made small: the mean over the batch of the parts' sum, weighted.
        reconstruction: ‖x − x̂‖², summed over `d_in`.
        sparsity: The L1 penalty with its coefficient; zeros for a kind that has none.
        auxiliary: What else the kind adds, with its coefficient; zeros for a kind that has none.
        activations: What the units say of each input.
        reconstructed: x̂.
    """

    total: Float[Tensor, ""]
    reconstruction: Float[Tensor, "batch"]
    sparsity: Float[Tensor, "batch"]
    auxiliary: Float[Tensor, "batch"]
    activations: Float[Tensor, "batch d_sae"]
    reconstructed: Float[Tensor, "batch d_in"]


class SparseAutoencoder(nn.Module, ABC):
    """x ≈ Σ_u f_u(x) W_dec[u] + b_dec with few f_u above zero, none below.

    Every kind reads x − b_dec and keeps the rows of `W_dec` at unit length (see `unit_norm`), so
    that an activation is in units of the input. Initially the rows are random directions, `W_enc`
    is their transpose and all biases are zero.

    Attributes:
        cfg: What it is.
        W_enc: `[d_in, d_sae]`.
        W_dec: `[d_sae, d_in]`, a dictionary of one direction a row.
        b_dec: `[d_in]`.
        UNIT_AXES: By parameter that has a number or a vector for each unit: the axis of units.
    """

    UNIT_AXES: ClassVar[dict[str, int]] = {"W_enc": 1, "W_dec": 0}

    def __init__(self, cfg: SAEConfig) -> None:
        super().__init__()
        self.cfg = cfg
        # Drawn on the CPU in fp64: one seed gives one dictionary on every device.
        generator = torch.Generator().manual_seed(cfg.seed)
        directions = torch.randn(cfg.d_sae, cfg.d_in, generator=generator, dtype=torch.float64)
        normalise_rows_(directions)
        directions = directions.to(cfg.torch_device, cfg.torch_dtype)
        self.W_enc = nn.Parameter(directions.T.clone(memory_format=torch.contiguous_format))
        self.W_dec = nn.Parameter(directions)
        self.b_dec = nn.Parameter(directions.new_zeros(cfg.d_in))

    def unit_bias(self) -> nn.Parameter:
        """A parameter of zeros `[d_sae]`, as this SAE's others."""
        return nn.Parameter(self.W_dec.new_zeros(self.cfg.d_sae))

    @abstractmethod
    def encode(self, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_sae"]:
        """How strongly each unit fires, at least 0."""

    def decode(self, activations: Float[Tensor, "... d_sae"]) -> Float[Tensor, "... d_in"]:
        """Σ_u f_u W_dec[u] + b_dec."""
        return activations @ self.W_dec + self.b_dec

    def forward(self, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_in"]:
        """x̂: what is left of x when it is told in units."""
        return self.decode(self.encode(x))

    @abstractmethod
    def loss(
        self,
        x: Float[Tensor, "batch d_in"],
        l1_scale: float = 1.0,
        dead: Bool[Tensor, "d_sae"] | None = None,
    ) -> SAELoss:
        """The loss of a batch, with its parts.

        Args:
            x: Inputs.
            l1_scale: What the L1 coefficient is multiplied with, in its warm-up. No effect on a
                kind without L1.
            dead: Units that have not fired for long, which `topk` revives. None: there are none.
        """

    @abstractmethod
    def init_units_(self, units: Bool[Tensor, "d_sae"]) -> None:
        """Put what these units have besides `W_enc` and `W_dec` back to its initial value."""

    def _centred(self, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_in"]:
        require(
            x.shape[-1:] == self.b_dec.shape,
            f"inputs must have d_in = {self.cfg.d_in} numbers. Received shape {tuple(x.shape)}",
        )
        if x.dtype != self.b_dec.dtype:
            raise InputError(f"inputs must be {self.b_dec.dtype}, as the SAE. Received {x.dtype}.")
        return x - self.b_dec


def squared_error(
    x: Float[Tensor, "batch d_in"], reconstructed: Float[Tensor, "batch d_in"]
) -> Float[Tensor, "batch"]:
    """‖x − x̂‖², summed over `d_in`."""
    return (x - reconstructed).square().sum(-1)
