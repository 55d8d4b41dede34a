"""Charts and tables on a page: plotly, with text alternative, data and exports below."""

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from dashboards.drawing.theme import is_dark
from dashboards.drawing.wording import plain
from interp.charts import Chart, export
from interp.charts.interactive import draw
from interp.charts.interactive.layout import MAX_COLUMNS
from interp.charts.markup import escape
from interp.charts.palette import theme
from interp.charts.panels import grids
from interp.charts.tokens import visible
from interp.errors import InputError

if TYPE_CHECKING:
    import plotly.graph_objects as go

_CONFIG = {"displaylogo": False, "modeBarButtonsToRemove": ["lasso2d", "select2d", "autoScale2d"]}
_WIDTH = 900  # pixels that a figure has on a laptop
_LABEL = 14  # pixels that a label needs
_LEGEND_LINE = 20  # pixels
_LEGEND_MARK = 45  # pixels that an entry of the legend needs beside its name
_LETTER = 7  # pixels across
_TALLEST = 900  # pixels: what fits a laptop
_LARGEST_SQUARE = 450  # pixels: the side of a panel whose axes have one unit
_AROUND = 110  # pixels above and below panels: legend, axis names
_CROWD = 24  # places along an axis that need the whole width of the page
_MOST_ROWS = 2_000  # of a table on a page; files hold all


def chart(
    drawn: Chart,
    table: pd.DataFrame,
    key: str,
    height: int | None = None,
    titled: bool = True,
    code: str | None = None,
    adjust: "Callable[[go.Figure], object] | None" = None,
    chosen: Mapping[Any, Any] | None = None,
    **selection: Any,
) -> None:
    """Draw a chart from its table: title, figure, text alternative; data and exports on request.

    Args:
        drawn: What to draw.
        table: The table that it names.
        key: Of the figure's element.
        height: In pixels; None: as its rows need.
        titled: False where the page has named it already.
        code: Python that makes the table, whole (`dashboards.page.script.script`).
        adjust: Called with the figure before it is shown: to mark a place on it, for example.
        chosen: Columns of a heatmap's table and what they are where the reader looks: those cells
            are outlined, a whole column or row of them where the other axis is not named.
        **selection: `on_select` and `selection_mode` of `st.plotly_chart`: cells of a heatmap are
            then points that can be selected.
    """
    figure = draw(drawn, table, dark=is_dark(), clickable=bool(selection))
    layout = figure.layout  # set part by part: `update_layout` takes as long as all the drawing
    layout.title = None
    layout.margin = {"t": 40, "b": 40, "l": 50, "r": 10}
    layout.legend = {"orientation": "h", "y": 1.02, "yanchor": "bottom"}
    layout.coloraxis.colorbar.thickness = 14
    layout.coloraxis.colorbar.len = 1
    if drawn.facet is not None:
        _fit_panels(figure, drawn, drawn.rows(table)[drawn.facet].nunique())
    elif height is None and drawn.kind == "graph":
        groups = [trace.legendgroup for trace in figure.data if trace.showlegend is not False]
        # As its levels need, below a heading and the longest column of the legend.
        height = layout.height + _LEGEND_LINE * (1 + max(map(groups.count, groups)))
    elif height is None:
        rows = len(figure.data[0].z) if drawn.kind in ("heatmap", "attention") else 0
        height = min(max(330, _LABEL * rows + 120), _TALLEST)
    if height is not None:
        layout.height = height
    if drawn.facet is not None and drawn.color is not None:
        _make_room_for_legend(figure)
    if chosen:
        _outline(figure, drawn, table, chosen)
    if adjust is not None:
        adjust(figure)
    if titled:
        st.html(f'<p class="figure-title">{escape(drawn.title)}</p>')
    plot(figure, drawn.alt, key, **selection)
    _data(drawn, table, key, code)


def plot(figure: "go.Figure", alt: str, key: str, toolbar: bool = True, **selection: Any) -> None:
    """Draw a plotly figure with its text alternative, for the eye and for a screen reader.

    Without the toolbar, what is drawn in the upper right corner can be clicked, too.
    """
    config = _CONFIG if toolbar else {"displayModeBar": False}
    st.plotly_chart(figure, theme=None, key=key, config=config, alt=alt, **selection)
    st.html(f'<p class="figure-alt">{escape(alt)}</p>')


def is_wide(drawn: Chart, table: pd.DataFrame) -> bool:
    """Whether a chart needs the whole width of the page."""
    rows = drawn.rows(table)
    axes = [drawn.x] if drawn.kind in ("bars", "line", "points") else [drawn.x, str(drawn.y)]
    if drawn.facet is not None or drawn.kind == "graph":
        return True
    return any(rows[axis].nunique() > _CROWD for axis in axes)


def table(frame: pd.DataFrame, key: str, name: str, code: str | None = None) -> None:
    """Show a table, token texts with their spaces visible, and offer it as files as it is.

    Args:
        frame: The table.
        key: Of its element.
        name: Of the files.
        code: Python that makes it, whole.
    """
    rows = frame.head(_MOST_ROWS)
    shown = rows.assign(
        **{
            column: rows[column].map(visible)
            for column in rows.columns
            if _holds_tokens(column) and pd.api.types.infer_dtype(rows[column]) == "string"
        }
    )
    numbers = st.column_config.NumberColumn(format="%.4g")
    formats = {c: numbers for c in frame.columns if pd.api.types.is_float_dtype(frame[c])}
    st.dataframe(shown, hide_index=True, key=key, column_config=formats)
    if len(frame) > len(rows):
        st.caption(f"The first {len(rows):,} of {len(frame):,} rows; files hold all.")
    with st.container(horizontal=True):
        _button("CSV", lambda: export.csv(frame), f"{name}.csv", "text/csv", key)
        parquet = "application/vnd.apache.parquet"
        _button("Parquet", lambda: export.parquet(frame), f"{name}.parquet", parquet, key)
        if code is not None:
            _button("Python", code, f"{name}.py", "text/x-python", key)


@st.fragment
def _data(drawn: Chart, frame: pd.DataFrame, key: str, code: str | None) -> None:
    """What is behind a chart, made when it is asked for."""
    box = st.expander("Data and export", key=f"{key}/data", on_change="rerun")
    if not box.open:
        return
    name = re.sub(r"[^a-z0-9]+", "-", drawn.title.lower()).strip("-")[:60] or drawn.table
    with box:
        with st.container(horizontal=True):
            _button("PNG", lambda: _still(drawn, frame, "png"), f"{name}.png", "image/png", key)
            _button("SVG", lambda: _still(drawn, frame, "svg"), f"{name}.svg", "image/svg+xml", key)
            _button("HTML", lambda: _page(drawn, frame), f"{name}.html", "text/html", key)
        try:
            rows = drawn.rows(frame)
        except InputError as fault:
            st.error(plain(fault))
            return
        table(rows, f"{key}/table", name, code)
        if code is not None:
            st.code(code, language="python")


def _button(label: str, data: Any, file: str, mime: str, key: str) -> None:
    st.download_button(label, data, file, mime, key=f"{key}/{label}", on_click="ignore")


def _still(drawn: Chart, frame: pd.DataFrame, suffix: str) -> bytes:
    from interp.charts import mpl

    figure = mpl.draw(drawn, frame)
    if suffix == "png":
        return export.png(figure, drawn)
    return export.svg(figure, drawn).encode()


def _page(drawn: Chart, frame: pd.DataFrame) -> bytes:
    return export.html(drawn, frame).encode()


def _fit_panels(figure: "go.Figure", drawn: Chart, panels: int) -> None:
    """Leave out labels that would overlap in small panels, and the room between square ones."""
    if drawn.kind == "attention" or drawn.vectors:
        across, up = (next(axes()).domain for axes in (figure.select_xaxes, figure.select_yaxes))
        side = min(_WIDTH * (across[1] - across[0]), _LARGEST_SQUARE)
        figure.layout.height = round(side / (up[1] - up[0])) + _AROUND
    most = _WIDTH // min(panels, MAX_COLUMNS) // _LABEL // 2
    for axis in (*figure.select_xaxes(), *figure.select_yaxes()):
        if axis.tickvals is not None:
            step = -(-len(axis.tickvals) // most)
            axis.tickvals, axis.ticktext = axis.tickvals[::step], axis.ticktext[::step]


def _make_room_for_legend(figure: "go.Figure") -> None:
    """Put the legend above the panels' titles, not over them."""
    names = [trace.name for trace in figure.data if trace.showlegend is not False]
    # As many lines as on a small laptop; a narrow page needs one or two more.
    lines = 1 + sum(_LETTER * len(name) + _LEGEND_MARK for name in names) // _WIDTH
    room = _LEGEND_LINE * (lines + 2)
    figure.update_layout(
        legend={"yref": "container", "y": 1, "yanchor": "top"},
        height=figure.layout.height + room,
        margin={"t": figure.layout.margin.t + room},
    )


def _outline(
    figure: "go.Figure", drawn: Chart, frame: pd.DataFrame, chosen: Mapping[Any, Any]
) -> None:
    """Draw a line about the cells of a heatmap that the reader has chosen."""
    cells = figure.select_traces({"type": "heatmap"})
    for grid, trace in zip(grids(drawn, frame), cells, strict=True):
        if drawn.facet in chosen and grid.key != chosen[drawn.facet]:
            continue
        ends = []
        for axis, column in ((grid.x, drawn.x), (grid.y, drawn.y)):
            first, last = 0, len(axis.keys) - 1
            if column in chosen:
                if chosen[column] not in axis.keys:
                    break
                first = last = axis.keys.index(chosen[column])
            ends.append((first - 0.5, last + 0.5))
        else:
            (x0, x1), (y0, y1) = ends
            colors = theme(is_dark())
            # Upon the colour of the page, for a cell may have that of the line.
            for color, width in ((colors.paper, 6), (colors.accent, 2)):
                figure.add_shape(
                    type="rect", x0=x0, x1=x1, y0=y0, y1=y1, line={"color": color, "width": width},
                    xref=trace.xaxis or "x", yref=trace.yaxis or "y",
                )  # fmt: skip


def _holds_tokens(column: str) -> bool:
    return column in ("token", "text") or column.endswith("_token")
