"""JSON of which no two readers could differ: RFC 8259 in UTF-8, and the limits of this file.

Python's own reader takes more: names that stand twice in an object (the last one holds), `NaN`,
UTF-16, halves of characters, and numbers that are infinite as floats.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn

from interp.errors import InputError
from interp.files.wording import short

MOST_BYTES = 64 * 2**20
MOST_NESTED = 100
MOST_DIGITS = 300  # of whole numbers: they all have a finite float


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        InputError: If it does not exist, is damaged or breaks a rule of `parse_json`, or holds
            something else than an object; the message names the file.
    """
    if not os.path.isfile(path):  # nor is it a pipe, whose reader would wait for ever
        raise InputError(f"{path} does not exist.")
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        document = parse_json(data)
    except (OSError, InputError) as fault:
        raise InputError(f"{path} is damaged: {short(fault)}") from fault
    if not isinstance(document, dict):
        raise InputError(f"{path} must hold a JSON object. It holds a {type(document).__name__}.")
    return document


def parse_json(text: str | bytes) -> Any:
    """The value that a text holds.

    Raises:
        InputError: For text that is no JSON, is not UTF-8 or begins with a byte order mark; a name
            that stands twice in an object; a number that is not finite or has more than 300
            digits; more than 100 levels of nesting or 64 MiB; and half of a character.
    """
    if isinstance(text, str | bytes) and len(text) > MOST_BYTES:
        raise InputError(f"JSON must be at most {MOST_BYTES} bytes long. This is longer.")
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        document = json.loads(
            text,
            object_pairs_hook=_distinct,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            parse_int=_whole,
        )
        _require_shallow(document)
    except InputError:
        raise
    except RecursionError as fault:
        raise _too_deep() from fault
    except (TypeError, ValueError) as fault:  # not text, not UTF-8, or not JSON
        raise InputError(short(fault)) from fault
    return document


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(n for n, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise InputError(f"the name {short(repr(twice), 80)} stands twice in one object")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise InputError(f"numbers must be finite. Received {name}")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise InputError(f"numbers must be finite as floats. Received {short(text, 40)}")
    return number


def _whole(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise InputError(f"numbers must have at most {MOST_DIGITS} digits. One has {len(text)}")
    return int(text)


def _require_shallow(document: Any) -> None:
    """Check depth and texts, level by level: no recursion that a document could overflow."""
    level = [document]
    for _ in range(MOST_NESTED + 1):
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                for name in value:
                    _require_whole_characters(name)
                below.extend(value.values())
            elif isinstance(value, list):
                below.extend(value)
            elif isinstance(value, str):
                _require_whole_characters(value)
        if not below:
            return
        level = below
    raise _too_deep()


def _require_whole_characters(text: str) -> None:
    if not text.isascii():
        text.encode("utf-8")  # half of a character (a lone surrogate) has no UTF-8: a ValueError


def _too_deep() -> InputError:
    return InputError(f"JSON must be nested at most {MOST_NESTED} levels deep. This is deeper")
