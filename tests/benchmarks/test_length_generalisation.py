"""What the page on lengths shows of scores."""

from __future__ import annotations

import math

import pytest
import torch

from benchmarks.length_generalisation import (
    POSITION_ROWS,
    RampInTurns,
    accuracy_cell,
    position_table,
    table_of,
)
from interp import load_model
from interp.position_effects.length import LengthScores, PositionScores, by_position
from interp.position_effects.rows import position_rows


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


def test_positions_are_read_from_the_last_trained_ones_on() -> None:
    models = {name: load_model(f"zoo:copy-{name}", device="cpu") for name in ("learned", "alibi")}
    head, _, alibi = position_table(models, 96, "trained").splitlines()
    assert head == "|  | " + " | ".join(f"{at} … {at + 7}" for at in range(40, 96, 8)) + " |"
    rows = position_rows(models["alibi"], POSITION_ROWS, 96, offsets="trained")
    scores = by_position(models["alibi"], rows)
    right, scored = scores.right[:, 40:48].sum(), scores.scored[:, 40:48].sum()
    assert alibi.startswith(f"| alibi | {float(right / scored):.2f} |")


def test_the_ramp_of_the_formula() -> None:
    """A pair that turns r times keeps (r - 1) / 31 of its frequency, the rest is divided."""
    turns = [0.5, 1.0, 8.75, 32.0, 100.0]
    plain = torch.tensor([2 * math.pi * r / 48 for r in turns], dtype=torch.float64)
    scaling = RampInTurns(kind="yarn", factor=4.0, original_n_ctx=48)
    stretched = scaling.frequencies(plain, 10_000.0, 96) / plain
    expected = [0.25, 0.25, 0.25 + 0.75 * 0.25, 1.0, 1.0]
    assert stretched.tolist() == pytest.approx(expected)
