"""Token strings made visible, so that a space or a newline can be seen on an axis."""

import re
import unicodedata

_VISIBLE = {" ": "·", "\n": "↵", "\t": "⇥", "\r": "␍"}
# Bidirectional controls: U+061C, U+200E and F, U+202A … E, U+2066 … 9.
_TURNS = frozenset(
    "\u061c\u200e\u200f" + "\u202a\u202b\u202c\u202d\u202e" + "\u2066\u2067\u2068\u2069"
)
_BETWEEN_WORDS = re.compile(r"(?<=\S) (?=\S)")
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


def place_label(text: str) -> str:
    """What stands at a place of an axis: a token as `visible` has it, or a name of several words.

    A single space between two other characters can be seen as it is, and stays one.
    """
    return " ".join(visible(word) for word in _BETWEEN_WORDS.split(text))


def printable(text: str) -> str:
    """A name as it stands, unprintable characters as escapes; its spaces are left alone."""
    return "".join(char if char == " " else _escaped(char) for char in text)


def legible(text: str) -> str:
    """A text as it stands, lines and all, but for what no reader sees and a page obeys.

    Control characters and those that turn the direction of what follows become escapes, so that a
    text cannot rearrange the page around it. Joiners, which scripts and emoji need, stay.
    """
    return "".join(
        char.encode("unicode_escape").decode("ascii")
        if char in _TURNS or (unicodedata.category(char) in ("Cc", "Cs") and char not in "\n\t")
        else char
        for char in text
    )


def shortened(text: str, limit: int) -> str:
    """Cut a label to at most `limit` characters, the last of them an ellipsis if it was cut."""
    return text if len(text) <= limit else text[: limit - 1] + ELLIPSIS


def _escaped(char: str) -> str:
    if unicodedata.category(char)[0] in "CZ":
        return char.encode("unicode_escape").decode("ascii")
    return char
