"""Many attention patterns as one picture: a tile for each head."""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from interp.charts.palette import INK, SEQUENTIAL

if TYPE_CHECKING:
    import plotly.graph_objects as go

_WIDTH = 1000  # pixels that the figure's height is made for; narrower screens scale it
_GAP = "#e6e9ee"


def draw(patterns: npt.NDArray[np.float32], layers: tuple[int, ...], columns: int) -> "go.Figure":
    """Tile the patterns of all heads, in the order of layers and heads.

    Each tile's name is a point that can be selected; its `customdata` is `[layer, head]`.

    Args:
        patterns: `[layer, head, pos, key_pos]`, destinations down, sources across.
        layers: The number of each layer.
        columns: Tiles in a row at most; rows are made about equally long.
    """
    import plotly.graph_objects as go

    n_layers, n_heads, n, _ = patterns.shape
    tiles = [(i, h) for i in range(n_layers) for h in range(n_heads)]
    rows = -(-len(tiles) // columns)
    columns = -(-len(tiles) // rows)
    # Tiles stand in a lattice of steps; the space above each holds its name.
    across, space = max(1, round(0.05 * n)), max(1, round(0.16 * n))
    step_x, step_y = n + across, n + space
    values = np.full((rows * step_y + across, columns * step_x + across), np.nan, np.float32)
    told = np.zeros((*values.shape, 4), np.int16)
    destination, source = np.mgrid[0:n, 0:n]
    names: list[dict[str, Any]] = []
    for place, (i, head) in enumerate(tiles):
        top, left = place // columns * step_y + space, place % columns * step_x + across
        cells = np.s_[top : top + n, left : left + n]
        values[cells] = patterns[i, head]
        told[cells] = np.stack(
            [np.full_like(source, layers[i]), np.full_like(source, head), destination, source], -1
        )
        names.append({"x": left + n / 2 - 0.5, "y": top - space / 2 - 0.5, "of": (layers[i], head)})
    heatmap = go.Heatmap(
        z=values,
        customdata=told,
        zmin=0,
        zmax=1,
        colorscale=[[i / (len(SEQUENTIAL) - 1), color] for i, color in enumerate(SEQUENTIAL)],
        showscale=False,
        hoverongaps=False,
        hovertemplate=(
            "L%{customdata[0]}H%{customdata[1]}<br>destination %{customdata[2]}, "
            "source %{customdata[3]}<br>attention %{z:.3f}<extra></extra>"
        ),
    )
    labels = go.Scatter(
        x=[name["x"] for name in names],
        y=[name["y"] for name in names],
        text=["L{}H{}".format(*name["of"]) for name in names],
        customdata=[list(name["of"]) for name in names],
        mode="markers+text",
        marker={"size": 26, "symbol": "square", "opacity": 0},  # a larger place to click on
        textfont={"size": 12, "color": INK},
        selected={"textfont": {"color": INK}, "marker": {"opacity": 0}},
        unselected={"textfont": {"color": INK}, "marker": {"opacity": 0}},
        hoverinfo="none",
        showlegend=False,
    )
    figure = go.Figure([heatmap, labels])
    hidden = {"visible": False, "constrain": "domain", "fixedrange": True}
    figure.update_xaxes(**hidden, range=[-0.5, values.shape[1] - 0.5])
    figure.update_yaxes(
        **hidden, range=[values.shape[0] - 0.5, -0.5], scaleanchor="x", constraintoward="top"
    )
    figure.update_layout(
        template="plotly_white",
        plot_bgcolor=_GAP,
        font={"color": INK},
        margin={"t": 10, "b": 10, "l": 0, "r": 0},
        height=max(220, min(1400, round(_WIDTH * values.shape[0] / values.shape[1]))),
        dragmode=False,
    )
    return figure
