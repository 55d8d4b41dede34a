"""Token strings made visible, so that a space or a newline can be seen on an axis."""

import unicodedata

_VISIBLE = {" ": "·", "\n": "↵", "\t": "⇥", "\r": "␍"}
EMPTY = "∅"
ELLIPSIS = "…"


def visible(token: str) -> str:
    """Write a token with its white space and unprintable characters shown.

    Args:
        token: The decoded text of one token.

    Returns:
        Space as `·`, newline as `↵`, tab as `⇥`, carriage return as `␍`, the empty string as
        `∅`; other control, format and unassigned characters and exotic spaces as escapes.
    """
    if not token:
        return EMPTY
    return "".join(_VISIBLE.get(char) or _escaped(char) for char in token)


def printable(text: str) -> str:
    """A name as it stands, unprintable characters as escapes; its spaces are left alone."""
    return "".join(char if char == " " else _escaped(char) for char in text)


def shortened(text: str, limit: int) -> str:
    """Cut a label to at most `limit` characters, the last of them an ellipsis if it was cut."""
    return text if len(text) <= limit else text[: limit - 1] + ELLIPSIS


def _escaped(char: str) -> str:
    if unicodedata.category(char)[0] in "CZ":
        return char.encode("unicode_escape").decode("ascii")
    return char
