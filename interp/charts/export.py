"""Drawn figures and their tables as files: SVG, PNG, a web page, CSV, Parquet.

Pictures and pages carry the chart's title and its text alternative.
"""

import base64
import io
import os
import re
from string import Template
from typing import TYPE_CHECKING, Any, Protocol

from interp.charts.markup import escape
from interp.charts.spec import Chart
from interp.charts.tokens import printable, shortened, visible
from interp.files.atomic import replacing_file

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_DOTS_PER_INCH = 150
_SVG_TAG = re.compile(r"<svg\b[^>]*?(?=>)")
_MOST_ROWS = 1_000  # shown on a page; the CSV inside it has all
_MOST_LETTERS = 1_000  # of a cell
# What XML cannot hold, not even escaped.
_ILLEGAL = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_STYLE = """
:root{color-scheme:light dark;--dim:light-dark(#555b66,#a8b0bc);--line:light-dark(#d9dce2,#343a43)}
body{margin:0 auto;max-width:64rem;padding:1.5rem 1rem 3rem;font:16px/1.5 system-ui,sans-serif;
color:light-dark(#222,#e4e7eb);background:light-dark(#fff,#14171c)}
h1{font-size:1.35rem;margin:0 0 1rem}
figure{margin:0}
.drawing{background:#fff;color:#222;border-radius:6px;padding:8px;overflow-x:auto;width:fit-content;
max-width:100%;box-sizing:border-box}
.drawing svg{display:block;max-width:100%;height:auto}
figcaption{color:var(--dim);margin:.5rem 0 1.5rem}
summary{cursor:pointer;padding:.25rem 0}
.scroll{overflow:auto;max-height:40rem}
table{border-collapse:collapse;font-size:.875rem;font-variant-numeric:tabular-nums}
caption{text-align:left;color:var(--dim);padding:.25rem 0;white-space:nowrap}
th,td{padding:.2rem .9rem .2rem 0;border-bottom:1px solid var(--line);text-align:left;
vertical-align:top}
thead th{position:sticky;top:0;background:light-dark(#fff,#14171c)}
td.number,th.number{text-align:right;white-space:nowrap}
"""

_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; \
style-src 'unsafe-inline'">
<title>$title</title>
<style>$style</style>
</head>
<body>
<main>
<h1>$title</h1>
<figure>
<div class="drawing">$drawing</div>
<figcaption>$alt</figcaption>
</figure>
<details open>
<summary>The numbers</summary>
<p><a download="$name.csv" href="data:text/csv;base64,$csv">Download all $n_rows rows as CSV</a></p>
$table
</details>
</main>
</body>
</html>
""")


class Told(Protocol):
    """What a picture carries in words: a `Chart` has it, and so may whatever else is drawn."""

    @property
    def title(self) -> str:
        """What it shows, in a few words."""
        ...

    @property
    def alt(self) -> str:
        """The text alternative."""
        ...


def svg(figure: "Figure", chart: Told) -> str:
    """The figure as an SVG document whose `<title>` and `<desc>` are the chart's.

    The same figure gives the same text: no date is written. Characters that XML cannot hold stand
    there as escapes.
    """
    # Without these keys matplotlib would add RDF, with the date and its own name.
    plain = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    text = _saved(figure, "svg", plain).decode("utf-8")
    head, tail = text[: text.index("<svg")], text[text.index("<svg") :]
    titled = _SVG_TAG.sub(lambda tag: f'{tag.group()} role="img"', tail, count=1)
    start = titled.index(">") + 1
    told = f"\n <title>{escape(chart.title)}</title>\n <desc>{escape(chart.alt)}</desc>"
    return _ILLEGAL.sub(lambda c: printable(c[0]), head + titled[:start] + told + titled[start:])


def png(figure: "Figure", chart: Told) -> bytes:
    """The figure as a PNG file whose Title and Description are the chart's."""
    return _saved(figure, "png", {"Title": chart.title, "Description": chart.alt})


def html(chart: Chart, table: "pd.DataFrame") -> str:
    """The chart as one web page that loads nothing: drawing, text alternative, and the numbers.

    The numbers are a table, of the first rows where there are many, and a CSV file inside the page
    with all that are drawn. The page runs no script and follows the reader's light or dark theme.

    Args:
        chart: What to draw.
        table: The table that it names, all rows of it.

    Raises:
        InputError: As `Chart.rows`.
        MissingExtraError: If matplotlib or seaborn is not installed.
    """
    from interp.charts.mpl import draw

    return page(chart, chart.rows(table), svg(draw(chart, table), chart))


def page(chart: Chart, rows: "pd.DataFrame", drawing: str) -> str:
    """As `html`, of a picture that was drawn otherwise.

    Args:
        chart: Its title and text alternative.
        rows: The numbers that are drawn.
        drawing: An SVG document.
    """
    return _PAGE.substitute(
        title=escape(chart.title),
        style=_STYLE,
        drawing=drawing[drawing.index("<svg") :],
        alt=escape(chart.alt),
        name=re.sub(r"[^A-Za-z0-9_-]+", "-", chart.table),
        csv=base64.b64encode(csv(rows)).decode(),
        n_rows=f"{len(rows):,}",
        table=rows_html(rows),
    )


def csv(table: "pd.DataFrame") -> bytes:
    """The table as CSV in UTF-8, without its index; numbers in full, so that they read back."""
    return table.to_csv(index=False).encode()


def parquet(table: "pd.DataFrame") -> bytes:
    """The table as a Parquet file, without its index.

    Raises:
        ImportError: If pandas has no Parquet library.
    """
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()


def rows_html(rows: "pd.DataFrame") -> str:
    """The first rows of a table as an HTML table that can be scrolled, spaces of texts visible."""
    shown = rows.head(_MOST_ROWS)
    left_out = len(rows) - len(shown)
    caption = f"{len(rows):,} rows" + (f", of which the first {len(shown):,}" if left_out else "")
    kinds = ["" if rows[c].dtype.kind not in "iuf" else ' class="number"' for c in rows.columns]
    head = "".join(
        f'<th scope="col"{kind}>{escape(str(column))}</th>'
        for column, kind in zip(rows.columns, kinds, strict=True)
    )
    lines = [
        "<tr>"
        + "".join(f"<td{k}>{_cell(value)}</td>" for value, k in zip(row, kinds, strict=True))
        + "</tr>"
        for row in shown.itertuples(index=False)
    ]
    return (
        f'<div class="scroll" tabindex="0"><table><caption>{caption}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>\n" + "\n".join(lines) + "\n</tbody></table></div>"
    )


def write_svg(path: str | os.PathLike[str], figure: "Figure", chart: Told) -> None:
    """Write `svg(figure, chart)` to a file, as a whole or not at all."""
    text = svg(figure, chart)
    with replacing_file(path) as fresh:
        fresh.write_text(text, encoding="utf-8")


def write_png(path: str | os.PathLike[str], figure: "Figure", chart: Told) -> None:
    """Write `png(figure, chart)` to a file, as a whole or not at all."""
    data = png(figure, chart)
    with replacing_file(path) as fresh:
        fresh.write_bytes(data)


def write_html(path: str | os.PathLike[str], chart: Chart, table: "pd.DataFrame") -> None:
    """Write `html(chart, table)` to a file, as a whole or not at all."""
    text = html(chart, table)
    with replacing_file(path) as fresh:
        fresh.write_text(text, encoding="utf-8")


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = visible(value) if isinstance(value, str) else str(value)
    return escape(shortened(text, _MOST_LETTERS))


def _saved(figure: "Figure", suffix: str, metadata: dict[str, Any]) -> bytes:
    from interp.charts.mpl import style

    buffer = io.BytesIO()
    with style():
        figure.savefig(
            buffer, format=suffix, metadata=metadata, dpi=_DOTS_PER_INCH, bbox_inches="tight"
        )
    return buffer.getvalue()
