"""Toys of one or two dimensions beside one another in a single plot, quick to draw again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor

from interp.charts.palette import Theme

if TYPE_CHECKING:
    import plotly.graph_objects as go

IN_A_ROW = 5
_TILE = 175  # pixels
_GAP = 2.3  # between centres, in reaches


def figure(
    W: Float[Tensor, "density d_hidden feature"],
    densities: Sequence[float],
    reach: float,
    colors: Theme,
) -> go.Figure:
    """The columns of W of each toy as lines from a centre of its own.

    Subplots would take their time at each look at toys under training.

    Args:
        W: The ways in, of at most two dimensions.
        densities: Of each.
        reach: Of the longest column.
        colors: Of the page.
    """
    import plotly.graph_objects as go

    drawn = go.Figure()
    step = _GAP * reach
    centres = [(step * (k % IN_A_ROW), -step * (k // IN_A_ROW)) for k in range(len(densities))]
    hues = colors.group_colors(W.shape[-1])
    for feature, hue in enumerate(hues):
        x: list[float | None] = []
        y: list[float | None] = []
        for (across, down), column in zip(centres, W[..., feature].tolist(), strict=True):
            x += [across, across + column[0], None]
            y += [down, down + (column[1] if len(column) == 2 else 0.0), None]
        drawn.add_trace(
            go.Scatter(
                x=x, y=y, mode="lines+markers", name=f"feature {feature}", hoverinfo="name",
                line={"color": hue, "width": 2},
                marker={"color": hue, "size": [0, 6, 0] * len(densities)},
            )
        )  # fmt: skip
    for (across, down), density in zip(centres, densities, strict=True):
        drawn.add_annotation(
            x=across, y=down + 1.1 * reach, text=f"1-S = {density:g}", showarrow=False
        )
    rows = -(-len(densities) // IN_A_ROW)
    hidden = {"showgrid": False, "zeroline": False, "showticklabels": False}
    wide = step * (min(len(densities), IN_A_ROW) - 1) + 1.15 * reach
    drawn.update_xaxes(range=[-1.15 * reach, wide], **hidden)
    low = -step * (rows - 1) - 1.15 * reach
    drawn.update_yaxes(range=[low, 1.3 * reach], scaleanchor="x", **hidden)
    drawn.update_layout(
        height=_TILE * rows + 60,
        margin={"t": 10, "b": 10, "l": 10, "r": 10},
        paper_bgcolor=colors.paper,
        plot_bgcolor=colors.paper,
        font={"color": colors.ink},
        legend={"orientation": "h", "y": 0, "yanchor": "top"},
    )
    return drawn
