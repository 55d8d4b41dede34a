"""A chart as data: which columns of a table are drawn, how, and what they mean."""

from typing import Literal, Self

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from interp.errors import InputError

Kind = Literal["heatmap", "bars", "line", "attention"]
Scalar = str | int | float | bool

# For each kind: the columns it must name, and those it may name besides.
_REQUIRED: dict[Kind, tuple[str, ...]] = {
    "heatmap": ("x", "y", "value"),
    "attention": ("x", "y", "value"),
    "bars": ("x", "value"),
    "line": ("x", "y"),
}
_OPTIONAL: dict[Kind, tuple[str, ...]] = {
    "heatmap": ("facet", "x_text", "y_text"),
    "attention": ("facet", "x_text", "y_text"),
    "bars": ("facet", "color", "x_text"),
    "line": ("facet", "color", "x_text"),
}
_ROLES = ("x", "y", "value", "color", "facet", "x_text", "y_text")


class Chart(BaseModel):
    """A figure made from one table alone.

    A chart holds no numbers: a report, a notebook and a page draw the same chart from the same
    table, each with its own library. It is immutable and survives a round trip through JSON.

    Attributes:
        kind: `heatmap` and `attention` colour the cell (x, y) by `value`; `bars` gives each x a
            bar of length `value`; `line` joins the points (x, y).
        table: The name of the table, in the same result, that the chart is drawn from.
        title: What the figure shows, in a few words.
        alt: The text alternative: what a reader who cannot see the figure should learn from it.
        x, y, value: Column names. In an attention chart x is the source (key) position and y the
            destination (query) position, the first token at the top.
        color: The column that tells groups of bars, or lines, apart.
        facet: The column whose every value gets a panel of its own; panels share their scale.
        x_text, y_text: Columns with the text of each x or y, mostly tokens. Cells are placed by
            x and y and merely labelled by these, for several positions may carry one token.
        x_label, y_label, value_label: Axis labels, with the unit; the column name by default.
        signed: Colours diverge from zero and their limits are symmetric about it.
        probability: The scale is fixed to 0..1. Always so for an attention chart that is not
            signed.
        where: Only rows whose columns equal these values are drawn.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    table: str = Field(min_length=1)
    title: str = Field(min_length=1)
    alt: str
    x: str
    y: str | None = None
    value: str | None = None
    color: str | None = None
    facet: str | None = None
    x_text: str | None = None
    y_text: str | None = None
    x_label: str | None = None
    y_label: str | None = None
    value_label: str | None = None
    signed: bool = False
    probability: bool = False
    where: dict[str, Scalar] = Field(default_factory=dict)

    @field_validator("alt")
    @classmethod
    def _alt_says_something(cls, alt: str) -> str:
        if not alt.strip():
            raise ValueError("a chart needs a text alternative, got a blank 'alt'")
        return alt

    @model_validator(mode="after")
    def _columns_fit_kind(self) -> Self:
        required = _REQUIRED[self.kind]
        for role in required:
            if getattr(self, role) is None:
                raise ValueError(f"a {self.kind} chart needs the column {role!r}")
        for role in _ROLES:
            if role not in required + _OPTIONAL[self.kind] and getattr(self, role) is not None:
                raise ValueError(f"a {self.kind} chart has no use for the column {role!r}")
        if self.signed and self.probability:
            raise ValueError("a chart is either signed or a probability, not both")
        return self

    @property
    def columns(self) -> dict[str, str]:
        """The columns the chart reads, by role (`x`, `value`, ...), without those of `where`."""
        named = {role: getattr(self, role) for role in _ROLES}
        return {role: column for role, column in named.items() if column is not None}

    @property
    def is_probability(self) -> bool:
        """Whether the scale is fixed to 0..1."""
        return self.probability or (self.kind == "attention" and not self.signed)

    @property
    def measure(self) -> str:
        """The column that holds the drawn numbers: `y` of a line, `value` of the rest."""
        column = self.y if self.kind == "line" else self.value
        assert column is not None  # checked when the chart was made
        return column

    def label(self, role: Literal["x", "y", "value"]) -> str:
        """The label of an axis or of the colour scale; the column name where none was given."""
        given: str | None = getattr(self, f"{role}_label")
        return self.columns[role] if given is None else given

    def rows(self, table: pd.DataFrame) -> pd.DataFrame:
        """The rows of `table` that the chart draws.

        Raises:
            InputError: If a column is missing, no row passes `where`, the numbers are not
                numbers, a probability lies outside 0..1, a row has no place, or two share one.
        """
        for role, column in [*self.columns.items(), *(("where", name) for name in self.where)]:
            if column not in table.columns:
                raise self._error(
                    f"column {column!r} ({role}) is missing; it has {', '.join(table.columns)}"
                )
        if not pd.api.types.is_numeric_dtype(table[self.measure]):
            raise self._error(f"column {self.measure!r} must hold numbers")
        rows = table
        for column, wanted in self.where.items():
            rows = rows[rows[column] == wanted]
        if rows.empty:
            raise self._error(f"no row has {self.where}" if self.where else "it has no rows")
        self._check_marks(rows)
        self._check_range(rows)
        return rows

    def _check_marks(self, rows: pd.DataFrame) -> None:
        place = [
            column
            for role, column in self.columns.items()
            if role in ("x", "facet", "color") or (role == "y" and self.kind != "line")
        ]
        for column in place:
            if rows[column].isna().any():
                raise self._error(f"column {column!r} has missing values")
        repeated = rows[rows.duplicated(place)]
        if not repeated.empty:
            where = ", ".join(f"{column}={repeated.iloc[0][column]!r}" for column in place)
            raise self._error(f"several rows fall on one mark, {where}; aggregate them or filter")

    def _check_range(self, rows: pd.DataFrame) -> None:
        if not self.is_probability:
            return
        values = rows[self.measure]
        outside = values[(values < -1e-6) | (values > 1 + 1e-6)]
        if not outside.empty:
            raise self._error(
                f"probabilities in {self.measure!r} must lie in 0..1, got {outside.iloc[0]}"
            )

    def _error(self, message: str) -> InputError:
        return InputError(f"chart {self.title!r} of table {self.table!r}: {message}")
