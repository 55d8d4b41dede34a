"""What the model predicts: at the chosen position, and at all of them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import streamlit as st

from dashboards.drawing import figures
from dashboards.drawing.theme import is_dark
from dashboards.page.address import Choices
from dashboards.page.script import script
from dashboards.page.subject import Subject
from dashboards.readings.predictions import N_PREDICTIONS, Reading, kind
from interp.charts import Chart, palette
from interp.charts.tokens import visible

if TYPE_CHECKING:
    import plotly.graph_objects as go

WINDOW = 40  # positions in one picture
_ROW = 22  # pixels
_HEADINGS = {"next": "What comes next", "masked": "What stands here", "here": "Outputs"}
_WHERE = {"next": "after", "masked": "at", "here": "at"}
_WHAT = {"next": "next token", "masked": "token", "here": "output"}


def draw(subject: Subject, choices: Choices, found: Reading, position: int) -> None:
    """Draw the likeliest outputs at the chosen position, and those of the positions around it."""
    about = kind(subject)
    st.subheader(_HEADINGS[about])
    _here(subject, found, position)
    _everywhere(subject, choices, found, position)


def draw_classes(subject: Subject, found: Reading) -> None:
    """Draw the outputs of a classifier."""
    st.subheader("What the model says")
    table = found.predictions
    top = table.iloc[0]
    drawn = Chart(
        kind="bars",
        table="classes",
        x="rank",
        x_text="token",
        x_label="class",
        value="probability",
        probability=True,
        title="Classes",
        alt=f"Probabilities of {len(table)} classes. The likeliest is {top['token']}, with "
        f"probability {top['probability']:.3g}.",
    )
    body = (
        "from analyses.predictions.next_tokens import outputs_table\n"
        f'table = outputs_table(model, model(**inputs), ["the text"], n={len(table)})'
    )
    columns = ["rank", "token", "probability", "logit"]
    picked = f"\ntable = table[{columns}]"
    left, right = st.columns([3, 2])
    with left:
        figures.chart(
            drawn,
            table,
            "prompt/figure/classes",
            height=340,
            titled=False,
            code=script(subject, body),
        )
    with right:
        code = script(subject, body + picked)
        figures.table(table[columns], "prompt/table/classes", "classes", code)


def _here(subject: Subject, found: Reading, position: int) -> None:
    here = found.predictions[found.predictions["position"] == position].reset_index(drop=True)
    about = kind(subject)
    at = visible(subject.predicts.texts[position])
    top = here.iloc[0]
    drawn = Chart(
        kind="bars",
        table="predictions",
        x="rank",
        x_text="token",
        x_label=_WHAT[about],
        value="probability",
        probability=True,
        title=f"{_WHAT[about].capitalize()} {_WHERE[about]} position {position} (“{at}”)",
        alt=(
            f"Probabilities of the {len(here)} likeliest tokens {_WHERE[about]} position "
            f"{position} (“{at}”). The likeliest is “{visible(top['token'])}”, "
            f"with probability {top['probability']:.3g}."
        ),
    )
    left, right = st.columns([3, 2])
    with left:
        figures.chart(
            drawn,
            here,
            "prompt/figure/predictions",
            height=380,
            code=_code(subject, f"[{position}]"),
        )
    with right:
        columns = ["rank", "token", "token_id", "probability", "logit"]
        code = _code(subject, f"[{position}]", f"\ntable = table[{columns}]")
        figures.table(here[columns], "prompt/table/predictions", "predictions", code)


def _everywhere(subject: Subject, choices: Choices, found: Reading, position: int) -> None:
    n = len(subject.predicts.tokens)
    start = max(0, min(n - WINDOW, position - WINDOW // 2))
    places = range(start, min(n, start + WINDOW))
    table = found.predictions[found.predictions["position"].isin(places)].reset_index(drop=True)
    first = table[table["rank"] == 1]
    about = kind(subject)
    window = "" if len(places) == n else f" Positions {places[0]} … {places[-1]} of {n} are drawn."
    drawn = Chart(
        kind="heatmap",
        table="predictions",
        x="rank",
        x_label=f"rank of the {_WHAT[about]}",
        y="position",
        y_text="at_token",
        y_label=f"{_WHERE[about]} the token",
        value="probability",
        text="token",
        probability=True,
        title="The likeliest at every position",
        alt=(
            f"The {table['rank'].max()} likeliest outputs at each position, positions down, ranks "
            "across, coloured by probability: the likeliest has "
            f"{first['probability'].mean():.2f} on average.{window}"
        ),
    )
    key = f"prompt/figure/everywhere/{position}"
    figures.chart(
        drawn,
        table,
        key,
        height=_ROW * len(places) + 110,
        code=_code(subject, f"range({places[0]}, {places[-1] + 1})"),
        adjust=partial(_mark, row=position - start, ranks=int(table["rank"].max())),
        on_select=lambda: _pick(choices, key),
        selection_mode="points",
    )


def _code(subject: Subject, positions: str, rest: str = "") -> str:
    tokens = "tokens" if subject.decoder is None else "decoder_tokens"
    return script(
        subject,
        "from analyses.predictions.next_tokens import outputs_table\n"
        "from analyses.inputs.prompts import token_texts\n"
        f"texts = token_texts(model, {tokens}[0])\n"
        f"table = outputs_table(model, model(**inputs)[0], texts, {positions}, {N_PREDICTIONS})"
        f"{rest}",
    )


def _mark(figure: go.Figure, row: int, ranks: int) -> None:
    """Outline the row of the chosen position."""
    figure.add_shape(
        type="rect",
        x0=-0.5,
        x1=ranks - 0.5,
        y0=row - 0.5,
        y1=row + 0.5,
        line={"color": palette.theme(is_dark()).accent, "width": 2},
    )


def _pick(choices: Choices, key: str) -> None:
    """Choose the position whose row was clicked."""
    points: list[Any] = st.session_state[key]["selection"]["points"]
    for point in points:
        if point.get("customdata"):
            choices.keep("position", str(point["customdata"][1]))
