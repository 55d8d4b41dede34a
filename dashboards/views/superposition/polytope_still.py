"""The polytope of three dimensions as a still, for files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from analyses.superposition.one_toy import ABSENT, AXES
from interp.charts.palette import LIGHT

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SIDE = 5.5  # inches
_VIEW = {"elev": 29, "azim": 45}  # degrees: from where the page shows it at first


def draw(
    table: pd.DataFrame,
    edges: list[tuple[int, int]],
    reach: float,
    hues: dict[str, str],
    title: str,
) -> Figure:
    """Draw a toy of three dimensions; absent features are not.

    Args:
        table: Its directions.
        edges: Of the recognised shape.
        reach: How far the axes go.
        hues: The colour of each part.
        title: Above it.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_SIDE, _SIDE), layout="constrained")
    axes = figure.add_subplot(projection="3d", **_VIEW)
    points = table.set_index("feature")[list(AXES)].astype(float)
    for i, j in edges:
        axes.plot(*points.loc[[i, j]].to_numpy().T, color=LIGHT.ink, lw=0.8)
    for part, rows in table[table["part"] != ABSENT].groupby("part"):
        for place, (feature, tip) in enumerate(points.loc[rows["feature"]].iterrows()):
            x, y, z = tip
            axes.plot(
                [0, x], [0, y], [0, z], color=hues[str(part)], lw=2.5, marker="o", markevery=[1],
                markersize=4, label="_" if place else str(part),
            )  # fmt: skip
            axes.text(1.1 * x, 1.1 * y, 1.1 * z, str(feature), color=LIGHT.ink, fontsize=8)
    limits = (-1.1 * reach, 1.1 * reach)
    axes.set(xlim=limits, ylim=limits, zlim=limits, xticklabels=[], yticklabels=[], zticklabels=[])
    axes.set_box_aspect((1, 1, 1))
    axes.grid(visible=False)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=10)
    return figure
