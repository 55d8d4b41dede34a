"""What the analyses of position share: which rows of tokens they read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from analyses.base import Parameters
from analyses.inputs.pairs import Texts
from interp.position_effects.rows import Rows, RowsKind, position_rows

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer


class RowChoice(Parameters):
    """Of what kind the rows are."""

    seed: int = Field(0, ge=0, description="Of all random draws.")
    text: Texts = Field(
        [],
        description="Texts to cut the rows from, each by itself; by default rows of the model's "
        "task, or random tokens.",
    )
    rows: RowsKind = Field(
        "auto",
        description="What rows are: of the model's task, of the texts given, of random tokens, or "
        "of random tokens that come twice; auto is the first of text, task, random that there is.",
    )
    prepend_bos: bool | None = Field(
        None,
        description="Begin rows with BOS; by default as the model was made for. Not for tasks.",
    )


class RowsParams(RowChoice):
    """What is read."""

    sequences: int = Field(64, ge=2, le=100_000, description="How many rows are read.")
    length: int | None = Field(
        None,
        ge=2,
        description="Tokens of a row; by default the length that the model's task was trained at, "
        "without a task 64, or what the model was made for.",
    )


def resolve_rows(model: HookedTransformer, params: RowsParams) -> Rows:
    """The rows that the parameters ask for.

    Raises:
        InputError: as `interp.position_effects.rows.position_rows`.
    """
    return position_rows(
        model,
        params.sequences,
        params.length,
        params.seed,
        params.text,
        params.rows,
        params.prepend_bos,
    )
