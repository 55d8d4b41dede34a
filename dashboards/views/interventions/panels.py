"""Before, after and difference as three charts side by side, the first two on one scale."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from dashboards.drawing import figures
from dashboards.page.script import plan_lines, script
from dashboards.page.subject import Subject
from interp.charts import Chart

if TYPE_CHECKING:
    import plotly.graph_objects as go

ABREAST = 14  # places along x that a third of the page has room for


def code(subject: Subject, body: str) -> str:
    """A script with the interventions in `plan`, and lines that use them."""
    return script(subject.unedited(), f"{plan_lines(subject)}\n\n{body.strip()}")


def effects_code(subject: Subject, position: int, table: str, lens: bool = False) -> str:
    """A script that leaves an expression of `found`, the page's `Effects`, in `table`."""
    given = [f"position={position}"]
    if subject.answer is not None:
        given.append("target=answer")
        if subject.wrong is not None:
            given.append("wrong=wrong")
    given.append(f"lens={lens}")
    body = f"""
from analyses.patching.intervention_effects import effects

found = effects(model, inputs, plan, {", ".join(given)})
table = {table}
"""
    return code(subject, body)


def trio(
    frame: pd.DataFrame,
    columns: tuple[str, str, str],
    what: str,
    alts: tuple[str, str, str],
    key: str,
    python: str,
    height: int | None = None,
    texts: tuple[str, str] | None = None,
    **chart: Any,
) -> None:
    """Draw three charts of one table.

    Args:
        frame: The table.
        columns: Those of before, after and difference.
        what: What is drawn, for the titles.
        alts: Of each chart.
        key: Of the charts' elements.
        python: The script that leaves the table.
        height: Of each chart, in pixels.
        texts: The columns written in the cells of before and after.
        **chart: What else `Chart` takes.
    """
    before, after, _ = columns
    signed = chart.pop("signed", False)
    limits = None
    if not chart.get("probability") and chart["kind"] != "attention":
        values = frame[[before, after]].to_numpy(float)
        low, high = float(values.min()), float(values.max())
        if signed:
            reach = max(abs(low), abs(high)) or 1.0
            limits = (-reach, reach)
        else:
            limits = (low, high) if low < high else (low, low + 1.0)
    label = chart.pop("value_label", what)
    probability = chart.pop("probability", False)
    wide = frame[chart["x"]].nunique() > ABREAST
    if not wide:
        places = st.columns(3)
    elif chart["kind"] == "attention":  # squares: two fill the page
        places = [*st.columns(2), st.columns(2)[0]]
    else:
        places = [st.container() for _ in range(3)]
    runs = ("before", "after", "after less before")
    for i, (place, column, run) in enumerate(zip(places, columns, runs, strict=True)):
        last = i == 2
        drawn = Chart(
            table="effects",
            value=column,
            value_label=f"change of {label}" if last else label,
            title=f"{what}, {run}",
            alt=alts[i],
            signed=signed or last,
            probability=probability and not last,
            limits=None if last else limits,
            text=None if last or texts is None else texts[i],
            **chart,
        )
        with place:
            name = ("before", "after", "difference")[i]
            figures.chart(
                drawn,
                frame,
                f"{key}/{name}",
                height=height,
                code=python,
                adjust=None if wide else _narrow if last or not i else _without_axis,
            )


def _narrow(figure: go.Figure) -> None:
    """The scale above, where it takes nothing of the width."""
    bar = {"orientation": "h", "y": 1.0, "yanchor": "bottom", "thickness": 10}
    bar |= {"title": {"side": "top"}}
    figure.update_layout(coloraxis={"colorbar": bar}, margin={"t": 60, "r": 5, "b": 10})
    figure.update_xaxes(title_standoff=4, automargin=True)


def _without_axis(figure: go.Figure) -> None:
    """The same, and the axis of its neighbour for its own."""
    _narrow(figure)
    figure.update_yaxes(title=None)
