"""A picture that no chart describes: drawn shape by shape, with the text of a chart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Drawing:
    """A figure of matplotlib's with what `interp.charts.export.svg` writes into it.

    Attributes:
        figure: Drawn in the style of interp's charts.
        title: What it shows, in a few words.
        alt: The text alternative.
    """

    figure: Figure
    title: str
    alt: str
