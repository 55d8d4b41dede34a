"""The tables of all cells as one, with a column for each axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analyses.grids.plan import Cell, GridPlan, scalar

CELL = "cell"


def columns_of_axes(plan: GridPlan, taken: Sequence[str]) -> dict[str, str]:
    """The columns that say which cell a row is of: of its number and of each axis, by axis.

    A name that the table has already is begun with `grid_`.
    """
    names = [CELL, *plan.shape]
    return {name: f"grid_{name}" if name in taken else name for name in names}


def along(plan: GridPlan, name: str) -> list[Any]:
    """The values along an axis, all of one kind that a column may hold."""
    values = [scalar(v) for v in (plan.models if name == "model" else plan.axes[name])]
    return values if len({_kind(value) for value in values}) == 1 else list(map(str, values))


def axis_values(plan: GridPlan, cell: Cell) -> dict[str, Any]:
    """A cell's number and its value along each axis, as columns hold them."""
    found: dict[str, Any] = {CELL: cell.number}
    for name in plan.shape:
        if name == "model":
            found[name] = along(plan, name)[plan.models.index(str(cell.model))]
        else:
            found[name] = along(plan, name)[_at(plan.axes[name], cell.values[name])]
    return found


def merged_table(plan: GridPlan, parts: Mapping[int, pd.DataFrame]) -> pd.DataFrame:
    """One table of all cells, in order of the cells' numbers.

    Args:
        plan: The grid.
        parts: The table of each cell that has it, by the cell's number.

    Returns:
        Their rows, each with its cell. A column that some cells lack is empty there: NaN for
        numbers, else an empty text. One whose kind differs holds texts.
    """
    columns = list(dict.fromkeys(str(c) for table in parts.values() for c in table.columns))
    of_axes = columns_of_axes(plan, columns)
    kinds = {column: _common_kind(column, list(parts.values())) for column in columns}
    cells = plan.cells()
    rows = []
    for number in sorted(parts):
        table = pd.DataFrame(
            {c: _as_kind(parts[number], c, kinds[c]) for c in columns}, index=parts[number].index
        )
        for at, (name, value) in enumerate(axis_values(plan, cells[number]).items()):
            table.insert(at, of_axes[name], value)
        rows.append(table)
    filled = [table for table in rows if len(table)] or rows[:1]
    return pd.concat(filled, ignore_index=True)


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    return "number" if isinstance(value, int | float) else "text"


def _at(values: Sequence[Any], value: Any) -> int:
    """Where a value stands; 1 and True are two."""
    return next(i for i, each in enumerate(values) if type(each) is type(value) and each == value)


def _common_kind(column: str, tables: Sequence[pd.DataFrame]) -> str:
    """`text`, `bool`, `int` or `float`: what holds the column of all tables."""
    found = set()
    for table in tables:
        if column not in table:
            found.add("absent")
        elif len(table):
            kind = table[column].dtype.kind
            found.add({"b": "bool", "i": "int", "u": "int", "f": "float"}.get(kind, "text"))
    if found <= {"int"} or found <= {"bool"}:
        return found.pop() if found else "text"
    if found <= {"int", "float", "absent"}:
        return "float"
    return "text"


def _as_kind(table: pd.DataFrame, column: str, kind: str) -> pd.Series:
    if column not in table:
        return pd.Series(
            float("nan") if kind == "float" else "", index=table.index,
            dtype="float64" if kind == "float" else "str",
        )  # fmt: skip
    if kind == "text":
        given = table[column]
        return given if given.dtype.kind == "O" else given.astype(str)
    dtypes: dict[str, Any] = {"bool": bool, "int": "int64", "float": "float64"}
    return table[column].astype(dtypes[kind])
