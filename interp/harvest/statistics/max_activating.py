"""The rows in which each coordinate is largest."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import torch
from jaxtyping import Float, Int, Num, Shaped
from torch import Tensor

from interp.errors import require
from interp.harvest.statistics.statistic import Statistic, field, finite

KEPT = 32
"""How many rows are kept for each coordinate."""

_COORDINATES = 64  # that are looked at together, so many rows at once
_BLOCK_ROWS = 8192


@dataclass(frozen=True, eq=False)
class MaxActivating(Statistic):
    """The `KEPT` largest values of every coordinate, and whose they are.

    Exactly those that sorting all rows would give: values from the largest, and of equal ones the
    lower row first. 16 bytes for each: 512 bytes a coordinate.

    Attributes:
        n_rows: How many rows there were.
        values: As float64, the largest first; fewer if there are fewer rows.
        rows: Whose they are, counted from the first of the rows that were measured.
    """

    NAME: ClassVar[str] = "max_activating"

    n_rows: int
    values: Float[Tensor, "... k"]
    rows: Int[Tensor, "... k"]

    @classmethod
    def measure(cls, rows: Shaped[Tensor, "row ..."]) -> Self:
        """The largest values of these rows, see `Statistic.measure`."""
        shape = tuple(rows.shape[1:])
        flat = rows.reshape(len(rows), math.prod(shape))
        found = [_largest(part) for part in flat.split(_COORDINATES, dim=1)]
        values, numbers = (np.concatenate(each) for each in zip(*found, strict=True))
        return cls(
            len(rows),
            torch.from_numpy(values).view(*shape, -1),
            torch.from_numpy(numbers).view(*shape, -1),
        )

    def merge(self, later: Self) -> Self:
        """The largest values of these rows followed by later ones, whose numbers go on."""
        values = torch.cat([self.values, later.values], dim=-1)
        rows = torch.cat([self.rows, later.rows + self.n_rows], dim=-1)
        # Both are in order: a sort that leaves equal values where they are puts lower rows first.
        values, order = values.sort(dim=-1, descending=True, stable=True)
        rows = rows.gather(-1, order)
        return type(self)(self.n_rows + later.n_rows, values[..., :KEPT], rows[..., :KEPT])

    def to_tensors(self) -> dict[str, Num[Tensor, "... k"]]:
        """As tensors by field name, besides `n_rows`."""
        return {"values": self.values.contiguous(), "rows": self.rows.contiguous()}

    @classmethod
    def from_tensors(
        cls, tensors: Mapping[str, Shaped[Tensor, "..."]], n_rows: int, row_shape: tuple[int, ...]
    ) -> Self:
        """What `to_tensors` gave, see `Statistic.from_tensors`."""
        shape = (*row_shape, min(n_rows, KEPT))
        values = field(tensors, "values", torch.float64, shape)
        rows = field(tensors, "rows", torch.int64, shape)
        falls = values.diff(dim=-1) < 0
        in_order = falls | ((values.diff(dim=-1) == 0) & (rows.diff(dim=-1) > 0))
        require(
            bool(in_order.all()) and bool(((rows >= 0) & (rows < n_rows)).all()),
            "largest values must be in order and of rows that there are. They are not",
        )
        return cls(n_rows, finite(values), rows)


def _largest(rows: Shaped[Tensor, "row coordinate"]) -> tuple[np.ndarray, np.ndarray]:
    """Values and row numbers `[coordinate, k]`."""
    width = rows.shape[1]
    values, numbers = np.zeros((width, 0)), np.zeros((width, 0), dtype=np.int64)
    first = 0
    while first < len(rows):
        # As many as came before: about `KEPT` of them are larger than those that are known.
        block = rows[first : first + min(max(first, KEPT), _BLOCK_ROWS)]
        values, numbers = _larger(values, numbers, block, first)
        first += len(block)
    return values, numbers


def _larger(
    values: np.ndarray, numbers: np.ndarray, block: Shaped[Tensor, "row coordinate"], first: int
) -> tuple[np.ndarray, np.ndarray]:
    """The largest of what is known, and of a block of later rows from this number on."""
    finite(torch.stack([block.amin(), block.amax()]).double())
    width, known = values.shape
    if known < KEPT:
        is_larger = torch.ones(block.shape, dtype=torch.bool)
    else:
        is_larger = block > torch.from_numpy(values[:, -1]).to(block.dtype)  # equal ones come last
    row, coordinate = is_larger.nonzero(as_tuple=True)
    if not len(row):
        return values, numbers
    all_values = np.concatenate([values.ravel(), block[row, coordinate].double().numpy()])
    all_numbers = np.concatenate([numbers.ravel(), row.numpy() + first])
    coordinates = np.concatenate([np.arange(width).repeat(known), coordinate.numpy()])
    order = np.lexsort((all_numbers, -all_values, coordinates))
    starts = np.searchsorted(coordinates[order], np.arange(width))
    best = order[starts[:, None] + np.arange(min(first + len(block), KEPT))]
    return all_values[best], all_numbers[best]
