"""How an error tells of what a file holds."""

from __future__ import annotations

MOST = 300  # characters


def short(told: object, most: int = MOST) -> str:
    """A text in one line that any screen and file can show, cut to at most so many characters."""
    # Cut before it is cleaned as well: what a file holds may be long.
    text = str(told)[: 8 * most].encode("utf-8", "backslashreplace").decode()
    text = " ".join(text.split())
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= most else f"{text[:most]} …"
