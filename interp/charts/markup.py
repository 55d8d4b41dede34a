"""Texts in pages and drawings."""

import html

from interp.charts.tokens import legible


def escape(text: str) -> str:
    """A text for HTML or SVG: neither markup nor anything that turns the direction of the rest."""
    return html.escape(legible(text))
