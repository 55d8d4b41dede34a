"""The statistics of one hook: of a shard, or merged from those of all shards."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self, TypeVar

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from interp.errors import InputError, require, require_whole, unknown
from interp.harvest.statistics.covariance import Covariance
from interp.harvest.statistics.max_activating import KEPT, MaxActivating
from interp.harvest.statistics.moments import Moments
from interp.harvest.statistics.quantiles import QuantileSketch
from interp.harvest.statistics.statistic import Statistic

STATISTICS: dict[str, type[Statistic]] = {
    kind.NAME: kind for kind in (Moments, QuantileSketch, Covariance, MaxActivating)
}
"""By name."""

Kind = TypeVar("Kind", bound=Statistic)


@dataclass(frozen=True, eq=False)
class HookStatistics:
    """What was measured of a hook's rows as they are stored.

        >>> rows = torch.tensor([[1.0, 5.0], [3.0, 1.0], [2.0, 9.0]])
        >>> first = HookStatistics.measure(rows[:2], ["moments", "max_activating"])
        >>> both = first.merge([HookStatistics.measure(rows[2:], ["moments", "max_activating"])])
        >>> both.mean.tolist(), both.max_activating(1).rows.tolist()
        ([2.0, 5.0], [[1], [2]])

    Attributes:
        n_rows: How many rows there were.
        row_shape: The axes of a row.
        by_name: `Moments`, `QuantileSketch`, `Covariance` and `MaxActivating`, as far as they were
            asked for.
    """

    n_rows: int
    row_shape: tuple[int, ...]
    by_name: dict[str, Statistic]

    @classmethod
    def measure(cls, rows: Shaped[Tensor, "row ..."], names: Sequence[str]) -> Self:
        """The statistics of these rows.

        Args:
            rows: All rows of a shard, on the CPU, in the dtype that they are stored in.
            names: What to measure, of `STATISTICS`.

        Raises:
            InputError: for another name; for rows that are not finite, not on the CPU, or that a
                statistic is not made for.
        """
        check_names(names)
        require(
            rows.ndim >= 1 and rows.is_cpu and math.prod(rows.shape[1:]) > 0,
            "rows must be [row, ...] on the CPU, with at least one number each. "
            f"Received {tuple(rows.shape)} on {rows.device}",
        )
        found = {name: STATISTICS[name].measure(rows.detach()) for name in names}
        return cls(len(rows), tuple(rows.shape[1:]), found)

    def merge(self, later: Iterable[Self]) -> Self:
        """The statistics of these rows and of later ones, one part after the other.

        Raises:
            InputError: for parts with other statistics or rows of another shape.
        """
        n, merged = self.n_rows, dict(self.by_name)
        for more in later:
            require(
                more.row_shape == self.row_shape and set(more.by_name) == set(merged),
                f"parts must have {sorted(merged)} of rows {list(self.row_shape)}. Received "
                f"{sorted(more.by_name)} of {list(more.row_shape)}",
            )
            merged = {name: one.merge(more.by_name[name]) for name, one in merged.items()}
            n += more.n_rows
        return type(self)(n, self.row_shape, merged)

    @property
    def mean(self) -> Float[Tensor, "..."]:
        """Of every coordinate, in float64, as all others. Needs `moments`, or `covariance`."""
        if "moments" not in self.by_name and "covariance" in self.by_name:
            return self._one(Covariance).mean
        return self._one(Moments).mean

    @property
    def variance(self) -> Float[Tensor, "..."]:
        """The mean of (x − mean)². Needs `moments`."""
        return self._one(Moments).variance()

    @property
    def min(self) -> Float[Tensor, "..."]:
        """The smallest value. Needs `moments`."""
        return self._one(Moments).least

    @property
    def max(self) -> Float[Tensor, "..."]:
        """The largest value. Needs `moments`."""
        return self._one(Moments).greatest

    @property
    def mean_square(self) -> Float[Tensor, "..."]:
        """The mean of x². Needs `moments`."""
        return self.variance + self.mean.square()

    @property
    def covariance(self) -> Float[Tensor, "... d d"]:
        """Along the last axis: the mean of (x − mean)(x − mean)ᵀ. Needs `covariance`."""
        return self._one(Covariance).covariance()

    def quantile(self, q: float) -> Float[Tensor, "..."]:
        """Within 1/64 of its value, see `QuantileSketch.quantile`. Needs `quantiles`."""
        return self._one(QuantileSketch).quantile(q)

    def max_activating(self, k: int = KEPT) -> MaxActivating:
        """The k rows (at most 32) in which each coordinate is largest. Needs `max_activating`.

        Raises:
            InputError: for another k, or where `max_activating` was not measured.
        """
        require_whole("k", k, 1)
        require(k <= KEPT, f"k must be at most {KEPT}, which is how many are kept. Received {k}")
        found = self._one(MaxActivating)
        return MaxActivating(found.n_rows, found.values[..., :k], found.rows[..., :k])

    def to_tensors(self) -> dict[str, Shaped[Tensor, "..."]]:
        """As tensors: `<statistic>.<field>`, and `n_rows`."""
        found = {"n_rows": torch.tensor(self.n_rows)}
        for name, one in self.by_name.items():
            found |= {f"{name}.{field}": each for field, each in one.to_tensors().items()}
        return found

    @classmethod
    def from_tensors(
        cls,
        tensors: Mapping[str, Shaped[Tensor, "..."]],
        names: Sequence[str],
        row_shape: tuple[int, ...],
    ) -> Self:
        """What `to_tensors` gave.

        Args:
            tensors: As they were read from a file that is not trusted.
            names: The statistics that they must have.
            row_shape: The axes of a row.

        Raises:
            InputError: for tensors that `to_tensors` cannot have given.
        """
        check_names(names)
        count = tensors.get("n_rows")
        if count is None or count.dtype != torch.int64 or count.ndim or int(count) < 0:
            raise InputError("statistics must have a number of rows, n_rows. They have none.")
        rest = {name for name in tensors if name != "n_rows"}
        found: dict[str, Statistic] = {}
        for name in names:
            fields = {each.partition(".")[2]: tensors[each] for each in rest if _of(each) == name}
            found[name] = STATISTICS[name].from_tensors(fields, int(count), row_shape)
        foreign = sorted(each for each in rest if _of(each) not in names)
        require(not foreign, f"statistics must be {', '.join(names)}. There is also {foreign}")
        return cls(int(count), row_shape, found)

    def _one(self, kind: type[Kind]) -> Kind:
        found = self.by_name.get(kind.NAME)
        if not isinstance(found, kind):
            raise InputError(
                f"{kind.NAME} must be among the statistics that a harvest is asked for. It had "
                f"{', '.join(self.by_name) or 'none'}."
            )
        require(self.n_rows > 0, "statistics need rows. There are none")
        return found


def check_names(names: Sequence[str]) -> None:
    """Raise `InputError` unless these are names of statistics."""
    for name in names:
        if name not in STATISTICS:
            raise unknown("statistic", name, STATISTICS)


def _of(name: str) -> str:
    return name.partition(".")[0]
