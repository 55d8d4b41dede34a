"""From a chart and its table to what a drawing library needs: panels, axes, grids, limits."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from interp.charts.palette import LIGHT, Theme
from interp.charts.spec import Chart
from interp.charts.tokens import place_label, printable, shortened, visible
from interp.errors import InputError

_SUBSCRIPTS = str.maketrans("0123456789-", "₀₁₂₃₄₅₆₇₈₉₋")
LABEL_LIMIT = 18  # characters of a tick label; longer ones end in an ellipsis
TEXT_LIMIT = 10  # characters written in a cell
NAME_LIMIT = 60  # of a group or a facet
TITLE_LIMIT = 300


@dataclass(frozen=True)
class Axis:
    """The places along one axis, in order, and the text each is labelled with."""

    keys: list[Hashable]
    labels: list[str]


@dataclass(frozen=True)
class Panel:
    """One of a chart's small multiples; a chart without a facet has a single one.

    Attributes:
        title: Names the facet; empty without one.
        rows: The rows of the table drawn in this panel.
        key: The facet, as the table has it; None without one.
    """

    title: str
    rows: pd.DataFrame
    key: Hashable = None


@dataclass(frozen=True)
class Grid:
    """A heatmap's panel with its cells laid out.

    Attributes:
        title: Names the facet; empty without one.
        x: The columns, left to right.
        y: The rows, top to bottom.
        values: Floats `[y, x]`; NaN where the table has no row or no finite number, to be left
            blank.
        texts: What is written in the cells, `[y, x]`, empty in blank ones; None: nothing.
        key: The facet, as the table has it; None without one.
    """

    title: str
    x: Axis
    y: Axis
    values: npt.NDArray[np.float64]
    texts: npt.NDArray[np.object_] | None = None
    key: Hashable = None


def panels(chart: Chart, table: pd.DataFrame) -> list[Panel]:
    """Split the rows that a chart draws by its facet. Raises as `Chart.rows` does.

    Numbers that are missing or infinite become NaN, which is drawn as a gap.
    """
    rows = chart.rows(table)
    for column in (chart.measure, *([chart.x] if chart.kind == "points" else [])):
        numbers = rows[column].to_numpy(dtype=float, na_value=np.nan)
        rows = rows.assign(**{column: np.where(np.isfinite(numbers), numbers, np.nan)})
    if chart.facet is None:
        return [Panel("", rows)]
    facet = chart.facet
    keys = ordered(rows[facet])
    names = names_of(keys)
    return [
        Panel(
            names[key] if isinstance(key, str) else f"{facet} {key}", rows[rows[facet] == key], key
        )
        for key in keys
    ]


def grids(chart: Chart, table: pd.DataFrame) -> list[Grid]:
    """Lay out the cells of a heatmap or attention chart. Raises as `Chart.rows` does."""
    assert chart.y is not None and chart.value is not None  # checked when the chart was made
    found = []
    for panel in panels(chart, table):
        x = places_of(chart, panel.rows)
        y = axis(panel.rows, chart.y, chart.y_text)
        values = np.full((len(y.keys), len(x.keys)), np.nan)
        row = {key: i for i, key in enumerate(y.keys)}
        column = {key: i for i, key in enumerate(x.keys)}
        at = panel.rows[chart.y].map(row), panel.rows[chart.x].map(column)
        values[at] = panel.rows[chart.value]
        texts = None
        if chart.text is not None:
            texts = np.full(values.shape, "", dtype=object)
            texts[at] = [
                shortened(visible(str(text)), TEXT_LIMIT) for text in panel.rows[chart.text]
            ]
            texts[np.isnan(values)] = ""
        found.append(Grid(panel.title, x, y, values, texts, panel.key))
    return found


def limits(chart: Chart, values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """The ends of the colour scale for these values, the same for all panels of a chart."""
    if chart.is_probability:
        return 0.0, 1.0
    if chart.limits is not None:
        return chart.limits
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return (-1.0, 1.0) if chart.signed else (0.0, 1.0)
    if chart.signed:
        reach = float(np.abs(finite).max()) or 1.0
        return -reach, reach
    low, high = float(finite.min()), float(finite.max())
    return (low, high) if low < high else (low, low + 1.0)


def axis(rows: pd.DataFrame, key: str, text: str | None) -> Axis:
    """The distinct values of column `key` in order, labelled by column `text` or by themselves.

    Raises:
        InputError: If one key carries several texts.
    """
    keys = ordered(rows[key])
    if text is None:
        return Axis(keys, [shortened(printable(str(k)), LABEL_LIMIT) for k in keys])
    pairs = rows[[key, text]].drop_duplicates()
    if pairs[key].duplicated().any():
        bad = pairs[key][pairs[key].duplicated()].iloc[0]
        raise InputError(f"{key}={bad!r} carries several texts in column {text!r}")
    texts = dict(zip(pairs[key], pairs[text], strict=True))
    labels = [shortened(place_label(str(texts[k])), LABEL_LIMIT) for k in keys]
    times = Counter(labels)
    return Axis(
        keys,
        [_with_place(t, k) if times[t] > 1 else t for k, t in zip(keys, labels, strict=True)],
    )


def _with_place(label: str, key: Hashable) -> str:
    """A text that other places carry too, told apart by its own: `the₃`."""
    return label + str(key).translate(_SUBSCRIPTS) if isinstance(key, int) else f"{label} ({key})"


def names_of(
    keys: Iterable[Hashable],
    limit: int = NAME_LIMIT,
    written: Callable[[str], str] = printable,
) -> dict[Hashable, str]:
    """A name for each key: cut, but not so much that two look the same, or else numbered."""
    texts = {key: written(str(key)) for key in keys}
    distinct = len(set(texts.values()))
    for most in (limit, 2 * limit, 4 * limit):
        names = {key: shortened(text, most) for key, text in texts.items()}
        if len(set(names.values())) == distinct:
            return names
    return {
        key: _with_place(shortened(text, limit), i) for i, (key, text) in enumerate(texts.items())
    }


def places_of(chart: Chart, rows: pd.DataFrame) -> Axis:
    """The x axis of a chart over these rows."""
    return axis(rows, chart.x, chart.x_text)


def lanes(chart: Chart, rows: pd.DataFrame) -> int:
    """How many bars stand side by side at one place: one, if colours never meet there."""
    if chart.color is None:
        return 1
    place = [chart.x] if chart.facet is None else [chart.x, chart.facet]
    return int(rows.groupby(place)[chart.color].nunique().max())


def colors_of(chart: Chart, rows: pd.DataFrame, theme: Theme = LIGHT) -> dict[Hashable, str]:
    """The colour of each group; without groups, that of all rows under the name None."""
    groups = [None] if chart.color is None else ordered(rows[chart.color])
    return dict(zip(groups, theme.group_colors(len(groups)), strict=True))


def reach_of(chart: Chart, rows: pd.DataFrame) -> float:
    """How far a chart of vectors goes along both axes, from minus to plus."""
    if chart.limits is not None:
        return chart.limits[1]
    numbers = rows[[chart.x, chart.measure]].abs().to_numpy(dtype=float)
    return 1.1 * (float(np.nanmax(numbers, initial=0.0)) or 1.0)


def ordered(column: "pd.Series[Any]") -> list[Hashable]:
    """The distinct values of a column: numbers by size, texts in the order they appear."""
    distinct = column.drop_duplicates()
    if pd.api.types.is_numeric_dtype(distinct):
        distinct = distinct.sort_values()
    keys: list[Hashable] = distinct.tolist()
    return keys


def ticks(n: int, most: int) -> list[int]:
    """Evenly spaced places among `n`, at most `most` of them, in steps of 1, 2, 5, 10, 20, ..."""
    step = 1
    while -(-n // step) > max(most, 1):
        step = step * 5 // 2 if str(step)[0] == "2" else step * 2
    return list(range(0, n, step))
