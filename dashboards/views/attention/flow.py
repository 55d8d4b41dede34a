"""Attention as lines from the tokens that are looked at to those that look."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import streamlit as st

from analyses.heads.attention_maps import cells_table
from dashboards.drawing import figures
from dashboards.drawing.theme import is_dark
from dashboards.page.address import Choices
from dashboards.page.subject import Subject
from dashboards.views.attention import numbers
from dashboards.views.attention.choice import Wanted
from interp.charts import palette
from interp.charts.interactive.text import plain
from interp.charts.panels import LABEL_LIMIT
from interp.charts.tokens import shortened, visible

if TYPE_CHECKING:
    import plotly.graph_objects as go

MOST_LINES = 1_000  # the strongest
ALL = "all"
_WIDTHS = 10  # kinds of lines, by width
_WIDEST = 9.0  # pixels
_ROW = 19  # pixels between tokens
_BENDS = 17  # points of a line
_TOLD = 8  # lines that the pointer tells of at a token


def draw(subject: Subject, choices: Choices, wanted: Wanted) -> None:
    """Draw the boxes and the lines."""
    st.subheader("From token to token")
    measure = "pattern" if wanted.measure == "scores" else wanted.measure
    column = {"pattern": "attention"}.get(measure, wanted.column)
    cells = numbers.large(subject, wanted, measure)
    destinations, sources = numbers.texts(subject, wanted)
    boxes = st.columns(3)
    with boxes[0]:
        least = choices.number(
            "threshold",
            "Lines from",
            0.1,
            0.01,
            1.0,
            0.01,
            slider=True,
            help="Of attention; of sizes, of the largest. Weaker lines are not drawn.",
        )
    with boxes[1]:
        to = _end(choices, "to", "Destination", destinations[: cells.shape[0]])
    with boxes[2]:
        origin = _end(choices, "from", "Source", sources[: cells.shape[1]])
    table = cells_table(cells, destinations, sources, column)
    largest = float(table[column].abs().max()) or 1.0
    unit = largest if measure == "weighted" else 1.0
    lines = chosen_lines(table, column, least * unit, to, origin)
    left_out = max(0, len(lines) - MOST_LINES)
    lines = lines.head(MOST_LINES)
    alt = (
        f"{len(lines)} lines from sources, on the right, to destinations, on the left, of "
        f"{wanted.name}, as wide as the {_measured(measure)} is large, from {least * unit:.3g} on."
        f"{_strongest(lines, column)}{numbers.clipped(subject, wanted)}"
    )
    if left_out:
        alt += f" {left_out} weaker lines are left out."
    if wanted.measure == "scores":
        st.caption("Lines show the pattern: scores have no zero to draw them from.")
    key = f"attention/flow/{to}/{origin}"
    drawn = figure(
        lines,
        column,
        unit,
        destinations[: cells.shape[0]],
        sources[: cells.shape[1]],
        signed=wanted.prompts == "difference",
        dark=is_dark(),
    )
    figures.plot(
        drawn, alt, key, on_select=lambda: _pick(choices, key, to, origin), selection_mode="points"
    )
    unit_of = "(size.max() or 1.0)" if measure == "weighted" else "1.0"
    body = [
        f'table = cells_table(cells, destinations, sources, "{column}")',
        f'size = table["{column}"].abs()',
        f"table = table[size >= {least} * {unit_of}]",
        f'table = table[table["destination"] == {to}]' if to is not None else "",
        f'table = table[table["source"] == {origin}]' if origin is not None else "",
        f'table = table.sort_values("{column}", key=abs, ascending=False, kind="stable")',
        f"table = table.head({MOST_LINES}).reset_index(drop=True)",
    ]
    with st.expander("Lines as a table"):
        figures.table(
            lines,
            "attention/table/flow",
            "attention-flow",
            numbers.code(subject, wanted, measure, "\n".join(filter(None, body))),
        )


def chosen_lines(
    table: pd.DataFrame, column: str, least: float, to: int | None, origin: int | None
) -> pd.DataFrame:
    """The cells that are drawn as lines, the strongest first.

    Args:
        table: As `cells_table`.
        column: The numbers.
        least: Their size from which a line is drawn.
        to, origin: The only destination and source; None: all.
    """
    found = table[table[column].abs() >= least]
    if to is not None:
        found = found[found["destination"] == to]
    if origin is not None:
        found = found[found["source"] == origin]
    ranked = found.sort_values(column, key=abs, ascending=False, kind="stable")
    return ranked.reset_index(drop=True)


def figure(
    lines: pd.DataFrame,
    column: str,
    unit: float,
    destinations: list[str],
    sources: list[str],
    signed: bool = False,
    dark: bool = False,
) -> go.Figure:
    """The lines between two columns of tokens: destinations on the left, sources on the right.

    Tokens are points that can be selected; their `customdata` is `[side, position]`.

    Args:
        lines: As `chosen_lines`.
        column: The numbers; a line of ±`unit` is the widest. Negative ones are dashed.
        unit: The number of the widest line.
        destinations, sources: The texts of the tokens.
        signed: Colours tell the sign.
        dark: For a dark page.
    """
    import plotly.graph_objects as go

    colors = palette.theme(dark)
    sizes = (lines[column].abs() / unit).clip(upper=1.0).to_numpy()
    # A trace has one width: lines of about the same are one trace.
    steps = np.ceil(sizes * _WIDTHS).astype(int).clip(1, _WIDTHS)
    negative = lines[column].to_numpy() < 0
    plain_color = colors.positive if signed else colors.sequential[-3]
    traces = []
    for step in range(1, _WIDTHS + 1):
        for below, color in ((False, plain_color), (True, colors.negative)):
            some = lines[(steps == step) & (negative == below)]
            if len(some):
                traces.append(_trace(some, step / _WIDTHS, color, "dot" if below else "solid"))
    for side, names, x in (("to", destinations, 0.0), ("from", sources, 1.0)):
        traces.append(_tokens(side, names, x, lines, column, colors))
    longest = max(len(destinations), len(sources))
    hidden = {"visible": False, "fixedrange": True}
    heads = (("destination", 0.0, "right"), ("source", 1.0, "left"))
    # Made whole at once: plotly checks each update of a figure anew.
    layout = {
        "template": "none",
        "xaxis": {**hidden, "range": [-0.45, 1.45]},
        "yaxis": {**hidden, "range": [longest - 0.4, -1.4]},
        "annotations": [
            {"text": name, "x": x, "y": -1, "xanchor": anchor, "showarrow": False}
            for name, x, anchor in heads
        ],
        "paper_bgcolor": colors.paper,
        "plot_bgcolor": colors.paper,
        "font": {"color": colors.ink, "size": 12},
        "hoverlabel": {"bgcolor": colors.paper, "font": {"color": colors.ink}},
        "margin": {"t": 0, "b": 10, "l": 0, "r": 0},
        "height": _ROW * (longest + 1) + 40,
        "showlegend": False,
        "dragmode": False,
        "clickmode": "event+select",
        "hovermode": "closest",
    }
    return go.Figure(data=traces, layout=layout)


def _trace(lines: pd.DataFrame, share: float, color: str, dash: str) -> dict[str, Any]:
    at = np.linspace(0.0, 1.0, _BENDS)
    bend = at * at * (3 - 2 * at)  # leaves and arrives level
    ends = lines[["destination", "source"]].to_numpy(dtype=float)
    heights = ends[:, :1] + (ends[:, 1:] - ends[:, :1]) * bend
    gap = np.full((len(lines), 1), np.nan)  # ends a line
    return {
        "type": "scatter",
        "x": np.tile(np.append(at, np.nan), len(lines)),
        "y": np.hstack([heights, gap]).ravel(),
        "mode": "lines",
        "line": {"width": _WIDEST * share, "color": color, "dash": dash},
        "opacity": 0.25 + 0.55 * share,
        "hoverinfo": "skip",
    }


def _tokens(
    side: str, names: list[str], x: float, lines: pd.DataFrame, column: str, colors: palette.Theme
) -> dict[str, Any]:
    end, other = ("destination", "source") if side == "to" else ("source", "destination")
    towards = "from" if side == "to" else "to"
    told = [f"{i}: {plain(visible(name))}" for i, name in enumerate(names)]
    said = [0] * len(names)
    ends = (lines[name].tolist() for name in (end, other, f"{other}_token", column))
    for place, there, text, number in zip(*ends, strict=True):
        said[place] += 1
        if said[place] <= _TOLD:
            told[place] += f"<br>{number:.3g} {towards} {there}: {plain(visible(text))}"
    return {
        "type": "scatter",
        "x": [x] * len(names),
        "y": list(range(len(names))),
        "text": [plain(shortened(visible(name), LABEL_LIMIT)) for name in names],
        "textposition": "middle left" if side == "to" else "middle right",
        "customdata": [[side, i] for i in range(len(names))],
        "hovertext": told,
        "hoverinfo": "text",
        "mode": "markers+text",
        "marker": {"size": 7, "color": colors.ink},
        "textfont": {"size": 12, "color": colors.ink, "family": "monospace"},
        "selected": {"marker": {"opacity": 1}},
        "unselected": {"marker": {"opacity": 1}},
    }


def _end(choices: Choices, name: str, label: str, texts: list[str]) -> int | None:
    """One of the tokens, or None for all of them."""
    found = choices.choice(
        name,
        label,
        [ALL, *range(len(texts))],
        ALL,
        show=lambda i: "All tokens" if i == ALL else f"{i}: {visible(texts[i])}",
        help="Also by a click on the token.",
    )
    return None if found == ALL else int(found)


def _pick(choices: Choices, key: str, to: int | None, origin: int | None) -> None:
    """Choose the token that was clicked; once more: all."""
    points: list[Any] = st.session_state[key]["selection"]["points"]
    for point in points:
        if point.get("customdata"):
            side, place = point["customdata"]
            was = to if side == "to" else origin
            choices.keep(side, ALL if was == place else str(place))


def _measured(measure: str) -> str:
    return {"pattern": "attention", "weighted": "weighted attention"}.get(measure, "rollout")


def _strongest(lines: pd.DataFrame, column: str) -> str:
    if lines.empty:
        return " None is as strong."
    first = lines.iloc[0]
    return (
        f" The strongest is from {first['source']} (“{visible(first['source_token'])}”) to "
        f"{first['destination']} (“{visible(first['destination_token'])}”): {first[column]:.2f}."
    )
