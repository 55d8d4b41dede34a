"""The errors interp raises on purpose, so that a caller can tell bad input from a fault."""

import difflib
import importlib.util
import math
import operator
from collections.abc import Iterable

_MOST_TOLD = 3000  # characters of a message


class InterpError(Exception):
    """Base class of every error that interp raises on purpose."""


class InputError(InterpError, ValueError):
    """A value handed to interp breaks a rule; the message states the rule and the value.

    A message longer than 3000 characters is cut in its middle: a file can hold a value of any size.
    """

    def __init__(self, message: object = "") -> None:
        told = str(message)
        if len(told) > _MOST_TOLD:
            half = _MOST_TOLD // 2
            told = f"{told[:half]} […] {told[-half:]}"
        super().__init__(told)


class MissingExtraError(InterpError, ImportError):
    """An optional dependency is not installed; the message names the extra that brings it."""


def unknown(kind: str, name: str, known: Iterable[str]) -> InputError:
    """Make the error for a name that is not in a registry.

    Args:
        kind: What the name should have been, in the singular: `"analysis"`, `"model"`.
        name: The name that was given.
        known: The names that would have been accepted.

    Returns:
        An error (to be raised by the caller) that lists the known names, closest match first.
    """
    names = sorted(known)
    matches = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {matches[0]!r}?" if matches else ""
    return InputError(f"unknown {kind} {name!r}{hint} (known: {', '.join(names) or 'none'})")


def require_extra(module: str, extra: str) -> None:
    """Check that an optional dependency is installed, before it is imported.

    Args:
        module: The top-level module that is about to be imported.
        extra: The extra of this package that installs it.

    Raises:
        MissingExtraError: If the module cannot be found.
    """
    if importlib.util.find_spec(module) is None:
        raise MissingExtraError(f"{module} is not installed: pip install 'interp[{extra}]'")


def require(condition: bool, rule: str) -> None:
    """Raise `InputError` with this rule unless the condition holds."""
    if not condition:
        raise InputError(rule + ".")


def is_whole(value: object, minimum: int) -> bool:
    """Whether a value is an int (not a bool) of at least `minimum`."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= minimum


def require_whole(name: str, value: object, minimum: int) -> None:
    """Raise `InputError` unless a value is a whole number of at least `minimum`."""
    require(
        is_whole(value, minimum),
        f"{name} must be a whole number of at least {minimum}. Received {value!r}",
    )


def as_whole(name: str, value: object) -> int:
    """The int that a value is: also NumPy's, and a tensor's only element.

    Raises:
        InputError: if it is none.
    """
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except (RuntimeError, TypeError, ValueError):
        raise InputError(f"{name} must be a whole number. Received {value!r:.80}.") from None


def require_one_of(name: str, value: object, allowed: Iterable[object]) -> None:
    """Raise `InputError` unless a value is one of these."""
    choices = tuple(allowed)
    listed = ", ".join(map(repr, choices))
    require(value in choices, f"{name} must be one of {listed}. Received {value!r}")


def require_number(name: str, value: object, *, zero: bool = False) -> None:
    """Raise `InputError` unless a value is a finite positive number (or zero, where allowed)."""
    fits = (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and (value > 0 or (zero and value == 0))
    )
    rule = "not negative" if zero else "positive"
    require(fits, f"{name} must be a number and {rule}. Received {value!r}")
