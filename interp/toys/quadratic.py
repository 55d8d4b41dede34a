"""A toy whose best allocation of capacity is known: a sum of squares from too few squares.

The target is Σ_i v_i x_i², the model Σ_d (W x)_d² + b, one number each; features are independent,
of mean 0 and variance 1. It is after the quadratic toy of Scherlis et al. (2022), Polysemanticity
and Capacity in Neural Networks; all that is used of it is stated and derived here, so that nothing
depends on their notation.

The model's error is b + xᵀ(WᵀW - diag v) x. With the best b its mean square is the variance of the
quadratic form. Of the fourth moments E x_i x_j x_k x_l only E x_i⁴ = κ (the kurtosis) and
E x_i² x_j² = 1 are not zero, which leaves a sum over features of

    L_i = (κ - 1) (W_i·W_i - v_i)² + 2 Σ_{j≠i} (W_i·W_j)².
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.errors import require, require_whole
from interp.toys.batch import Batch, per_instance
from interp.toys.choice import selected
from interp.toys.draws import Stream, as_seeds, normal
from interp.toys.features import SparseFeatures


class QuadraticToy(nn.Module):
    """y = Σ_d (W x)_d² + b: quadratic neurons with a readout of ones, which is not trained.

    Attributes:
        W: Column i is the direction of feature i in the hidden layer.
        b: Of the output.
    """

    W: Float[Tensor, "instance d_hidden feature"]
    b: Float[Tensor, "instance 1"]

    def __init__(
        self,
        n_instances: int,
        n_features: int,
        d_hidden: int,
        *,
        seeds: int | Sequence[int] | Int[Tensor, "instance"] = 0,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        """Make the models, with normal weights of variance 2 / (n_features + d_hidden) (Xavier).

        Args:
            n_instances: How many models.
            n_features: Inputs of each.
            d_hidden: Squares that each adds up.
            seeds: Of the weights: one for each, or the first of so many numbers in a row.
            dtype: Of the parameters.
            device: Of the parameters.

        Raises:
            InputError: If a value breaks its rule.
        """
        super().__init__()
        require_whole("n_instances", n_instances, 1)
        require_whole("n_features", n_features, 1)
        require_whole("d_hidden", d_hidden, 1)
        device = torch.device(device)
        shape = (d_hidden, n_features)
        drawn = normal(as_seeds(seeds, n_instances, device), 0, Stream.WEIGHTS, shape, dtype)
        self.W = nn.Parameter(drawn * (2 / sum(shape)) ** 0.5)
        self.b = nn.Parameter(torch.zeros(n_instances, 1, dtype=dtype, device=device))

    @property
    def n_instances(self) -> int:
        """How many models."""
        return self.W.shape[0]

    def forward(
        self, x: Float[Tensor, "instance batch feature"]
    ) -> Float[Tensor, "instance batch 1"]:
        """The sum of squares."""
        hidden = torch.bmm(x, self.W.transpose(1, 2))
        return hidden.square().sum(-1, keepdim=True) + self.b[:, None]

    def select(self, instances: Int[Tensor, "chosen"]) -> Self:
        """A copy of some instances alone."""
        return selected(self, instances)


@dataclass(frozen=True, kw_only=True)
class QuadraticTask:
    """Sparse features of variance 1, and Σ_i v_i x_i² as their target.

    Attributes:
        source: The features before they are divided by their standard deviation.
        coefficients: v_i, at least 0: a sum of squares cannot be negative. The loss of a feature
            that is ignored is (κ - 1) v_i², so v_i² is its importance.
    """

    source: SparseFeatures
    coefficients: Float[Tensor, "instance feature"]

    @classmethod
    def of(
        cls, source: SparseFeatures, coefficients: float | Float[Tensor, "... #feature"]
    ) -> Self:
        """The task on these features.

        Args:
            source: Independent features with signed values, of density above 0.
            coefficients: Broadcast to `[instance, feature]`.

        Raises:
            InputError: If the features are of another kind, or a coefficient is negative.
        """
        shape = (source.n_instances, source.n_features)
        device = source.density.device
        return cls(
            source=source,
            coefficients=per_instance("coefficients", coefficients, shape, source.dtype, device),
        )

    def __post_init__(self) -> None:
        source = self.source
        require(
            source.values == "signed" and source.group_size == 1 and not source.unit_norm,
            "the quadratic task is of independent, signed features that are not of unit norm. "
            f"Received values {source.values!r}, group_size {source.group_size}, unit_norm "
            f"{source.unit_norm}",
        )
        require(
            bool((source.density > 0).all()),
            f"density must be above 0. Received {float(source.density.min())}",
        )
        require(
            bool((self.coefficients >= 0).all()),
            f"coefficients must not be negative. Received {float(self.coefficients.min())}",
        )

    @property
    def n_instances(self) -> int:
        """Models that the task is for."""
        return self.source.n_instances

    @property
    def n_features(self) -> int:
        """Features of each."""
        return self.source.n_features

    def batch(self, step: Int[Tensor, ""] | int, batch_size: int | None) -> Batch:
        """The examples of one step; see `SparseFeatures.batch`."""
        drawn = self.source.batch(step, batch_size).x
        scale = (3 / self.source.density).sqrt().to(drawn.dtype)  # of (-1, 1): variance p / 3
        x = drawn * scale[:, None]
        return Batch(x, torch.bmm(x.square(), self.coefficients[..., None]))

    def select(self, instances: Int[Tensor, "chosen"]) -> Self:
        """The task of some instances alone."""
        return replace(
            self,
            source=self.source.select(instances),
            coefficients=self.coefficients[instances],
        )

    def fields(self) -> dict[str, object]:
        """All that the batches depend on, by name."""
        return {"coefficients": self.coefficients, **self.source.fields()}


def kurtosis_of(density: float | Float[Tensor, "*axes"]) -> Float[Tensor, "*axes"]:
    """κ = E x⁴ / (E x²)² = 9 / (5 p) of a feature that is uniform in (-1, 1) with probability p.

    9/5 of one that is always there; 3, a normal feature's, at p = 3/5.

    Raises:
        InputError: If a density is not in 0 … 1, 0 left out.
    """
    p = torch.as_tensor(density, dtype=torch.float64)
    require(
        bool(((p > 0) & (p <= 1)).all()), f"density must lie in 0 … 1, 0 left out. Received {p}"
    )
    return 9 / (5 * p)


def quadratic_losses(
    W: Float[Tensor, "... d_hidden feature"],
    coefficients: Float[Tensor, "... feature"],
    kurtosis: float | Float[Tensor, "..."],
) -> Float[Tensor, "... feature"]:
    """L_i = (κ - 1) (W_i·W_i - v_i)² + 2 Σ_{j≠i} (W_i·W_j)², whose sum is the expected loss.

    Exact, with the best bias b = Σ_i (v_i - W_i·W_i).

    Args:
        W: The directions.
        coefficients: v_i.
        kurtosis: κ, one of a model.

    Raises:
        InputError: For shapes that do not fit, or a W of whole numbers.
    """
    require(
        W.ndim >= 2 and coefficients.shape[-1:] == W.shape[-1:] and W.is_floating_point(),
        "W must be floating-point numbers [... d_hidden, feature] and coefficients [... feature]. "
        f"Received {list(W.shape)} of {W.dtype} and {list(coefficients.shape)}",
    )
    gram = W.mT @ W
    own = gram.diagonal(dim1=-2, dim2=-1)
    others = gram.square().sum(-1) - own.square()
    excess = torch.as_tensor(kurtosis, dtype=W.dtype, device=W.device)[..., None] - 1
    return excess * (own - coefficients).square() + 2 * others
