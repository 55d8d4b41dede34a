"""Interventions as a numbered list."""

from __future__ import annotations

from typing import TYPE_CHECKING

from interp.display.markup import count_text, folded, one_line

if TYPE_CHECKING:
    from interp.interventions import Interventions


def interventions_html(interventions: Interventions) -> str:
    """What each of them does, in the order in which they are made."""
    lines = "\n".join(f"<li>{one_line(each.describe())}</li>" for each in interventions)
    summary = count_text(len(interventions), "intervention")
    return folded("interventions", summary, f"<ol>\n{lines}\n</ol>", is_open=True)
