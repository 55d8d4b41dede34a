"""What figures have in common, as a template for plotly."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from interp.charts.palette import Theme

if TYPE_CHECKING:
    import plotly.graph_objects as go


@functools.cache
def template(colors: Theme) -> go.layout.Template:
    """The look of a figure by itself.

    plotly's own templates also describe maps, tables and scales, and are copied and checked for
    every figure anew, which takes as long as all the rest of a small one.
    """
    import plotly.graph_objects as go

    axis: dict[str, Any] = {
        "automargin": True,
        "gridcolor": colors.grid,
        "linecolor": colors.grid,
        "ticks": "",
        "title": {"standoff": 15},
        "zerolinecolor": colors.grid,
        "zerolinewidth": 2,
    }
    return go.layout.Template(
        layout={
            "font": {"color": colors.ink},
            "paper_bgcolor": colors.paper,
            "plot_bgcolor": colors.paper,
            "hovermode": "closest",
            "hoverlabel": {
                "align": "left",
                "bgcolor": colors.paper,
                "bordercolor": colors.ink,
                "font": {"color": colors.ink},
            },
            "coloraxis": {"colorbar": {"outlinewidth": 0, "ticks": ""}},
            "margin": {"t": 70, "b": 50, "l": 60, "r": 20},
            "xaxis": axis,
            "yaxis": axis,
        },
        data={
            "bar": [
                {
                    "error_y": {"color": colors.ink},
                    "marker": {"line": {"color": colors.paper, "width": 0.5}},
                }
            ]
        },
    )
