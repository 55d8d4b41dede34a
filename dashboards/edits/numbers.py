"""Lists of whole numbers as the notation writes them: `3`, `0-3`, `-1`, `0,2,5-7`, `*` for all."""

from __future__ import annotations

import re
from collections.abc import Sequence

from interp.errors import require

Numbers = tuple[int, ...] | None  # None: all

MOST = 512  # entries of one list, as many as a page's prompt has tokens
PATTERN = r"(?:\*|-?\d+(?:--?\d+)?(?:,-?\d+(?:--?\d+)?)*)"
_RANGE = re.compile(r"(-?\d{1,6})(?:-(-?\d{1,6}))?")


def read_numbers(text: str, what: str, negative: bool = False) -> Numbers:
    """The numbers of a list.

    Args:
        text: The list.
        what: What they count, in the plural, for messages.
        negative: Whether numbers below zero have a meaning (they count from the end).

    Raises:
        InputError: for something else, a range that leads down or across zero, and too many.
    """
    if text == "*":
        return None
    found: list[int] = []
    for part in text.split(","):
        match = _RANGE.fullmatch(part)
        require(match is not None, f"{what} are written 3, 0-3, 0,2,5-7 or *. Received {text!r}")
        assert match is not None
        first = int(match[1])
        last = first if match[2] is None else int(match[2])
        require(negative or first >= 0, f"{what} are counted from 0. Received {text!r}")
        require(
            first <= last and (first < 0) == (last < 0),
            f"a range of {what} leads up and not across zero. Received {part!r}",
        )
        require(
            len(found) + last - first < MOST,
            f"{what} are {MOST} at most in one list. Received {text!r}",
        )
        found += range(first, last + 1)
    return tuple(found)


def written_numbers(numbers: Numbers) -> str:
    """The list, with ranges for numbers that follow one another."""
    if numbers is None:
        return "*"
    runs: list[list[int]] = []
    for n in numbers:
        follows = bool(runs) and n == runs[-1][-1] + 1 and n != 0
        if follows:
            runs[-1].append(n)
        else:
            runs.append([n])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def as_argument(numbers: Numbers) -> int | Sequence[int] | None:
    """As `interp.interventions.Place` takes them: one number by itself."""
    return numbers[0] if numbers is not None and len(numbers) == 1 else numbers
