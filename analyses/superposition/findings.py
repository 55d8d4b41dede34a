"""What a paper says of its experiment, beside what the same experiment gave here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import pandas as pd


class Finding(NamedTuple):
    """A claim and whether it holds here.

    Attributes:
        claim: What is said to be so.
        expected: What the paper shows of it, or what follows from theory.
        here: What was measured, in words with its numbers.
        agrees: Whether the two agree, by a rule that the claim or the expectation states.
    """

    claim: str
    expected: str
    here: str
    agrees: bool


def findings_table(found: Iterable[Finding | None], whence: str = "paper") -> pd.DataFrame:
    """A row for each claim; None has no row: a claim that what was trained cannot show.

    Args:
        found: The claims, in order.
        whence: The name of the column of what is expected.

    Returns:
        claim, `whence`, here, agrees.
    """
    rows = [each for each in found if each is not None]
    columns = ["claim", whence, "here", "agrees"]
    return pd.DataFrame(rows, columns=columns).astype({"agrees": bool})
