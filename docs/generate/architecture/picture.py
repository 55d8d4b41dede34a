"""Boxes, lines and words as an SVG document, in the colours of interp's still pictures."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape, quoteattr

from interp.charts.palette import INK, LIGHT

_BLUE, _ORANGE, _GREEN = LIGHT.categorical[:3]
FLOOR_COLORS = {"dashboards": _ORANGE, "analyses": _GREEN, "interp": _BLUE}
_HEAD = 5.0  # length of an arrow's head


class Picture:
    """A drawing that grows shape by shape; sizes are in pixels, y points down.

    Args:
        width, height: Of the whole.
        title: What it is, in a few words.
        description: What it shows, for who cannot see it.
    """

    def __init__(self, width: float, height: float, title: str, description: str) -> None:
        self._shapes = [
            f"<title>{escape(title)}</title>",
            f"<desc>{escape(description)}</desc>",
            f'<rect width="{_n(width)}" height="{_n(height)}" rx="6" fill="{LIGHT.paper}"/>',
        ]
        self._size = f'width="{_n(width)}" height="{_n(height)}"'
        self._view = f'viewBox="0 0 {_n(width)} {_n(height)}"'

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        color: str,
        fill: float = 0.0,
        line: float = 1.2,
    ) -> None:
        """A rounded box, its corner at (x, y); `fill` from 0 (paper) to 1 (its colour)."""
        self._shapes.append(
            f'<rect x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}" rx="5" '
            f'fill="{LIGHT.paper}"/>'
            f'<rect x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}" rx="5" '
            f'fill="{color}" fill-opacity="{_n(fill)}" stroke="{color}" stroke-width="{_n(line)}"/>'
        )

    def text(
        self,
        x: float,
        y: float,
        words: str,
        size: float = 12,
        anchor: str = "middle",
        bold: bool = False,
        code: bool = False,
        color: str = INK,
    ) -> None:
        """A line of words; (x, y) is on its base line."""
        family = "ui-monospace, Menlo, Consolas, monospace" if code else "system-ui, sans-serif"
        style = f"font-family={quoteattr(family)} fill={quoteattr(color)}"
        style += ' font-weight="600"' if bold else ""
        self._shapes.append(
            f'<text x="{_n(x)}" y="{_n(y)}" font-size="{_n(size)}" text-anchor="{anchor}" '
            f"{style}>{escape(words)}</text>"
        )

    def arrow(
        self, points: Sequence[tuple[float, float]], color: str = INK, line: float = 1.2
    ) -> None:
        """A line through points, bent gently where it turns, with a head at its end.

        Between two points it runs straight if they lie beside or above each other, else in an S
        that begins and ends vertically.
        """
        parts = [f"M{_n(points[0][0])} {_n(points[0][1])}"]
        end = _short_of(points[-2], points[-1])
        for (x0, y0), (x1, y1) in zip(points, [*points[1:-1], end], strict=False):
            if abs(x1 - x0) < 0.5 or abs(y1 - y0) < 0.5:
                parts.append(f"L{_n(x1)} {_n(y1)}")
            else:
                middle = (y0 + y1) / 2
                parts.append(f"C{_n(x0)} {_n(middle)} {_n(x1)} {_n(middle)} {_n(x1)} {_n(y1)}")
        self._shapes.append(
            f'<path d="{"".join(parts)}" fill="none" stroke="{color}" stroke-width="{_n(line)}" '
            f'stroke-opacity="0.75"/>{_head(end, points[-1], color)}'
        )

    def svg(self) -> str:
        """The document."""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {self._size} {self._view}>\n'
            + "\n".join(self._shapes)
            + "\n</svg>\n"
        )


def _short_of(before: tuple[float, float], end: tuple[float, float]) -> tuple[float, float]:
    (x0, y0), (x1, y1) = before, end
    if abs(y1 - y0) < 0.5:
        return x1 - _HEAD * (1 if x1 > x0 else -1), y1
    return x1, y1 - _HEAD * (1 if y1 > y0 else -1)


def _head(base: tuple[float, float], tip: tuple[float, float], color: str) -> str:
    (x0, y0), (x1, y1) = base, tip
    dx, dy = (y1 - y0) * 0.6, (x1 - x0) * 0.6  # across the line
    corners = ((x1, y1), (x0 + dx, y0 + dy), (x0 - dx, y0 - dy))
    points = " ".join(f"{_n(x)},{_n(y)}" for x, y in corners)
    return f'<polygon points="{points}" fill="{color}"/>'


def _n(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")
