"""The few forms of HTML that all displays are made of, in the notebook's own colours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from interp.charts.markup import escape
from interp.charts.tokens import printable

_TABLE = (
    "border-collapse:collapse;font-size:.875rem;font-variant-numeric:tabular-nums;"
    "text-align:left;white-space:nowrap"
)
_CELL = "text-align:left;padding:.1rem 1rem .1rem 0"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Texts as a table, which scrolls where it is long."""
    head = "".join(
        f'<th scope="col" style="text-align:left">{escape(name)}</th>' for name in header
    )
    body = "\n".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return (
        '<div style="overflow:auto;max-height:30rem" tabindex="0">'
        f'<table style="{_TABLE}"><thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def folded(kind: str, summary: str, contents: str, *, is_open: bool) -> str:
    """Ready HTML behind a line of text that opens it, without any script.

    Args:
        kind: What is shown, as the end of a class name.
        summary: The line, as text.
        contents: HTML.
        is_open: Whether it is open at first.
    """
    return (
        f'<details class="interp-{kind}"{" open" if is_open else ""}>'
        f"<summary>{one_line(summary)}</summary>\n{contents}</details>"
    )


def one_line(text: str) -> str:
    """A text for HTML in one line: what a reader cannot see, line ends included, as escapes."""
    return escape(printable(text))


def shape_text(shape: Iterable[int]) -> str:
    """`[2, 3]`."""
    return "[" + ", ".join(map(str, shape)) + "]"


def count_text(n: int, what: str) -> str:
    """`1 row`, `1,200 rows`."""
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def _cell(text: str) -> str:
    return f'<td style="{_CELL}">{one_line(text)}</td>'
