"""What an analysis gives back: tables, the charts drawn from them, checks, and provenance."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from pydantic import BeforeValidator, ConfigDict, computed_field
from pydantic.dataclasses import dataclass as validated_dataclass

from analyses.results.provenance import Provenance
from interp.charts.spec import Chart
from interp.errors import InputError

# Names are also file names, on any file system.
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,99}")


def require_name(name: str) -> str:
    """Check that a result, table or figure may be called so; gives the name.

    Raises:
        InputError: If it cannot be a file name.
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            "names of results, tables and figures take lower-case letters, digits, '-' and '_', "
            f"100 at most, got {name!r}"
        )
    return name


@validated_dataclass(frozen=True, config=ConfigDict(ser_json_inf_nan="strings"))
class Check:
    """An identity that must hold for any model, and how far from holding it is.

    Attributes:
        name: What should hold, such as `contributions sum to the logit`.
        value: The largest deviation found.
        tolerance: The largest deviation allowed.
        note: Where the tolerance comes from, or what the reader should know.
    """

    name: str
    # A tensor or array of one element is a number too.
    value: Annotated[float, BeforeValidator(float)]
    tolerance: Annotated[float, BeforeValidator(float)]
    note: str = ""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def passed(self) -> bool:
        """Whether the value is within the tolerance. NaN is within none."""
        return self.value <= self.tolerance


@dataclass(frozen=True, repr=False)
class AnalysisResult:
    """The outcome of one analysis; saved and loaded as a directory, the same on every screen.

    Attributes:
        name: The analysis, in kebab-case.
        question: The one-line question it answers.
        tables: Tidy tables by name: a plain 0..n-1 index, columns of str, int, float or bool.
        figures: Charts by name, each drawn from one of the tables.
        checks: At least one identity, with its deviation and tolerance.
        provenance: What the result was made from.
        caveat: How the numbers can mislead; shown wherever the result is.

    Raises:
        InputError: If a name cannot be a file name, a table is not tidy, a chart does not fit its
            table, or there is no check.
    """

    name: str
    question: str
    tables: dict[str, pd.DataFrame]
    figures: dict[str, Chart]
    checks: list[Check]
    provenance: Provenance = field(repr=False)
    caveat: str = ""

    def __post_init__(self) -> None:
        for name in (self.name, *self.tables, *self.figures):
            require_name(name)
        if not self.checks:
            raise InputError(f"result {self.name!r} must report at least one check")
        for name, table in self.tables.items():
            _require_tidy(name, table)
        for name, chart in self.figures.items():
            if chart.table not in self.tables:
                raise InputError(
                    f"figure {name!r} is drawn from table {chart.table!r}, which is not in the "
                    f"result (tables: {', '.join(self.tables) or 'none'})"
                )
            chart.rows(self.tables[chart.table])

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    def save(self, directory: str | Path) -> Path:
        """Write the result to a directory; see `analyses.results.storage.save`."""
        from analyses.results.storage import save

        return save(self, directory)

    @staticmethod
    def load(directory: str | Path) -> "AnalysisResult":
        """Read a result that was saved; see `analyses.results.storage.load`."""
        from analyses.results.storage import load

        return load(directory)

    def __repr__(self) -> str:
        failed = sum(not check.passed for check in self.checks)
        checks = (
            f"{failed} of {len(self.checks)} FAILED" if failed else f"{len(self.checks)} passed"
        )
        return (
            f"AnalysisResult({self.name!r}, tables: {_sizes(self.tables)}; "
            f"figures: {', '.join(self.figures) or 'none'}; checks: {checks})"
        )

    def _repr_html_(self) -> str:
        from analyses.results.notebook import result_html

        return result_html(self)


def _sizes(tables: Mapping[str, pd.DataFrame]) -> str:
    return ", ".join(f"{name} {len(t)}x{len(t.columns)}" for name, t in tables.items()) or "none"


def _require_tidy(name: str, table: pd.DataFrame) -> None:
    columns: Sequence[Any] = list(table.columns)
    if not all(isinstance(column, str) for column in columns) or len(set(columns)) < len(columns):
        raise InputError(f"table {name!r} must have distinct text column names, got {columns}")
    if not table.index.equals(pd.RangeIndex(len(table))):
        raise InputError(f"table {name!r} must have the index 0..n-1: call reset_index()")
    for column in columns:
        kind = pd.api.types.infer_dtype(table[column], skipna=table[column].dtype != object)
        if len(table) and kind not in ("string", "integer", "floating", "boolean"):
            raise InputError(
                f"column {column!r} of table {name!r} must hold str, int, float or bool, "
                f"got {kind} ({table[column].dtype})"
            )
