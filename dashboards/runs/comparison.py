"""Two saved runs beside each other on a page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd
import streamlit as st

from analyses import AnalysisResult
from analyses.results.comparison import (
    DIFFERENCE,
    checks_beside,
    difference,
    join,
    keys_of_figures,
    on_one_scale,
    parameters_that_differ,
    provenance_that_differs,
)
from dashboards.drawing import figures
from dashboards.drawing.wording import plain
from interp import InputError
from interp.charts import Chart


def show(
    runs: Path, names: tuple[str, str], results: tuple[AnalysisResult, AnalysisResult], key: str
) -> None:
    """Draw what differs between two runs, and their figures and tables beside each other.

    Args:
        runs: Where they are saved.
        names: Of the runs: A and B.
        results: The runs.
        key: Begins the keys of the widgets.
    """
    a, b = results
    for label, name, result in zip("AB", names, results, strict=True):
        model = f" of {result.provenance.model}" if result.provenance.model else ""
        failed = sum(not check.passed for check in result.checks)
        checks = f"{failed} of {len(result.checks)} checks FAILED" if failed else "all checks pass"
        st.markdown(f"**{label}** · {plain(name)}: {plain(result.name + model)}, {checks}")
    st.caption("Differences are B − A.")
    st.subheader("What differs in what they were made from")
    _differing("parameters", parameters_that_differ(a, b), f"{key}/parameters")
    _differing("model, input and machine", provenance_that_differs(a, b), f"{key}/provenance")
    if a.name != b.name:
        st.info(
            f"A is a run of {plain(a.name)} and B one of {plain(b.name)}. Their checks, figures "
            "and tables measure different things, even where they share a name: they cannot be "
            "compared. Open each by itself."
        )
        return
    st.subheader("Checks")
    rows = checks_beside(a, b)
    short = st.column_config.NumberColumn(format="%.3g")
    formats = dict.fromkeys(rows.columns[3:], short)
    st.dataframe(rows, hide_index=True, key=f"{key}/checks", column_config=formats)
    _figures(runs, names, results, key)
    _tables(runs, names, results, key)


def _differing(what: str, rows: pd.DataFrame, key: str) -> None:
    if rows.empty:
        st.caption(f"The same {what}.")
    else:
        st.dataframe(rows, hide_index=True, key=key)


def _figures(
    runs: Path, names: tuple[str, str], results: tuple[AnalysisResult, AnalysisResult], key: str
) -> None:
    a, b = results
    common = [name for name in a.figures if name in b.figures]
    if common:
        st.subheader("Figures")
    for name in common:
        chart = a.figures[name]
        with st.container(border=True):
            if chart.kind == "graph" == b.figures[name].kind:
                _graphs(name, results, f"{key}/{name}")
                continue
            for function in (on_one_scale, difference):
                code = _script(runs, names, function.__name__, name)
                if not _drawn(function, name, results, code, f"{key}/{name}"):
                    break
    _alone("figure", a.figures, b.figures)


def _graphs(figure: str, results: tuple[AnalysisResult, AnalysisResult], key: str) -> None:
    for label, result, column in zip("AB", results, st.columns(2), strict=True):
        chart = result.figures[figure]
        with column:
            st.markdown(f"**{label}**")
            figures.chart(chart, result.tables[chart.table], f"{key}/{label}")
    st.caption("Each graph has its own scale: widths are not to be compared.")


def _drawn(
    function: Callable[[AnalysisResult, AnalysisResult, str], tuple[Chart, pd.DataFrame]],
    figure: str,
    results: tuple[AnalysisResult, AnalysisResult],
    code: str,
    key: str,
) -> bool:
    """Draw a figure of both; gives whether there is one."""
    try:
        drawn, rows = function(*results, figure)
    except InputError as fault:
        st.caption(plain(f"{figure}: {fault}"))
        return False
    if drawn.table == DIFFERENCE and bool((rows[DIFFERENCE] == 0).all()):
        st.caption(f"A and B are equal at all {len(rows)} marks.")
    else:
        figures.chart(drawn, rows, f"{key}/{function.__name__}", code=code)
    return True


def _tables(
    runs: Path, names: tuple[str, str], results: tuple[AnalysisResult, AnalysisResult], key: str
) -> None:
    a, b = results
    st.subheader("Tables")
    for name in a.tables:
        if name not in b.tables:
            continue
        with st.expander(f"{name} ({len(a.tables[name])} rows in A, {len(b.tables[name])} in B)"):
            try:
                found = join(a.tables[name], b.tables[name], keys_of_figures(a.figures, name))
            except InputError as fault:
                st.caption(plain(f"Not compared: {fault}"))
                continue
            by = ", ".join(found.keys) or "being the only ones"
            st.caption(
                plain(
                    f"Rows matched by {by}; {found.only_a} rows are in A alone and {found.only_b} "
                    "in B alone."
                )
            )
            figures.table(found.rows, f"{key}/table/{name}", f"{a.name}-{name}-a-b")
    _alone("table", a.tables, b.tables)


def _alone(what: str, a: Mapping[str, object], b: Mapping[str, object]) -> None:
    for label, own, others in (("A", a, b), ("B", b, a)):
        alone = [name for name in own if name not in others]
        if alone:
            s = "" if len(alone) == 1 else "s"
            st.caption(plain(f"Only {label} has the {what}{s} {', '.join(alone)}."))


def _script(runs: Path, names: tuple[str, str], function: str, figure: str) -> str:
    paths = [str(runs / name) for name in names]
    return (
        "from analyses import AnalysisResult\n"
        f"from analyses.results.comparison import {function}\n\n"
        f"a = AnalysisResult.load({paths[0]!r})\n"
        f"b = AnalysisResult.load({paths[1]!r})\n"
        f"chart, table = {function}(a, b, {figure!r})\n"
    )
