"""How the coordinates of a row vary together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from interp.errors import require
from interp.harvest.statistics.statistic import Statistic, blocks, field, finite

_BLOCK_VALUES = 1 << 21  # products of matrices are fast on long ones


@dataclass(frozen=True, eq=False)
class Covariance(Statistic):
    """Covariance along the last axis of a row, for each entry of the axes before it (each head).

    Sums of products are taken about the mean of a block in float64, and merged as Chan, Golub &
    LeVeque 1983: a mean that is large beside the spread costs no digits. 8 d² bytes for vectors of
    length d, in every shard: 32 KiB for 64, 128 MiB for 4,096; and 2 d² operations a row.

    Attributes:
        n_rows: How many rows there were.
        mean: In the shape of a row.
        products: Σ (x − mean)(x − mean)ᵀ.
    """

    NAME: ClassVar[str] = "covariance"

    n_rows: int
    mean: Float[Tensor, "... d"]
    products: Float[Tensor, "... d d"]

    @classmethod
    def measure(cls, rows: Shaped[Tensor, "row ..."]) -> Self:
        """The covariance of these rows, see `Statistic.measure`.

        Raises:
            InputError: for rows that are single numbers.
        """
        shape = tuple(rows.shape[1:])
        require(len(shape) > 0, "covariance needs rows that are vectors. Received single numbers")
        mean = torch.zeros(shape, dtype=torch.float64)
        found = cls(0, mean, mean.new_zeros((*shape, shape[-1])))
        for block in blocks(rows, _BLOCK_VALUES):
            found = found.merge(cls._of_block(block.unflatten(1, shape)))
        finite(found.products)
        return found

    def merge(self, later: Self) -> Self:
        """The covariance of these rows followed by later ones."""
        total = self.n_rows + later.n_rows
        if total == 0:
            return self
        apart, share = later.mean - self.mean, later.n_rows / total
        # First the outer product, which is symmetric to the last bit, then its factor.
        outer = apart[..., :, None] * apart[..., None, :]
        products = self.products + later.products
        products.add_(outer, alpha=self.n_rows * share)
        return type(self)(total, self.mean + apart * share, products)

    def covariance(self) -> Float[Tensor, "... d d"]:
        """The mean of (x − mean)(x − mean)ᵀ: divided by `n_rows`."""
        return self.products / self.n_rows

    def to_tensors(self) -> dict[str, Float[Tensor, "..."]]:
        """As tensors by field name, besides `n_rows`."""
        return {"mean": self.mean.contiguous(), "products": self.products.contiguous()}

    @classmethod
    def from_tensors(
        cls, tensors: Mapping[str, Shaped[Tensor, "..."]], n_rows: int, row_shape: tuple[int, ...]
    ) -> Self:
        """What `to_tensors` gave, see `Statistic.from_tensors`."""
        require(
            len(row_shape) > 0, "covariance needs rows that are vectors. Received single numbers"
        )
        mean = field(tensors, "mean", torch.float64, row_shape)
        products = field(tensors, "products", torch.float64, (*row_shape, row_shape[-1]))
        require(
            bool(mean.isfinite().all()) and bool(products.isfinite().all()),
            "a covariance must be finite. It is not",
        )
        return cls(n_rows, mean, products)

    @classmethod
    def _of_block(cls, block: Shaped[Tensor, "row ... d"]) -> Self:
        x = block.to(torch.float64, copy=True)
        mean = x.sum(0) / len(x)
        x = x.sub_(mean).movedim(0, -2)
        products = x.mT @ x
        # A product of a matrix with itself is symmetric but for the order of its sums.
        return cls(len(x) if x.ndim == 2 else x.shape[-2], mean, (products + products.mT) / 2)
