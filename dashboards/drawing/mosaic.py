"""Many attention patterns as one picture: a tile for each head, a pixel for each number."""

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from interp.charts.palette import Theme, channels, ramp, theme

if TYPE_CHECKING:
    import plotly.graph_objects as go

LEVELS = 255
"""Shades from 0 to 1. A pixel is of the shade nearest to its number: within 1/508 of it."""

_ABSENT = LEVELS  # in the picture's palette, behind the shades
_WIDTH = 1000  # pixels that the figure's height is made for; narrower screens scale it
_LEAST_ROOM = 220, 1400  # pixels: the least and the largest height


def draw(
    patterns: npt.NDArray[np.floating],
    layers: Sequence[int],
    columns: int,
    chosen: tuple[int, int] | None = None,
    dark: bool = False,
) -> "go.Figure":
    """Tile the patterns of all heads, in the order of layers and heads.

    A click on a tile or on its name selects the head: a point of the last trace, whose `customdata`
    is `[layer, head]`. Elsewhere it selects the nearest.

    Args:
        patterns: `[layer, head, pos, key_pos]`, 0..1, destinations down, sources across. NaN where
            a destination cannot see a source: left out, in the colour of the space between tiles.
        layers: The number of each layer.
        columns: Tiles in a row at most; rows are made about equally long.
        chosen: Layer and head whose tile is outlined.
        dark: For a dark page.
    """
    import plotly.graph_objects as go

    n_layers, n_heads, n, n_sources = patterns.shape
    heads = [(i, h) for i in range(n_layers) for h in range(n_heads)]
    rows = -(-len(heads) // columns)
    columns = -(-len(heads) // rows)
    # Tiles stand in a lattice of steps; the space above each holds its name.
    side = max(n, n_sources)
    across, space = max(1, round(0.05 * side)), max(1, round(0.22 * side))
    step_x, step_y = n_sources + across, n + space
    shades = np.full((rows * step_y + across, columns * step_x + across), _ABSENT, np.uint8)
    at = [(k % columns * step_x + across, k // columns * step_y + space) for k in range(len(heads))]
    for (i, head), (left, top) in zip(heads, at, strict=True):
        shades[top : top + n, left : left + n_sources] = _shades(patterns[i, head])
    colors = theme(dark)
    named = [(layers[i], head) for i, head in heads]
    picture = go.Image(source=_png(shades, colors), hoverinfo="skip")
    names = go.Scatter(
        x=[left + n_sources / 2 - 0.5 for left, _ in at],
        y=[top - space / 2 - 0.5 for _, top in at],
        text=[f"L{layer}H{head}" for layer, head in named],
        mode="text",
        textfont={"size": 12, "color": colors.ink},
        hoverinfo="skip",
        showlegend=False,
    )
    points = go.Scatter(
        x=names.x,
        # In the middle of a tile and its name: the nearest point is theirs from anywhere on them.
        y=[top + (n - space) / 2 - 0.5 for _, top in at],
        customdata=[list(name) for name in named],
        mode="markers",
        marker={"size": 12, "opacity": 0},
        selected={"marker": {"opacity": 0}},
        unselected={"marker": {"opacity": 0}},
        hovertemplate="open L%{customdata[0]}H%{customdata[1]}<extra></extra>",
        showlegend=False,
    )
    figure = go.Figure([picture, names, points])
    if chosen in named:
        left, top = at[named.index(chosen)]
        edge = max(0.5, across / 2)
        figure.add_shape(
            type="rect",
            x0=left - edge,
            x1=left + n_sources - 1 + edge,
            y0=top - edge,
            y1=top + n - 1 + edge,
            line={"color": colors.accent, "width": 3},
        )
    hidden = {"visible": False, "constrain": "domain", "fixedrange": True}
    figure.update_xaxes(**hidden, range=[-0.5, shades.shape[1] - 0.5])
    figure.update_yaxes(
        **hidden, range=[shades.shape[0] - 0.5, -0.5], scaleanchor="x", constraintoward="top"
    )
    least, most = _LEAST_ROOM
    figure.update_layout(
        template="plotly_dark" if dark else "plotly_white",
        paper_bgcolor=colors.paper,
        plot_bgcolor=colors.paper,
        font={"color": colors.ink},
        hoverlabel={"bgcolor": colors.paper, "font": {"color": colors.ink}},
        margin={"t": 10, "b": 10, "l": 0, "r": 0},
        height=max(least, min(most, round(_WIDTH * shades.shape[0] / shades.shape[1]))),
        dragmode=False,
        clickmode="event+select",
        hovermode="closest",
        hoverdistance=-1,  # the pointer finds the nearest centre, however far away
    )
    return figure


def _shades(pattern: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    absent = np.isnan(pattern)
    levels = np.rint(np.clip(np.where(absent, 0, pattern), 0, 1) * (LEVELS - 1))
    return np.where(absent, _ABSENT, levels).astype(np.uint8)


def _png(shades: npt.NDArray[np.uint8], colors: Theme) -> str:
    """The picture as a data URL: one byte for each pixel, and a palette."""
    from PIL import Image

    stops = [ramp(colors.sequential, i / (LEVELS - 1)) for i in range(LEVELS)]
    # What is absent, as what lies between the tiles, is the page itself, tinted.
    palette = [*stops, ramp((colors.paper, colors.blank), 0.5)]
    image = Image.fromarray(shades, mode="P")
    image.putpalette([part for color in palette for part in channels(color)])
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
