"""The values that conditions are named by: each label must stand for one of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator, ValidationInfo


def fractions(name: str, values: Sequence[float]) -> list[float]:
    """The values, from the least, of a setting such as densities: labels show six digits of them.

    Args:
        name: Of the setting.
        values: As they were given.

    Raises:
        ValueError: If one is not above 0 and at most 1, or two have the same label. Pydantic makes
            it an `InputError` of the settings.
    """
    within = all(0 < value <= 1 for value in values)
    if not within or len({f"{value:g}" for value in values}) < len(values):
        raise ValueError(f"{name} must be different numbers above 0 and at most 1, to six digits")
    return sorted(values)


def _from_densest(given: list[float], info: ValidationInfo) -> list[float]:
    return fractions(str(info.field_name), given)[::-1]


FromDensest = Annotated[list[float], AfterValidator(_from_densest)]
"""Densities in any order, taken from the highest to the lowest."""
