"""What the page on lengths shows of scores."""

from __future__ import annotations

import torch

from benchmarks.length_generalisation import accuracy_cell, table_of
from interp.positional.length import LengthScores, PositionScores


def _of(length: int, right: list[list[bool]] | None) -> LengthScores:
    scores, refusal = None, "no"
    if right is not None:
        found = torch.tensor(right)
        scores, refusal = PositionScores(found.double(), found, torch.ones_like(found)), None
    return LengthScores("plain", None, length, 2, "text", scores, refusal)


def test_cells_tell_the_whole_from_what_lies_beyond() -> None:
    # Rows of 4 tokens, trained on 2: 5 of 8 right, 1 of 4 beyond.
    beyond = _of(4, [[True, True, True, False], [True, True, False, False]])
    # Means of rows 3/4 and 2/4: their standard error is (1/4) / 2.
    assert accuracy_cell(beyond) == "0.62 ± 0.12 (0.25)"
    assert accuracy_cell(_of(2, [[True, False], [True, False]])) == "0.50 ± 0.00"
    assert accuracy_cell(_of(4, None)) == "refuses"


def test_a_column_for_each_length() -> None:
    table = table_of([("a", [_of(4, None), _of(2, [[True, True], [True, True]])])], [2, 4])
    assert table.splitlines() == [
        "|  | 2 | 4 |",
        "| --- | --- | --- |",
        "| a | 1.00 ± 0.00 | refuses |",
    ]
