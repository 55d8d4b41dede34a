"""Charts on a page: plotly, with the chart's text alternative below it."""

from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from interp.charts import Chart
from interp.charts.interactive import draw
from interp.charts.tokens import visible

if TYPE_CHECKING:
    import plotly.graph_objects as go

_CONFIG = {"displaylogo": False, "modeBarButtonsToRemove": ["lasso2d", "select2d", "autoScale2d"]}


def chart(drawn: Chart, table: pd.DataFrame, key: str, height: int | None = None) -> None:
    """Draw a chart from its table, its text alternative as the caption."""
    figure = draw(drawn, table)
    if height is not None:
        figure.update_layout(height=height)
    plot(figure, drawn.alt, key)


def plot(figure: "go.Figure", alt: str, key: str, **selection: Any) -> None:
    """Draw a plotly figure with its text alternative, for the eye and for a screen reader."""
    st.plotly_chart(figure, theme=None, key=key, config=_CONFIG, alt=alt, **selection)
    st.caption(alt)


def table(frame: pd.DataFrame, key: str, name: str) -> None:
    """Show a table, token texts with their spaces visible, and offer it as CSV as it is."""
    shown = frame.assign(
        **{
            column: frame[column].map(visible)
            for column in frame.columns
            if _holds_tokens(column) and pd.api.types.infer_dtype(frame[column]) == "string"
        }
    )
    st.dataframe(shown, hide_index=True, key=key)
    st.download_button(
        "Download CSV", frame.to_csv(index=False).encode(), f"{name}.csv", "text/csv",
        key=f"{key}/csv", on_click="ignore",
    )  # fmt: skip


def _holds_tokens(column: str) -> bool:
    return column in ("token", "text") or column.endswith("_token")
