"""What a toy is punished for."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Protocol, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import require
from interp.toys.batch import Batch, per_instance, require_dtype


class Loss(Protocol):
    """A number for each instance that depends on nothing but that instance's output and batch."""

    @property
    def n_instances(self) -> int:
        """Models that the loss is for."""

    def __call__(
        self, output: Float[Tensor, "instance batch out"], batch: Batch
    ) -> Float[Tensor, "instance"]:
        """The loss of each instance."""

    def select(self, instances: Int[Tensor, "chosen"]) -> Self:
        """The loss of some instances alone."""

    def fields(self) -> dict[str, object]:
        """All that the loss depends on, by name."""


@dataclass(frozen=True)
class ReconstructionLoss:
    """Mean over examples and features of I_i |x_i - x'_i|^power.

    Elhage et al. (2022), “Demonstrating Superposition”, Setup, with a mean in place of its sums as
    in the authors' notebook. Made by `ReconstructionLoss.of(...)`, which broadcasts and checks.

    Attributes:
        importance: How much an error in each feature counts.
        power: Of the error: 2 is the paper's.
    """

    importance: Float[Tensor, "instance feature"]
    power: Float[Tensor, "instance"]
    _squared: bool = field(init=False, repr=False, compare=False)

    @classmethod
    def of(
        cls,
        n_instances: int,
        n_features: int,
        importance: float | Float[Tensor, "... #feature"] = 1.0,
        *,
        power: float | Float[Tensor, "*#instance"] = 2.0,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Self:
        """The loss of this many instances.

        Args:
            n_instances: How many models.
            n_features: Outputs of each.
            importance: Broadcast to `[instance, feature]`: `[feature]` or `[instance, 1]` will do.
            power: Broadcast to `[instance]`; at least 1.
            dtype: Of the loss: `float32` or `float64`.
            device: Where it is computed.

        Raises:
            InputError: If an importance is negative, a power is less than 1, or one does not fit.
        """
        shape = (n_instances, n_features)
        return cls(
            per_instance("importance", importance, shape, dtype, device),
            per_instance("power", power, (n_instances,), dtype, device),
        )

    def __post_init__(self) -> None:
        require(
            bool((self.importance >= 0).all()),
            f"importance must not be negative. Received {float(self.importance.min())}",
        )
        require(
            bool((self.power >= 1).all()),
            f"power must be at least 1. Received {float(self.power.min())}",
        )
        require_dtype(self.importance.dtype)
        object.__setattr__(self, "_squared", bool((self.power == 2).all()))

    @property
    def n_instances(self) -> int:
        """Models that the loss is for."""
        return self.importance.shape[0]

    def __call__(
        self, output: Float[Tensor, "instance batch feature"], batch: Batch
    ) -> Float[Tensor, "instance"]:
        """The loss of each instance."""
        error = output - batch.target
        # |0|^p has no gradient in torch where p is a tensor; the square is also the cheaper one.
        cost = error.square() if self._squared else _power(error, self.power[:, None, None])
        # First over examples: one sum over both axes is several times as slow, compiled on a CPU.
        if batch.weight is None:
            by_feature = cost.mean(1)
        else:
            by_feature = (cost * batch.weight[..., None]).sum(1)
        return (by_feature * self.importance).mean(1)

    def select(self, instances: Int[Tensor, "chosen"]) -> Self:
        """The loss of some instances alone."""
        return replace(self, importance=self.importance[instances], power=self.power[instances])

    def fields(self) -> dict[str, object]:
        """All that the loss depends on, by name."""
        return {"importance": self.importance, "power": self.power}


def _power(error: Tensor, power: Tensor) -> Tensor:
    size = error.abs()
    nonzero = size > 0
    return torch.where(nonzero, torch.where(nonzero, size, 1.0) ** power, 0.0)


def geometric_importance(
    n_features: int,
    ratio: float,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Float[Tensor, "feature"]:
    """The importance curve I_i = ratioⁱ of the paper, from i = 0.

    Raises:
        InputError: If the ratio is not in 0 … 1, 0 left out.
    """
    require(0 < ratio <= 1, f"ratio must lie in 0 … 1, 0 left out. Received {ratio}")
    return ratio ** torch.arange(n_features, dtype=dtype, device=device)
