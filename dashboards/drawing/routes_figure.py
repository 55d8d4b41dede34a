"""The picture of routes: tokens along x, residual streams upwards, edges as wide as they count."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from interp.charts.interactive import plain
from interp.charts.palette import Theme, channels, theme
from interp.charts.tokens import shortened, visible

if TYPE_CHECKING:
    import plotly.graph_objects as go

KIND_COLORS = {"residual": 6, "attention": 0, "MLP": 1}  # among a theme's colours of groups
KINDS = tuple(KIND_COLORS)
MOST_EDGES = 2000  # drawn; more would be slow, and nobody could tell them apart

_BOW = 0.34  # how far an edge that goes straight up gives way to the residual stream, in tokens
_SAMPLES = 15  # points of an edge's curve
_THINNEST, _THICKEST = 0.8, 7.0  # pixels
_WIDTHS = 7  # edges share a line's trace with those of about the same width
_PALEST = 0.35  # the opacity of the thinnest edge
_LABEL = 12  # characters of a token on the axis
_LETTER, _WIDTH = 8, 900  # pixels: of a character, and of the figure on a laptop
_MOST_LEVELS_NAMED = 30
_LEVEL_HEIGHT, _SHORTEST, _TALLEST = 62, 380, 900  # pixels


def draw(
    nodes: pd.DataFrame,
    edges: pd.DataFrame,
    width: str,
    chosen: tuple[int, int],
    predicted: dict[int, str],
    dark: bool,
) -> go.Figure:
    """Draw routes; every node, and points along every edge, can be selected.

    Args:
        nodes, edges: Tables of the analysis `information-flow`.
        width: The column of `edges` that its lines are as wide as, 0 … 1.
        chosen: Level and position of a node to put a ring around.
        predicted: What to write above the topmost stream, by position.
        dark: For a dark page.

    Returns:
        A figure whose points hold a node's level and position in `customdata`: of an edge, those of
        the node that it leads to.
    """
    import plotly.graph_objects as go

    colors = theme(dark)
    figure = go.Figure()
    some = edges.nlargest(MOST_EDGES, "flow") if len(edges) > MOST_EDGES else edges
    bent = curves(some)
    for kind in KINDS:
        for trace in _lines(some, bent, kind, width, colors.categorical[KIND_COLORS[kind]]):
            figure.add_trace(trace)
    figure.add_trace(_quiet(nodes, colors))
    figure.add_trace(_edge_points(some, bent))
    figure.add_trace(_reached(nodes, colors))
    figure.add_trace(
        go.Scatter(
            x=[chosen[1]],
            y=[chosen[0]],
            mode="markers",
            marker={
                "size": 21,
                "color": "rgba(0,0,0,0)",
                "line": {"color": colors.accent, "width": 2.5},
            },
            hoverinfo="skip",
            showlegend=False,
            name="chosen",
        )
    )
    _lay_out(figure, nodes, predicted, colors)
    return figure


def curves(edges: pd.DataFrame) -> npt.NDArray[np.float64]:
    """Points of each edge, `[edge, point, 2]`: upwards, aside where it would hide the stream."""
    t = np.linspace(0, 1, _SAMPLES)
    source, destination, level = (
        edges[name].to_numpy(float)[:, None] for name in ("source", "destination", "level")
    )
    # A smooth step from 0 to 1, level at both ends; and a bow, 0 at both ends.
    step = (t * t * (3 - 2 * t))[None]
    bow = np.sin(np.pi * t)[None]
    straight = (source == destination) & (edges["kind"].to_numpy()[:, None] != "residual")
    side = np.where(edges["kind"].to_numpy()[:, None] == "MLP", _BOW, -_BOW)
    x = source + (destination - source) * step + np.where(straight, side * bow, 0.0)
    y = level - 1 + np.broadcast_to(t, x.shape)
    return np.stack([x, y], -1)


def token_labels(texts: Iterable[str]) -> list[str]:
    """Tokens as the axis has them: visible, and cut."""
    return [shortened(visible(text), _LABEL) for text in texts]


def _lines(
    edges: pd.DataFrame, curves: npt.NDArray[np.float64], kind: str, width: str, color: str
) -> list[go.Scatter]:
    """A trace for each width of one kind of edge, the first of them in the legend."""
    import plotly.graph_objects as go

    share = edges[width].to_numpy(float).clip(0, 1)
    of_kind = edges["kind"].to_numpy() == kind
    place = np.ceil(share * _WIDTHS)
    found = []
    for some in np.unique(place[of_kind]):
        at = some / _WIDTHS
        mine = curves[of_kind & (place == some)]
        points = np.concatenate([mine, np.full((len(mine), 1, 2), np.nan)], 1).reshape(-1, 2)
        found.append(
            go.Scatter(
                x=points[:, 0],
                y=points[:, 1],
                mode="lines",
                line={"color": color, "width": _THINNEST + (_THICKEST - _THINNEST) * at},
                opacity=_PALEST + (1 - _PALEST) * at,
                hoverinfo="skip",
                legendgroup=kind,
                name=kind,
                showlegend=False,
            )
        )
    if found:
        found.append(
            go.Scatter(
                x=[None], y=[None], mode="lines", line={"color": color, "width": 4},
                legendgroup=kind, name=kind,
            )
        )  # fmt: skip
    return found


def _edge_points(edges: pd.DataFrame, curves: npt.NDArray[np.float64]) -> go.Scatter:
    """Points that are not seen, along each edge, which say what it is and choose its end."""
    import plotly.graph_objects as go

    places = [_SAMPLES // 3, _SAMPLES // 2, 2 * _SAMPLES // 3]
    points = curves[:, places].reshape(-1, 2)
    told = [_told(row) for row in edges.to_dict("records")]
    ends = edges[["level", "destination"]].to_numpy()
    return go.Scatter(
        x=points[:, 0],
        y=points[:, 1],
        mode="markers",
        marker={"size": 9, "opacity": 0},
        text=np.repeat(told, len(places)),
        customdata=np.repeat(ends, len(places), 0).tolist(),  # arrays come back as mappings
        hovertemplate="%{text}<extra></extra>",
        name="edges",
        showlegend=False,
    )


def _told(edge: dict[Any, Any]) -> str:
    heads = f", most by {edge['head']}" if edge["head"] else ""
    source, destination = (
        f"{edge[end]} “{visible(edge[f'{end}_token'])}”" for end in ("source", "destination")
    )
    numbers = f"importance {edge['importance']:.3f}, flow {edge['flow']:.3f}"
    return (
        plain(f"{edge['kind']}{heads} into {edge['stream']}: {source} → {destination}")
        + f"<br>{numbers}"
    )


def _quiet(nodes: pd.DataFrame, colors: Theme) -> go.Scatter:
    rows = nodes[~nodes["on_route"]]
    red, green, blue = channels(colors.ink)
    marker = {"size": 5, "color": f"rgba({red},{green},{blue},0.22)"}
    return _points(rows, marker, "off the routes")


def _reached(nodes: pd.DataFrame, colors: Theme) -> go.Scatter:
    rows = nodes[nodes["on_route"]]
    marker = {
        "size": 8 + 8 * np.sqrt(rows["flow"].to_numpy().clip(0, 1)),
        "color": colors.ink,
        "line": {"color": colors.paper, "width": 1},
    }
    return _points(rows, marker, "on the routes")


def _points(rows: pd.DataFrame, marker: dict[str, Any], name: str) -> go.Scatter:
    import plotly.graph_objects as go

    return go.Scatter(
        x=rows["position"],
        y=rows["level"],
        mode="markers",
        marker={"opacity": 1, **marker},
        text=[
            plain(f"{row['stream']} at {row['position']} “{visible(row['token'])}”: ")
            + f"flow {row['flow']:.3f}"
            for row in rows.to_dict("records")
        ],
        customdata=rows[["level", "position"]].to_numpy().tolist(),
        hovertemplate="%{text}<extra></extra>",
        name=name,
        showlegend=False,
        # What is not chosen stays as it is.
        selected={"marker": {"opacity": 1}},
        unselected={"marker": {"opacity": 1}},
    )


def _lay_out(
    figure: go.Figure, nodes: pd.DataFrame, predicted: dict[int, str], colors: Theme
) -> None:
    tokens = nodes[nodes["level"] == 0]
    streams = nodes.drop_duplicates("level").sort_values("level")
    n, top = len(tokens), int(streams["level"].max())
    named = streams
    if len(streams) > _MOST_LEVELS_NAMED:
        named = streams[streams["stream"].str.endswith(("_pre", "_post"))]
    labels = token_labels(tokens["token"])
    flat = n * (max(map(len, labels)) + 1) * _LETTER < _WIDTH
    axis = {"showgrid": False, "zeroline": False, "showline": False, "ticks": ""}
    figure.update_xaxes(
        range=[-0.7, n - 0.3],
        tickvals=tokens["position"],
        ticktext=[plain(label) for label in labels],
        tickangle=0 if flat else -90,
        title_text="token",
        **axis,
    )
    figure.update_yaxes(
        range=[-0.5, top + 0.75],
        tickvals=named["level"],
        ticktext=[plain(text) for text in named["stream"]],
        title_text="residual stream",
        **axis,
    )
    for position, text in predicted.items():
        figure.add_annotation(
            x=position, y=top, text=plain(text), showarrow=False, yshift=22,
            xanchor="right" if position > n / 2 else "left",
            xshift=10 if position > n / 2 else -10,
        )  # fmt: skip
    height = min(max(_SHORTEST, _LEVEL_HEIGHT * (top + 1) + 110), _TALLEST)
    figure.update_layout(
        height=height,
        margin={"t": 34, "b": 60, "l": 60, "r": 14},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": colors.ink},
        hovermode="closest",
        dragmode="pan",
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
    )
