"""Mean, variance, least and greatest value of every coordinate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from interp.errors import require
from interp.harvest.statistics.statistic import Statistic, blocks, field, finite


@dataclass(frozen=True, eq=False)
class Moments(Statistic):
    """Mean and variance in float64, by blocks that are merged as Chan, Golub & LeVeque 1983.

    32 bytes a coordinate.

    Attributes:
        n_rows: How many rows there were.
        mean: Of every coordinate, in the shape of a row, like all others.
        squares: Σ (x − mean)².
        least: The smallest value; ∞ without rows.
        greatest: The largest value; −∞ without rows.
    """

    NAME: ClassVar[str] = "moments"

    n_rows: int
    mean: Float[Tensor, "..."]
    squares: Float[Tensor, "..."]
    least: Float[Tensor, "..."]
    greatest: Float[Tensor, "..."]

    @classmethod
    def measure(cls, rows: Shaped[Tensor, "row ..."]) -> Self:
        """The moments of these rows, see `Statistic.measure`."""
        none = torch.zeros(rows.shape[1:], dtype=torch.float64).flatten()
        # Each has memory of its own: files of tensors that share some cannot be written.
        found = cls(0, none, none.clone(), none + torch.inf, none - torch.inf)
        for block in blocks(rows):
            found = found.merge(cls._of_block(block))
        if found.n_rows:
            for each in (found.squares, found.least, found.greatest):
                finite(each)
        return found._as(tuple(rows.shape[1:]))

    def merge(self, later: Self) -> Self:
        """The moments of these rows followed by later ones."""
        total = self.n_rows + later.n_rows
        if total == 0:
            return self
        apart, share = later.mean - self.mean, later.n_rows / total
        return type(self)(
            total,
            self.mean + apart * share,
            self.squares + later.squares + apart.square() * (self.n_rows * share),
            torch.minimum(self.least, later.least),
            torch.maximum(self.greatest, later.greatest),
        )

    def variance(self) -> Float[Tensor, "..."]:
        """Of the rows themselves: the mean of (x − mean)², divided by `n_rows`."""
        return self.squares / self.n_rows

    def to_tensors(self) -> dict[str, Float[Tensor, "..."]]:
        """As tensors by field name, besides `n_rows`."""
        names = ("mean", "squares", "least", "greatest")
        return {name: getattr(self, name).contiguous() for name in names}

    @classmethod
    def from_tensors(
        cls, tensors: Mapping[str, Shaped[Tensor, "..."]], n_rows: int, row_shape: tuple[int, ...]
    ) -> Self:
        """What `to_tensors` gave, see `Statistic.from_tensors`."""
        mean, squares, least, greatest = (
            field(tensors, name, torch.float64, row_shape)
            for name in ("mean", "squares", "least", "greatest")
        )
        if n_rows:
            is_finite = torch.stack([mean, squares, least, greatest]).isfinite().all()
            require(
                bool(is_finite & ((least <= greatest) & (squares >= 0)).all()),
                "moments must be finite, with least ≤ greatest and squares ≥ 0. They are not",
            )
        return cls(n_rows, mean, squares, least, greatest)

    def _as(self, shape: tuple[int, ...]) -> Self:
        return type(self)(self.n_rows, *(each.view(shape) for each in self.to_tensors().values()))

    @classmethod
    def _of_block(cls, block: Shaped[Tensor, "row coordinate"]) -> Self:
        # In the dtype of the rows: fewer bytes, and no rounding.
        least, greatest = block.amin(0).double(), block.amax(0).double()
        x = block.to(torch.float64, copy=True)
        mean = x.sum(0) / len(x)
        squares = x.sub_(mean).square_().sum(0)
        return cls(len(x), mean, squares, least, greatest)
