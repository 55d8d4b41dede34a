"""What stands where on the attention page."""

from __future__ import annotations

from typing import Any

import streamlit as st

from dashboards.drawing import figures, mosaic
from dashboards.drawing.theme import is_dark
from dashboards.page.address import Choices
from dashboards.page.subject import Subject
from dashboards.views.attention import behaviours, choice, flow, head, numbers
from dashboards.views.attention.choice import ATTENDS, ROLLOUT, Wanted
from interp.errors import InputError

CAVEAT = (
    "Attention weights alone are not an explanation: they say from where a head takes, and the "
    "values it finds there decide what is moved and how much of it."
)
_BESIDE = 4  # tiles in a row at most that leave room for the head beside them
_TILES_IN_A_ROW = 6  # of one layer
_BESIDE_WIDTH = 0.42  # of the page
_BESIDE_HEIGHT = 0.48  # of an overview's that has the page to itself


def show(subject: Subject, choices: Choices) -> None:
    """Draw the page."""
    if not subject.loaded.model.cfg.n_layers:
        raise InputError(f"{subject.loaded.name} has no layers, so it has no attention.")
    st.caption(CAVEAT)
    wanted = choice.draw(subject, choices)
    columns = _columns(subject, wanted)
    if columns <= _BESIDE:
        left, right = st.columns([_BESIDE_WIDTH, 1 - _BESIDE_WIDTH])
        with left:
            _overview(subject, choices, wanted, columns)
        with right:
            head.draw_map(subject, wanted)
        lines, focus = st.columns([3, 2])
    else:
        _overview(subject, choices, wanted, columns)
        left, lines = st.columns(2)
        with left:
            head.draw_map(subject, wanted)
            focus = st.container()
    with lines:
        flow.draw(subject, choices, wanted)
    with focus:
        head.draw_focus(subject, wanted)
    behaviours.draw(subject, choices, wanted)


def _columns(subject: Subject, wanted: Wanted) -> int:
    """Tiles in a row of the overview."""
    n_heads = subject.loaded.model.cfg.n_heads
    return n_heads if wanted.whole or n_heads <= _BESIDE else _TILES_IN_A_ROW


def _overview(subject: Subject, choices: Choices, wanted: Wanted, columns: int) -> None:
    what = ATTENDS[wanted.attends] if subject.loaded.is_seq2seq else "Attention"
    st.subheader(
        "All layers" if wanted.whole else f"Layer {wanted.layer}",
        help="Click a head to see it large.",
    )
    found = numbers.overview(subject, wanted)
    layers = numbers.shown_layers(subject, wanted)
    chosen = None
    if isinstance(wanted.head, int) and wanted.measure != ROLLOUT:
        chosen = (wanted.layer, wanted.head)
    drawn = mosaic.draw(found, layers, columns, chosen, dark=is_dark())
    if columns <= _BESIDE:
        drawn.update_layout(height=round(_BESIDE_HEIGHT * drawn.layout.height))
    which = "all layers" if wanted.whole else f"layer {wanted.layer}"
    alt = (
        f"{what} of {found.shape[0] * found.shape[1]} heads, those of {which}: destination tokens "
        f"down, source tokens across, {_scale(wanted)}, blank where a token cannot be seen."
        f"{numbers.clipped(subject, wanted, numbers.overview_room(subject, wanted))}"
    )
    # Another head, another element: a tile that was clicked before can be clicked again.
    key = f"attention/mosaic/{wanted.layer}/{wanted.head}/{'all' if wanted.whole else 'layer'}"
    figures.plot(
        drawn, alt, key, toolbar=False,
        on_select=lambda: _pick(choices, key), selection_mode="points",
    )  # fmt: skip


def _scale(wanted: Wanted) -> str:
    if wanted.prompts == "difference":
        return "stronger the more the two prompts differ"
    if wanted.measure == "weighted":
        return "from 0 to the largest of them"
    what = "" if wanted.measure == "pattern" else "patterns, "
    return f"{what}from 0 to 1"


def _pick(choices: Choices, key: str) -> None:
    """Choose the head that was clicked."""
    points: list[Any] = st.session_state[key]["selection"]["points"]
    for point in points:
        if point.get("customdata"):
            layer, number = point["customdata"]
            choices.keep("layer", str(layer))
            choices.keep("head", str(number))
