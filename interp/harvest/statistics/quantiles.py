"""Quantiles of every coordinate, from counts in narrow bins."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from interp.errors import require
from interp.harvest.statistics.statistic import BLOCK_VALUES, Statistic, field

RELATIVE_ERROR = 1 / 64
"""How far a quantile lies at most from the row's value that it stands for."""

_FRACTION_BITS = 5  # of a float32's 23 that tell bins apart
_SHIFT = 23 - _FRACTION_BITS
_MAGNITUDES = 1 << (8 + _FRACTION_BITS)
_N_BINS = 2 * _MAGNITUDES
_FINITE = 255 << _FRACTION_BITS  # magnitudes from here on are infinity and NaN
_COORDINATES = 64  # whose counts fit into a core's cache


@dataclass(frozen=True, eq=False)
class QuantileSketch(Statistic):
    """How many rows have a value in each bin, for every coordinate.

    A bin is the sign, the exponent and the first five bits of the fraction of a value as float32:
    32 bins from one power of two to the next. Counts are whole numbers, so that merging is exact in
    any order, and so is the rank of what is found. It takes 6 bytes for every bin that is not
    empty: about 750 of them for 65,536 rows of a Gaussian, 4.6 kB a coordinate; never more than
    there are rows. While rows are counted, 4 MiB.

    Attributes:
        n_rows: How many rows there were.
        row_shape: The axes of a row.
        keys: The bins that are not empty, from each coordinate's lowest values to its highest:
            coordinate · 16,384 + bin.
        counts: How many rows are in each.
    """

    NAME: ClassVar[str] = "quantiles"

    n_rows: int
    row_shape: tuple[int, ...]
    keys: Int[Tensor, "bin"]
    counts: Int[Tensor, "bin"]

    @classmethod
    def measure(cls, rows: Shaped[Tensor, "row ..."]) -> Self:
        """The counts of these rows, see `Statistic.measure`.

        Raises:
            InputError: for rows that are not finite as float32.
        """
        row_shape = tuple(rows.shape[1:])
        flat = rows.reshape(len(rows), math.prod(row_shape))
        found = [
            _counts(part, first)
            for first, part in zip(
                range(0, flat.shape[1], _COORDINATES), flat.split(_COORDINATES, dim=1), strict=True
            )
        ]
        keys, counts = (torch.cat(each) for each in zip(*found, strict=True))
        return cls(len(rows), row_shape, keys, counts)

    def merge(self, later: Self) -> Self:
        """The counts of these rows followed by later ones."""
        keys, counts = self.keys, self.counts.clone()
        at = torch.searchsorted(keys, later.keys)
        known = at < len(keys)
        known[known.clone()] = keys[at[known]] == later.keys[known]
        counts[at[known]] += later.counts[known]
        if not known.all():
            keys, order = torch.cat([keys, later.keys[~known]]).sort()
            counts = torch.cat([counts, later.counts[~known]])[order]
        return type(self)(self.n_rows + later.n_rows, self.row_shape, keys, counts)

    def quantile(self, q: float) -> Float[Tensor, "..."]:
        """The least value with at least a fraction `q` of the rows at or below it.

        It stands for one row's value v (numpy's `inverted_cdf`), and is within v/64 of it where
        |v| ≥ 2⁻¹²⁶ (1.2 · 10⁻³⁸), else within 2⁻¹³¹; zero for a zero.

        Raises:
            InputError: if `q` does not lie in 0 … 1, or there are no rows.
        """
        is_number = isinstance(q, int | float) and not isinstance(q, bool)
        require(is_number and 0 <= q <= 1, f"q must lie in 0 … 1. Received {q!r}")
        require(self.n_rows > 0, "a quantile needs rows. There are none")
        rank = min(max(math.ceil(q * self.n_rows), 1), self.n_rows)
        # Every coordinate has `n_rows`: this is the rank among the rows of all coordinates.
        of_all = torch.arange(math.prod(self.row_shape)) * self.n_rows + rank
        at = torch.searchsorted(self.counts.cumsum(0), of_all)
        return _value(self.keys[at] % _N_BINS).view(self.row_shape)

    def to_tensors(self) -> dict[str, Int[Tensor, "..."]]:
        """As tensors by field name, besides `n_rows`."""
        width = math.prod(self.row_shape)
        return {
            "starts": torch.searchsorted(self.keys, torch.arange(width + 1) * _N_BINS),
            "bins": (self.keys % _N_BINS).short(),
            "counts": self.counts.to(_dtype_of_counts(self.n_rows)),
        }

    @classmethod
    def from_tensors(
        cls, tensors: Mapping[str, Shaped[Tensor, "..."]], n_rows: int, row_shape: tuple[int, ...]
    ) -> Self:
        """What `to_tensors` gave, see `Statistic.from_tensors`."""
        width = math.prod(row_shape)
        starts = field(tensors, "starts", torch.int64, (width + 1,))
        bins = field(tensors, "bins", torch.int16, (None,)).long()
        counts = field(tensors, "counts", _dtype_of_counts(n_rows), (len(bins),)).long()
        sizes = starts.diff()
        whole = int(starts[0]) == 0 and int(starts[-1]) == len(bins) and bool((sizes >= 0).all())
        if whole:
            coordinate = torch.arange(width).repeat_interleave(sizes)
            keys = coordinate * _N_BINS + bins
            totals = torch.zeros(width, dtype=torch.int64).scatter_add_(0, coordinate, counts)
            whole = (
                bool(((bins >= _MAGNITUDES - _FINITE) & (bins < _MAGNITUDES + _FINITE)).all())
                and bool((keys.diff() > 0).all())
                and bool(((counts >= 1) & (counts <= n_rows)).all())
                and bool((totals == n_rows).all())
            )
        require(whole, "bins must be in order, and their counts those of all rows. They are not")
        return cls(n_rows, row_shape, keys, counts)


def _dtype_of_counts(n_rows: int) -> torch.dtype:
    return torch.int32 if n_rows < 1 << 31 else torch.int64


def _counts(
    rows: Shaped[Tensor, "row coordinate"], first: int
) -> tuple[Int[Tensor, "bin"], Int[Tensor, "bin"]]:
    """Keys and counts of these coordinates, the first of which has this number."""
    width = rows.shape[1]
    counts = torch.zeros(width * _N_BINS, dtype=torch.int32)
    one = torch.ones((), dtype=torch.int32)
    offset = torch.arange(width) * _N_BINS
    for block in rows.split(max(1, BLOCK_VALUES // width)) if len(rows) else ():
        # Without the sign, the bits of a float are in the order of its values.
        bits = block.to(torch.float32).contiguous().view(torch.int32) >> _SHIFT
        magnitude = bits & (_MAGNITUDES - 1)
        require(
            int(magnitude.max()) < _FINITE,
            "rows must be finite, and at most 3.4e38. Received infinity, NaN or a larger value",
        )
        order = torch.where(bits < 0, _MAGNITUDES - 1 - magnitude, _MAGNITUDES + magnitude)
        place = (order + offset).flatten()
        counts.scatter_add_(0, place, one.expand(len(place)))
    places = counts.nonzero()[:, 0]
    return places + first * _N_BINS, counts[places].long()


def _value(bins: Int[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The value within a bin that is as far from its lower as from its upper end, relatively."""
    positive = bins >= _MAGNITUDES
    magnitude = torch.where(positive, bins - _MAGNITUDES, _MAGNITUDES - 1 - bins)
    lower, upper = (
        (each.int() << _SHIFT).view(torch.float32).double() for each in (magnitude, magnitude + 1)
    )
    # The last finite bin ends at 2^128, which float32 cannot hold.
    upper = torch.where(upper.isfinite(), upper, torch.full_like(upper, 2.0**128))
    middle = 2 * lower * upper / (lower + upper)  # 0 for the bin of zero
    return torch.where(positive, middle, 0.0 - middle)
