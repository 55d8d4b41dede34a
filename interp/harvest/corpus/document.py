"""One document, as it is read from a file, and what may be wrong with the file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from interp.errors import InputError

_MOST_NAMES = 20


@dataclass(frozen=True, slots=True)
class Document:
    """A text, or tokens, and where it stands.

    Attributes:
        content: The text, or the tokens that it is already.
        place: Where it stands in its file: the line that it begins at, from 1, or the row of a
            table, from 0.
        done: How much of the file is read with it, 0 to 1.
    """

    content: str | Sequence[int]
    place: int
    done: float


def no_column(where: str, column: str, known: Iterable[str]) -> InputError:
    """The error (to be raised by the caller) for a column that is not there."""
    names = [repr(name) for name in known]
    listed = ", ".join(names[:_MOST_NAMES]) + (", …" if len(names) > _MOST_NAMES else "")
    return InputError(f"{where} must have the column {column!r}. It has {listed or 'none'}.")


def unreadable(path: str, fault: Exception) -> InputError:
    """The error (to be raised by the caller) for a file that cannot be read."""
    reason = str(fault).strip().splitlines()
    return InputError(f"{path} cannot be read: {reason[0] if reason else type(fault).__name__}")
