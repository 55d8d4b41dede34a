"""The assignment problem: pairs of rows and columns with the largest sum."""

from __future__ import annotations

import numpy as np

from interp.errors import require


def best_assignment(gain: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pair as many rows and columns as there can be such that the sum of their gains is largest.

    Shortest augmenting paths with dual prices (Jonker & Volgenant 1987, without their
    initialisation): one Dijkstra search for each row, O(n² m) for n rows and m ≥ n columns.

    Args:
        gain: `[row, column]`, finite.

    Returns:
        The paired rows, ascending, and their columns.

    Raises:
        InputError: unless it is a matrix of finite numbers.
    """
    require(
        gain.ndim == 2 and bool(np.isfinite(gain).all()),
        f"gains must be a matrix of finite numbers. Received shape {gain.shape}",
    )
    if gain.shape[0] > gain.shape[1]:
        columns, rows = best_assignment(gain.T)
        order = np.argsort(rows)
        return rows[order], columns[order]
    cost = -gain.astype(np.float64)
    n_rows, n_columns = cost.shape
    row_price, column_price = np.zeros(n_rows), np.zeros(n_columns)
    row_of = np.full(n_columns, -1)
    for row in range(n_rows):
        _augment(cost, row, row_price, column_price, row_of)
    columns = np.flatnonzero(row_of >= 0)
    order = np.argsort(row_of[columns])
    return row_of[columns][order], columns[order]


def _augment(
    cost: np.ndarray,
    start: int,
    row_price: np.ndarray,
    column_price: np.ndarray,
    row_of: np.ndarray,
) -> None:
    """Find the row a column, moving earlier rows along the cheapest path to a free column."""
    n_columns = cost.shape[1]
    length = np.full(n_columns, np.inf)  # of the shortest path to each column, in reduced costs
    came_from = np.full(n_columns, -1)  # the column before it; −1: the row `start` itself
    is_done = np.zeros(n_columns, dtype=bool)
    row, before, reached = start, -1, 0.0
    while True:
        through = reached + cost[row] - row_price[row] - column_price
        shorter = ~is_done & (through < length)
        length[shorter] = through[shorter]
        came_from[shorter] = before
        column = int(np.argmin(np.where(is_done, np.inf, length)))
        reached = float(length[column])
        is_done[column] = True
        if row_of[column] < 0:
            break
        row, before = int(row_of[column]), column
    # New prices keep all reduced costs at least 0, and at 0 along the path.
    settled = is_done & (row_of >= 0)
    row_price[start] += reached
    row_price[row_of[settled]] += reached - length[settled]
    column_price[is_done] -= reached - length[is_done]
    while column >= 0:
        previous = int(came_from[column])
        row_of[column] = start if previous < 0 else row_of[previous]
        column = previous
