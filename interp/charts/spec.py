"""A chart as data: which columns of a table are drawn, how, and what they mean."""

import math
from typing import Any, Literal, Self

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from interp.errors import InputError

Kind = Literal["heatmap", "bars", "line", "points", "attention", "graph"]
Scalar = str | int | float | bool

_LINEAR: tuple[Kind, ...] = ("line", "points")  # whose y is the drawn number

# For each kind: the columns it must name, and those it may name besides.
_REQUIRED: dict[Kind, tuple[str, ...]] = {
    "heatmap": ("x", "y", "value"),
    "attention": ("x", "y", "value"),
    "bars": ("x", "value"),
    "line": ("x", "y"),
    "points": ("x", "y"),
    "graph": ("x", "y", "value", "x_level", "y_level"),
}
_OPTIONAL: dict[Kind, tuple[str, ...]] = {
    "heatmap": ("facet", "x_text", "y_text", "text"),
    "attention": ("facet", "x_text", "y_text", "text"),
    "bars": ("facet", "color", "x_text", "error"),
    "line": ("facet", "color", "x_text", "error"),
    "points": ("facet", "color"),
    "graph": ("color",),
}
_ROLES = (
    "x", "y", "value", "color", "facet", "x_text", "y_text", "text", "x_level", "y_level", "error",
)  # fmt: skip


class Chart(BaseModel):
    """A figure made from one table alone.

    A chart holds no numbers: a report, a notebook and a page draw the same chart from the same
    table, each with its own library. It is immutable and survives a round trip through JSON.

    What does not exist is absent, not zero: a cell whose row the table lacks, or whose number is
    NaN, is left blank, in the colour of no number. So the table of a causal model's attention has
    no row where a destination cannot see a source; a row with 0 says that it could, and did not.

    Attributes:
        kind: `heatmap` and `attention` colour the cell (x, y) by `value`; `bars` gives each x a
            bar of length `value`; `line` joins the points (x, y); `points` puts a dot at each, x
            being a number too; `graph` draws an arrow from node x to node y for each row, as wide
            as `value` is large.
        table: The name of the table, in the same result, that the chart is drawn from.
        title: What the figure shows, in a few words.
        alt: The text alternative: what a reader who cannot see the figure should learn from it.
        x, y, value: Column names. In an attention chart x is the source (key) position and y the
            destination (query) position, the first token at the top. In a graph x is an edge's
            source and y its target, each a node's name.
        color: The column that tells groups of bars, lines or edges apart. Edges that have groups
            show their sign by the line: dashed below zero.
        facet: The column whose every value gets a panel of its own; panels share their scale.
        x_text, y_text: Columns with the text of each x or y, mostly tokens. Cells are placed by
            x and y and merely labelled by these, for several positions may carry one token.
        text: Column with what is written in each cell of a heatmap, shortened: the token that is
            likeliest there, for example. Cells without a number carry none.
        x_level, y_level: Columns with how far up a graph's source and target stand: numbers, the
            same wherever a node appears, an edge's target above its source. Layers, for example,
            with the attention of each half a step below its MLP.
        error: Column with the half-width of each bar's or point's error bar, in the unit of the
            values and at least 0; none is drawn where it is missing. The title or the label says
            what it is (a standard error, an interval).
        x_label, y_label, value_label: Axis labels, with the unit; the column name by default.
        signed: Colours diverge from zero and their limits are symmetric about it.
        probability: The scale is fixed to 0..1. Always so for an attention chart that is not
            signed.
        log_x, log_y: The axis of a line or of points is logarithmic; its numbers must be above
            zero.
        vectors: Points are joined to the origin, one unit has the same length along x and y, and
            the limits are symmetric about zero.
        limits: The ends of the scale of the drawn numbers, for charts that are seen beside or
            after one another; as these numbers need by default. Signed ones and vectors take
            them symmetric about zero. A graph has none.
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
    text: str | None = None
    x_level: str | None = None
    y_level: str | None = None
    error: str | None = None
    x_label: str | None = None
    y_label: str | None = None
    value_label: str | None = None
    signed: bool = False
    probability: bool = False
    log_x: bool = False
    log_y: bool = False
    vectors: bool = False
    limits: tuple[float, float] | None = None
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
        if (self.log_x or self.log_y) and self.kind not in _LINEAR:
            raise ValueError(
                f"only charts of lines or points have logarithmic axes, not a {self.kind} chart"
            )
        if self.vectors and (self.kind != "points" or self.log_x or self.log_y or self.probability):
            raise ValueError("vectors are points on plain axes, of any number")
        self._limits_fit()
        if self.log_x and self.x_text is not None:
            raise ValueError("a logarithmic x axis has numbers, not the texts of 'x_text'")
        if self.log_y and (self.signed or self.probability):
            raise ValueError("a logarithmic y axis is neither signed nor a probability")
        return self

    def _limits_fit(self) -> None:
        if self.limits is None:
            return
        low, high = self.limits
        if self.kind == "graph" or self.is_probability:
            raise ValueError("a graph and a probability take no limits")
        if not low < high or not all(map(math.isfinite, (low, high))):
            raise ValueError(f"limits must rise, got {low:g} … {high:g}")
        if (self.signed or self.vectors) and low != -high:
            raise ValueError(f"limits must be symmetric about zero, got {low:g} … {high:g}")
        if self.log_y and low <= 0:
            raise ValueError(f"limits of a logarithmic axis lie above zero, got {low:g}")

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
        """The column that holds the drawn numbers: `y` of lines and points, else `value`."""
        column = self.y if self.kind in _LINEAR else self.value
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
                numbers, one lies outside `limits` or a probability outside 0..1, a row has no
                place, or two share one; if
                an error is negative, a logarithmic axis has a number that is not above zero, a
                graph's node has several levels, or an edge does not lead up.
        """
        for role, column in [*self.columns.items(), *(("where", name) for name in self.where)]:
            if column not in table.columns:
                raise self._error(
                    f"column {column!r} ({role}) is missing; it has {', '.join(table.columns)}"
                )
        numeric = [self.measure, self.error, self.x_level, self.y_level]
        numeric += [self.x] if self.log_x or self.kind == "points" else []
        for column in filter(None, numeric):
            if not pd.api.types.is_numeric_dtype(table[column]):
                raise self._error(f"column {column!r} must hold numbers")
        rows = table
        for column, wanted in self.where.items():
            rows = rows[rows[column] == wanted]
        if rows.empty:
            raise self._error(f"no row has {self.where}" if self.where else "it has no rows")
        self._check_marks(rows)
        self._check_range(rows)
        if self.kind == "graph":
            self._check_levels(rows)
        return rows

    def _check_marks(self, rows: pd.DataFrame) -> None:
        place = [
            column
            for role, column in self.columns.items()
            if role in ("x", "facet", "color") or (role == "y" and self.kind not in _LINEAR)
        ]
        for column in [*place, *filter(None, (self.x_level, self.y_level))]:
            if rows[column].isna().any():
                raise self._error(f"column {column!r} has missing values")
        repeated = rows[rows.duplicated(place)]
        if not repeated.empty and self.kind != "points":
            where = ", ".join(f"{column}={repeated.iloc[0][column]!r}" for column in place)
            raise self._error(f"several rows fall on one mark, {where}; aggregate them or filter")

    def _check_levels(self, rows: pd.DataFrame) -> None:
        assert self.y is not None and self.x_level is not None and self.y_level is not None
        levels: dict[Any, Any] = {}
        for node, level in ((self.x, self.x_level), (self.y, self.y_level)):
            for name, at in zip(rows[node], rows[level], strict=True):
                if levels.setdefault(name, at) != at:
                    raise self._error(f"node {name!r} has several levels, {levels[name]} and {at}")
        flat = rows[rows[self.x_level] >= rows[self.y_level]]
        if not flat.empty:
            first = flat.iloc[0]
            raise self._error(
                f"an edge must lead to a higher level, got {first[self.x]!r} at "
                f"{first[self.x_level]} → {first[self.y]!r} at {first[self.y_level]}"
            )

    def _check_range(self, rows: pd.DataFrame) -> None:
        if self.error is not None and (rows[self.error] < 0).any():
            raise self._error(f"errors in {self.error!r} must be at least 0")
        logarithmic = [(self.log_x, self.x), (self.log_y, self.measure)]
        for column in [column for is_log, column in logarithmic if is_log]:
            low = rows[rows[column] <= 0]
            if not low.empty:
                raise self._error(
                    f"a logarithmic axis needs numbers above 0 in {column!r}, "
                    f"got {low.iloc[0][column]}"
                )
        values = rows[self.measure]
        if self.limits is not None:
            least, most = self.limits
            seen = pd.concat([rows[self.x], values]) if self.vectors else values
            slack = 1e-6 * (most - least)
            beyond = seen[(seen < least - slack) | (seen > most + slack)]
            if not beyond.empty:
                raise self._error(
                    f"numbers must lie within its limits, {least:g} … {most:g}, "
                    f"got {beyond.iloc[0]}"
                )
        if not self.is_probability:
            return
        outside = values[(values < -1e-6) | (values > 1 + 1e-6)]
        if not outside.empty:
            raise self._error(
                f"probabilities in {self.measure!r} must lie in 0..1, got {outside.iloc[0]}"
            )

    def _error(self, message: str) -> InputError:
        return InputError(f"chart {self.title!r} of table {self.table!r}: {message}")
