"""Which rows an index means: a number, a slice, a list of numbers, a bool for every row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from interp.errors import InputError, InterpError

RowsInput = slice | Sequence[int] | Sequence[bool] | Int[Tensor, "row"] | Bool[Tensor, "row"]
"""Rows: a slice, numbers (from the end where negative), or a bool for every row; arrays of numpy
likewise."""


class RowOutOfRange(InterpError, IndexError):
    """A row number is not one of the dataset's."""


def one_row(index: Any, n_rows: int) -> int | None:
    """The row that a number means, from 0; None: the index is no number.

    Raises:
        RowOutOfRange: if there is no such row.
        InputError: for a bool.
    """
    if type(index) is not int:
        if isinstance(index, bool):
            raise _no_rows(index)
        scalar = isinstance(index, Tensor | np.ndarray) and index.ndim == 0 and _is_whole(index)
        if not scalar and not isinstance(index, int | np.integer):
            return None
        index = int(index)
    row: int = index + n_rows if index < 0 else index
    if not 0 <= row < n_rows:
        raise _out_of_range(index, n_rows)
    return row


def row_numbers(rows: Any, n_rows: int) -> Int[Tensor, "row"]:
    """The rows that anything but a single number means, from 0, in the order asked for.

    Raises:
        RowOutOfRange: for a row that there is not.
        InputError: for anything but a slice, a list of whole numbers or a bool for every row.
    """
    if isinstance(rows, slice):
        try:
            return torch.from_numpy(np.arange(*rows.indices(n_rows), dtype=np.int64))
        except (TypeError, ValueError) as fault:  # no numbers, or a step of 0
            raise _no_rows(rows) from fault
    try:
        at = torch.as_tensor(rows).cpu()
    except (TypeError, ValueError, RuntimeError) as fault:
        raise _no_rows(rows) from fault
    if at.dtype == torch.bool and at.shape == (n_rows,):
        return at.nonzero()[:, 0]
    if at.ndim == 1 and not len(at):
        return torch.empty(0, dtype=torch.long)
    if at.ndim != 1 or not _is_whole(at):
        raise _no_rows(rows)
    at = at.long()
    low, high = int(at.min()), int(at.max())
    if low < -n_rows or high >= n_rows:
        raise _out_of_range(high if high >= n_rows else low, n_rows)
    return torch.where(at < 0, at + n_rows, at) if low < 0 else at


def _is_whole(x: Any) -> bool:
    kind = torch.as_tensor(x).dtype
    return not (kind.is_floating_point or kind.is_complex or kind == torch.bool)


def _no_rows(found: object) -> InputError:
    said = f"{type(found).__name__} {list(found.shape)}" if hasattr(found, "shape") else repr(found)
    return InputError(
        "rows must be a number, a slice, a list of numbers, or a bool for every row. "
        f"Received {said:.200}."
    )


def _out_of_range(row: int, n_rows: int) -> RowOutOfRange:
    return RowOutOfRange(f"a row must lie in {-n_rows} … {n_rows - 1}. Received {row}.")
