"""What every statistic of a hook's rows can do: be measured, merged, written and read."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import ClassVar, Self

import torch
from jaxtyping import Float, Num, Shaped
from torch import Tensor

from interp.errors import InputError, require

BLOCK_VALUES = 1 << 17
"""Values that are worked on at once: in float64 they fit into a core's cache."""
# A single column is one number to sum, which torch splits over threads if it is longer than this.
BLOCK_ROWS = 1 << 14


class Statistic(ABC):
    """What is known of a number of rows that are not kept.

    Rows are read as they are stored, so that whoever reads them again finds the same. A statistic
    of many rows is always merged from those of shards, in the order of shards; what it says then
    does not depend on who made which shard. It keeps the shape of a row.

    Attributes:
        NAME: Under which it is asked for and written.
        n_rows: How many rows it knows of.
    """

    NAME: ClassVar[str]
    n_rows: int

    @classmethod
    @abstractmethod
    def measure(cls, rows: Shaped[Tensor, "row ..."]) -> Self:
        """The statistic of these rows; whole numbers are read as float64.

        Raises:
            InputError: for rows that are not finite, or that it is not made for.
        """

    @abstractmethod
    def merge(self, later: Self) -> Self:
        """The statistic of these rows followed by later ones."""

    @abstractmethod
    def to_tensors(self) -> dict[str, Num[Tensor, "..."]]:
        """As tensors by field name, besides `n_rows`."""

    @classmethod
    @abstractmethod
    def from_tensors(
        cls, tensors: Mapping[str, Shaped[Tensor, "..."]], n_rows: int, row_shape: tuple[int, ...]
    ) -> Self:
        """What `to_tensors` gave, of as many rows of this shape.

        Raises:
            InputError: for tensors that it cannot have given.
        """


def blocks(
    rows: Shaped[Tensor, "row ..."], values: int = BLOCK_VALUES
) -> Iterator[Shaped[Tensor, "block coordinate"]]:
    """Rows `[row, coordinate]`, some at a time."""
    width = math.prod(rows.shape[1:])
    at_once = max(1, min(values // width, BLOCK_ROWS))
    flat = rows.reshape(len(rows), width)
    return iter(flat.split(at_once)) if len(rows) else iter(())


def finite(tensor: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The tensor, if it came of finite rows.

    Raises:
        InputError: if not.
    """
    require(
        bool(tensor.isfinite().all()),
        "rows must be finite, and their squares. Received infinity or NaN",
    )
    return tensor


def field(
    tensors: Mapping[str, Shaped[Tensor, "..."]],
    name: str,
    dtype: torch.dtype,
    shape: tuple[int | None, ...],
) -> Shaped[Tensor, "..."]:
    """A tensor that was read from a file.

    Args:
        tensors: By field name.
        name: Its field.
        dtype: What it must have.
        shape: What it must have; None: any length.

    Raises:
        InputError: if it is missing or of another dtype or shape.
    """
    found = tensors.get(name)
    if found is None:
        raise InputError(f"a statistic must have {name!r}. It has {sorted(tensors)}.")
    fits = (
        found.dtype == dtype
        and found.ndim == len(shape)
        and all(want in (None, have) for want, have in zip(shape, found.shape, strict=True))
    )
    wanted = ", ".join("any" if size is None else str(size) for size in shape)
    require(fits, f"{name} must be {dtype} [{wanted}]. Received {found.dtype} {list(found.shape)}")
    return found
