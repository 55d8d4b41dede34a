"""Two results of one analysis beside each other: A, the first, and B, the second.

Differences are B less A everywhere.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from analyses.results.result import AnalysisResult
from interp.charts.panels import ordered
from interp.charts.spec import Chart
from interp.errors import InputError, require, unknown

RUN = "run"
DIFFERENCE = "difference"
_SKIPPED = ("parameters", "versions", "tokens", "str_tokens", "interventions_json")


def parameters_that_differ(a: AnalysisResult, b: AnalysisResult) -> pd.DataFrame:
    """Parameters with other values in B than in A: `parameter`, `A`, `B`, as JSON."""
    return _differing("parameter", a.provenance.parameters, b.provenance.parameters)


def provenance_that_differs(a: AnalysisResult, b: AnalysisResult) -> pd.DataFrame:
    """What else the two were made from, where it differs: `of`, `A`, `B`, as JSON."""
    records = [_record(each) for each in (a, b)]
    if records[0]["interventions"] != records[1]["interventions"]:
        # Where their lines differ, these say it; where not, vectors without a name might.
        for record in records:
            del record["interventions in full"]
    return _differing("of", *records)


def checks_beside(a: AnalysisResult, b: AnalysisResult) -> pd.DataFrame:
    """Checks by name: `check`, and the `outcome`, `value` and `tolerance` of either run.

    Of checks that share a name the first stands beside the first, and so on.
    """
    both = [_checks(each, label) for each, label in ((a, "A"), (b, "B"))]
    rows = both[0].merge(both[1], on=["check", "number"], how="outer", sort=False)
    of_each = [f"{what} ({label})" for what in ("outcome", "value", "tolerance") for label in "AB"]
    rows[of_each[:2]] = rows[of_each[:2]].fillna("absent")
    return rows[["check", *of_each]]


@dataclass(frozen=True)
class Joined:
    """Two tables as one.

    Attributes:
        rows: Columns that name a row; those that are the same in both; and of each that is not, the
            two values and, of numbers, `… (B − A)`.
        keys: The columns that name a row.
        only_a, only_b: How many rows the other table lacks.
    """

    rows: pd.DataFrame
    keys: tuple[str, ...]
    only_a: int
    only_b: int


def join(a: pd.DataFrame, b: pd.DataFrame, preferred: Sequence[str] = ()) -> Joined:
    """Put rows of the same name beside each other.

    A row's name is the values of the fewest columns, of the preferred ones and then from the left,
    that tell the rows of each table apart; measured numbers (floats) come last, and only if both
    tables have the same of them.

    Args:
        a, b: Tables of the same columns, or nearly.
        preferred: Columns that a figure places rows by.

    Raises:
        InputError: If no columns tell the rows apart.
    """
    keys = _keys(a, b, preferred)
    common = [c for c in a.columns if c in b.columns and c not in keys]
    left, right = a[[*keys, *common]], b[[*keys, *common]]
    if keys:
        both = left.merge(right, on=keys, how="left", suffixes=(" (A)", " (B)"), indicator=True)
        lacking = right.merge(left[keys], on=keys, how="left", indicator=True)
        lacking = lacking[lacking["_merge"] == "left_only"].drop(columns="_merge")
        only_a, only_b = int((both["_merge"] == "left_only").sum()), len(lacking)
        lacking = lacking.rename(columns={c: f"{c} (B)" for c in common})
        both = pd.concat([both.drop(columns="_merge"), lacking], ignore_index=True)
    else:
        both = pd.concat([left.add_suffix(" (A)"), right.add_suffix(" (B)")], axis=1)
        only_a = only_b = 0
    same, measured = {}, {}
    for column in common:
        values_a, values_b = both[f"{column} (A)"], both[f"{column} (B)"]
        is_float = pd.api.types.is_float_dtype(a[column])
        if not is_float and _equal(values_a, values_b):
            same[column] = values_a
            continue
        measured[f"{column} (A)"], measured[f"{column} (B)"] = values_a, values_b
        if _is_number(a[column]) and _is_number(b[column]):
            measured[f"{column} (B − A)"] = _less(values_b, values_a)
    rows = pd.DataFrame({**{key: both[key] for key in keys}, **same, **measured})
    return Joined(rows, tuple(keys), only_a, only_b)


def keys_of_figures(figures: dict[str, Chart], table: str) -> list[str]:
    """The columns by which figures of a table place its rows."""
    found = [
        column for chart in figures.values() if chart.table == table for column in _place(chart)
    ]
    return list(dict.fromkeys(found))


def on_one_scale(a: AnalysisResult, b: AnalysisResult, figure: str) -> tuple[Chart, pd.DataFrame]:
    """A figure of both results as one, so that they share axes and scale.

    Lines and bars that have no groups become groups of one panel; all else stands in panels side by
    side.

    Raises:
        InputError: If the figures are drawn from different columns, for a graph, which has no
            panels, and for a figure that one of them lacks.
    """
    chart, other = _pair(a, b, figure)
    require(chart.kind != "graph", "a graph has no panels: draw each by itself. Received a graph")
    rows_a, rows_b = chart.rows(a.tables[chart.table]), other.rows(b.tables[other.table])
    rows = pd.concat([rows_a.assign(**{RUN: "A"}), rows_b.assign(**{RUN: "B"})], ignore_index=True)
    update: dict[str, Any] = {"table": "both", "where": {}, "limits": None}
    update |= _texts(chart, rows)
    update["title"] = _both(chart.title, other.title, "A and B")
    update["alt"] = f"A and B on one scale. {_both(chart.alt, other.alt)}"
    if chart.kind in ("line", "bars") and chart.color is None:
        update["color"] = RUN
    elif chart.facet is None:
        update["facet"] = RUN
    else:
        rows["panel"] = rows[chart.facet].map(str) + ", " + rows[RUN]
        # A's panel and B's next to each other.
        of_panel = ordered(rows[chart.facet])
        rows = pd.concat([rows[rows[chart.facet] == each] for each in of_panel], ignore_index=True)
        update["facet"] = "panel"
    return _changed(chart, update), rows


def difference(a: AnalysisResult, b: AnalysisResult, figure: str) -> tuple[Chart, pd.DataFrame]:
    """The same figure of B less A, where both have the mark.

    Raises:
        InputError: If the figures are drawn from different columns; for points and graphs, whose
            marks have no partners; if no mark is in both; and for a figure that one of them lacks.
    """
    chart, other = _pair(a, b, figure)
    require(
        chart.kind not in ("points", "graph"),
        f"marks must have partners to be subtracted. Received a chart of kind {chart.kind!r}",
    )
    place, measure = _place(chart), chart.measure
    rows_a, rows_b = chart.rows(a.tables[chart.table]), other.rows(b.tables[other.table])
    texts = _texts(chart, pd.concat([rows_a, rows_b]))
    kept = [*place, *(c for c in (chart.x_text, chart.y_text) if c is not None and c not in place)]
    left = rows_a[[*kept, measure]].rename(columns={measure: "A"})
    right = rows_b[[*place, measure]].rename(columns={measure: "B"})
    try:
        rows = left.merge(right, on=place, how="inner")
    except ValueError as fault:  # numbers in one, texts in the other
        raise InputError(f"the runs name their marks differently: {fault}.") from fault
    require(len(rows) > 0, f"the runs must share marks to be subtracted. {chart.title}: none")
    rows[DIFFERENCE] = _less(rows["B"], rows["A"])
    update: dict[str, Any] = {
        "table": DIFFERENCE, "where": {}, "title": _both(chart.title, other.title, "B − A"),
        "alt": f"B less A, of {len(rows)} marks that both have. {_both(chart.alt, other.alt)}",
        "signed": True, "probability": False, "log_y": False, "limits": None,
        **{role: None for role, column in chart.columns.items() if column not in rows}, **texts,
    }  # fmt: skip
    role: Literal["y", "value"] = "y" if chart.kind == "line" else "value"
    update |= {role: DIFFERENCE, f"{role}_label": f"{chart.label(role)}, B − A"}
    return _changed(chart, update), rows


def _pair(a: AnalysisResult, b: AnalysisResult, figure: str) -> tuple[Chart, Chart]:
    for result in (a, b):
        if figure not in result.figures:
            raise unknown(f"figure of both {a.name} and {b.name}", figure, result.figures)
    chart, other = a.figures[figure], b.figures[figure]
    drawn = [(each.kind, each.table, each.columns) for each in (chart, other)]
    require(drawn[0] == drawn[1], f"the figures must be drawn alike. {figure}: {drawn}")
    return chart, other


def _both(a: str, b: str, what: str = "") -> str:
    if a != b:
        return f"A: {a} B: {b}" if not what else f"{what}. A: {a}; B: {b}"
    return f"{a}: {what}" if what else a


def _changed(chart: Chart, update: dict[str, Any]) -> Chart:
    return Chart.model_validate({**chart.model_dump(), **update})


def _place(chart: Chart) -> list[str]:
    """The columns that a mark's place is told by."""
    columns = [chart.facet, chart.color, chart.y if chart.kind not in ("line", "points") else None]
    if chart.kind == "points":
        return [column for column in (chart.facet, chart.color) if column is not None]
    return list(dict.fromkeys(c for c in (*columns, chart.x) if c is not None))


def _texts(chart: Chart, rows: pd.DataFrame) -> dict[str, None]:
    """Takes labels away that the two runs do not share: numbers stand there instead."""
    taken: dict[str, None] = {}
    for key, text in ((chart.x, chart.x_text), (chart.y, chart.y_text)):
        if text is not None and (rows.groupby(key)[text].nunique() > 1).any():
            taken["x_text" if text == chart.x_text else "y_text"] = None
            if chart.x_text == chart.y_text:
                taken = {"x_text": None, "y_text": None}
    return taken


def _keys(a: pd.DataFrame, b: pd.DataFrame, preferred: Sequence[str]) -> list[str]:
    common = [c for c in a.columns if c in b.columns and _kind(a[c]) == _kind(b[c])]
    floats = [c for c in common if pd.api.types.is_float_dtype(a[c])]
    first = [c for c in preferred if c in common]
    names = [*first, *(c for c in common if c not in first and c not in floats)]
    names += [c for c in floats if c not in names and set(a[c]) == set(b[c])]
    chosen: list[str] = []
    for name in names:
        if _tell_apart(a, chosen) and _tell_apart(b, chosen):
            break
        chosen.append(name)
    if not (_tell_apart(a, chosen) and _tell_apart(b, chosen)):
        raise InputError("no columns that both tables have tell the rows of each apart.")
    for name in chosen[::-1]:
        rest = [each for each in chosen if each != name]
        if name not in first and _tell_apart(a, rest) and _tell_apart(b, rest):
            chosen = rest
    return chosen


def _tell_apart(table: pd.DataFrame, columns: list[str]) -> bool:
    if not columns:
        return len(table) <= 1
    return not bool(table.duplicated(columns).any())


def _kind(column: pd.Series[Any]) -> str:
    if pd.api.types.is_bool_dtype(column):
        return "bool"
    return "number" if pd.api.types.is_numeric_dtype(column) else "text"


def _is_number(column: pd.Series[Any]) -> bool:
    return _kind(column) == "number"


def _less(b: pd.Series[Any], a: pd.Series[Any]) -> pd.Series[Any]:
    """B − A in float64: small and unsigned numbers would wrap around."""
    return b.astype("float64") - a.astype("float64")


def _equal(a: pd.Series[Any], b: pd.Series[Any]) -> bool:
    return bool(((a == b) | (a.isna() & b.isna())).all())


def _checks(result: AnalysisResult, label: str) -> pd.DataFrame:
    names = pd.Series([check.name for check in result.checks], dtype=object)
    outcomes = ["passed" if check.passed else "FAILED" for check in result.checks]
    return pd.DataFrame(
        {
            "check": names,
            "number": names.groupby(names).cumcount(),
            f"outcome ({label})": outcomes,
            f"value ({label})": [check.value for check in result.checks],
            f"tolerance ({label})": [check.tolerance for check in result.checks],
        }
    )


def _record(result: AnalysisResult) -> dict[str, Any]:
    record = result.provenance.model_dump(mode="json")
    versions = {f"version of {name}": text for name, text in record["versions"].items()}
    inputs = {"inputs": record["str_tokens"] or record["tokens"]}
    full = {"interventions in full": record["interventions_json"]}
    told = {name: value for name, value in record.items() if name not in _SKIPPED}
    return {"analysis": result.name} | told | full | inputs | versions


def _differing(what: str, a: dict[str, Any], b: dict[str, Any]) -> pd.DataFrame:
    names = [name for name in dict.fromkeys((*a, *b)) if a.get(name) != b.get(name)]
    return pd.DataFrame(
        {
            what: pd.Series(names, dtype=object),
            "A": pd.Series([_text(a, name) for name in names], dtype=object),
            "B": pd.Series([_text(b, name) for name in names], dtype=object),
        }
    )


def _text(values: dict[str, Any], name: str) -> str:
    value = values.get(name)
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
