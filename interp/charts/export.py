"""Drawn figures as SVG and PNG, with the chart's text alternative inside the file."""

import io
import os
import re
from html import escape
from typing import TYPE_CHECKING, Any

from interp.atomic import replacing_file
from interp.charts.spec import Chart

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DOTS_PER_INCH = 150
_SVG_TAG = re.compile(r"<svg\b[^>]*?(?=>)")


def svg(figure: "Figure", chart: Chart) -> str:
    """The figure as an SVG document whose `<title>` and `<desc>` are the chart's.

    The same figure gives the same text: no date is written.
    """
    # Without these keys matplotlib would add RDF, with the date and its own name.
    plain = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    text = _saved(figure, "svg", plain).decode("utf-8")
    head, tail = text[: text.index("<svg")], text[text.index("<svg") :]
    titled = _SVG_TAG.sub(lambda tag: f'{tag.group()} role="img"', tail, count=1)
    start = titled.index(">") + 1
    told = f"\n <title>{escape(chart.title)}</title>\n <desc>{escape(chart.alt)}</desc>"
    return head + titled[:start] + told + titled[start:]


def png(figure: "Figure", chart: Chart) -> bytes:
    """The figure as a PNG file whose Title and Description are the chart's."""
    return _saved(figure, "png", {"Title": chart.title, "Description": chart.alt})


def write_svg(path: str | os.PathLike[str], figure: "Figure", chart: Chart) -> None:
    """Write `svg(figure, chart)` to a file, as a whole or not at all."""
    text = svg(figure, chart)
    with replacing_file(path) as fresh:
        fresh.write_text(text, encoding="utf-8")


def write_png(path: str | os.PathLike[str], figure: "Figure", chart: Chart) -> None:
    """Write `png(figure, chart)` to a file, as a whole or not at all."""
    data = png(figure, chart)
    with replacing_file(path) as fresh:
        fresh.write_bytes(data)


def _saved(figure: "Figure", suffix: str, metadata: dict[str, Any]) -> bytes:
    from interp.charts.mpl import style

    buffer = io.BytesIO()
    with style():
        figure.savefig(
            buffer, format=suffix, metadata=metadata, dpi=_DOTS_PER_INCH, bbox_inches="tight"
        )
    return buffer.getvalue()
