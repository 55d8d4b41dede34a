"""What kinds of heads there are on this prompt, by where they look."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from dashboards.drawing import figures
from dashboards.drawing.theme import is_dark
from dashboards.page.address import Choices
from dashboards.page.script import script
from dashboards.page.subject import Subject
from dashboards.readings import attention
from dashboards.views.attention.choice import Wanted
from interp.behaviour import BEHAVIOURS
from interp.charts import Chart, palette

if TYPE_CHECKING:
    import plotly.graph_objects as go

_ROW = 30  # pixels of a layer
_MEANS = {
    "previous token": "To the token before.",
    "duplicate token": "To earlier occurrences of the same token.",
    "induction": "To the tokens right after earlier occurrences of the same token.",
    "first token": "To the first token.",
    "same token": "To the token itself.",
}


def draw(subject: Subject, choices: Choices, wanted: Wanted) -> None:
    """Draw the scores of all heads for one behaviour, and all of the chosen head's."""
    st.subheader("What kinds of heads there are")
    kinds = [name.replace("_", " ") for name in BEHAVIOURS]
    with st.columns([2, 3])[0]:
        kind = choices.choice(
            "behaviour",
            "Behaviour",
            kinds,
            "induction",
            show=str.capitalize,
            help="Where a head of this kind looks.",
        )
    if wanted.attends == "cross":
        st.caption("Kinds of heads are told by attention from a text to itself.")
        return
    whose = subject.with_other() if wanted.prompts == "second" else subject
    table = attention.behaviours(whose, wanted.attends)
    read = "the second prompt" if wanted.prompts == "second" else "the prompt"
    st.caption(
        f"{_MEANS[kind]} The share of a head's attention that goes there, on {read} alone, "
        "averaged over the tokens that have such a place; chance is what even attention would put "
        "there. Where a head looks does not say what it does; the analysis head-scores tests heads "
        "on many sequences."
    )
    left, right = st.columns([3, 2])
    with left:
        _heads(whose, choices, wanted, table[table["behaviour"] == kind], kind)
    with right:
        _own(whose, wanted, table)


def _heads(
    whose: Subject, choices: Choices, wanted: Wanted, table: pd.DataFrame, kind: str
) -> None:
    if table.empty:
        st.info(f"No token of this prompt has a place where such a head would look: {kind}.")
        return
    scores = table["score"]
    best = table.iloc[int(scores.argmax())]
    drawn = Chart(
        kind="heatmap",
        table="behaviours",
        x="head",
        y="layer",
        value="score",
        value_label="attention",
        # Interventions on a pattern may leave 0 … 1.
        probability=bool(scores.between(0, 1).all()),
        signed=bool((scores < 0).any()),
        title=f"{kind.capitalize()}: attention of every head",
        alt=(
            "Attention of every head to where such a head would look, layers down, heads across. "
            f"Most has {best['label']}, {best['score']:.2f}; chance is {best['chance']:.2f}."
        ),
    )
    key = f"attention/behaviours/{wanted.layer}/{wanted.head}"
    figures.chart(
        drawn,
        table.reset_index(drop=True),
        key,
        code=script(
            whose,
            f'{_body(wanted)}\ntable = table[table["behaviour"] == "{kind}"]'
            ".reset_index(drop=True)",
        ),
        adjust=partial(_fit, wanted=wanted),
        on_select=lambda: _pick(choices, key),
        selection_mode="points",
    )


def _own(whose: Subject, wanted: Wanted, table: pd.DataFrame) -> None:
    """All scores of the chosen head."""
    if not isinstance(wanted.head, int):
        return
    label = f"L{wanted.layer}H{wanted.head}"
    columns = ["behaviour", "score", "chance", "excess", "destinations"]
    own = table[table["label"] == label][columns].reset_index(drop=True)
    st.html(f'<p class="figure-title">All scores of {label}</p>')
    picked = f'\ntable = table[table["label"] == "{label}"]\ntable = table[{columns}]'
    code = script(whose, f"{_body(wanted)}{picked}.reset_index(drop=True)")
    figures.table(own, "attention/table/behaviours", f"behaviours-{label}", code)


def _body(wanted: Wanted) -> str:
    return (
        "from analyses.heads.attention_maps import behaviour_table\n"
        f'table = behaviour_table(model, inputs, "{wanted.attends}")'
    )


def _fit(figure: go.Figure, wanted: Wanted) -> None:
    """Rows of a plain height, and an outline about the chosen head."""
    figure.update_layout(height=_ROW * len(figure.data[0].z) + 130)
    if isinstance(wanted.head, int):
        x, y = wanted.head, wanted.layer
        figure.add_shape(
            type="rect", x0=x - 0.5, x1=x + 0.5, y0=y - 0.5, y1=y + 0.5,
            line={"color": palette.theme(is_dark()).accent, "width": 2},
        )  # fmt: skip


def _pick(choices: Choices, key: str) -> None:
    """Choose the head whose cell was clicked."""
    points: list[Any] = st.session_state[key]["selection"]["points"]
    for point in points:
        if point.get("customdata"):
            number, layer = point["customdata"][:2]
            choices.keep("layer", str(layer))
            choices.keep("head", str(number))
