"""The logit lens: streams by position, and one position from stream to stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from analyses.inputs.targets import token_name
from dashboards.drawing import figures
from dashboards.drawing.wording import plain
from dashboards.page import links
from dashboards.page.address import Choices
from dashboards.page.script import script
from dashboards.page.subject import Subject
from dashboards.readings.contributions import leading_tokens
from dashboards.readings.lens import lens, lens_top
from dashboards.views.residual.picking import pick
from dashboards.views.shared.asked import place
from interp.charts import Chart
from interp.charts.tokens import visible
from interp.lens.read_out import why_not

WINDOW = 20  # positions of the lens drawn at once: their tokens can be read
MOST = 64
TOP = 5  # tokens of each stream listed


@dataclass(frozen=True)
class Measure:
    """What colours the lens.

    Attributes:
        label: In the box.
        column: Of the table.
        unit: Of the colours.
        says: Of the text alternative.
        rank: Whether it is a rank, drawn by its logarithm and written into the cells.
        probability: Whether it lies in 0 … 1.
    """

    label: str
    column: str
    unit: str
    says: str
    rank: bool = False
    probability: bool = False


MEASURES = {
    "top": Measure("Probability of the top token", "top_probability", "probability",
                   "the probability of its top token", probability=True),
    "final": Measure("Probability of the model's own prediction", "final_probability",
                     "probability", "what it gives the model's own prediction there",
                     probability=True),
    "answer": Measure("Probability of the answer", "target_probability", "probability",
                      "what it gives the answer", probability=True),
    "final-rank": Measure("Rank of the model's own prediction", "final_rank", "log10 of the rank",
                          "the rank of the model's own prediction there (1 is the top)", rank=True),
    "answer-rank": Measure("Rank of the answer", "target_rank", "log10 of the rank",
                           "the rank of the answer (1 is the top)", rank=True),
    "kl": Measure("KL from the final distribution", "kl", "KL(final ‖ lens) (nats)",
                  "the KL divergence from the model's own distribution to its own"),
    "entropy": Measure("Entropy", "entropy", "entropy (nats)", "its entropy"),
}  # fmt: skip


def draw_lens(subject: Subject, choices: Choices, position: int, incl_mid: bool) -> None:
    """The streams of some positions, and of one position closely."""
    st.subheader("Logit lens")
    model = subject.loaded.model
    reason = why_not(model.cfg)
    if reason is not None:
        st.info(plain(f"No logit lens: of this model {reason}."))
        return
    target = subject.answer
    if target is None:
        target = leading_tokens(subject, position)[0]
    left, middle, right = st.columns(3)
    with left:
        name = choices.choice(
            "measure", "Colour", list(MEASURES), "top", show=lambda n: MEASURES[n].label
        )
    measure = MEASURES[name]
    first, last = _window(subject, choices, position, middle, right)
    table = lens(subject, target, first, last, incl_mid)
    body = (
        "from analyses.lenses.tables import lens_grid\n\n"
        f"table = lens_grid(model, {target}, {first}, {last}, incl_mid={incl_mid}, **inputs)"
    )
    value = measure.column
    if measure.rank:
        value = f"log_{measure.column}"
        table = table.assign(**{value: np.log10(table[measure.column])})
        body = f"import numpy as np\n{body}\ntable[{value!r}] = np.log10(table[{measure.column!r}])"
    of = f" ({token_name(model, target)})" if measure.column.startswith("target") else ""
    drawn = Chart(
        kind="heatmap",
        table="lens",
        x="position",
        x_text="token",
        y="order",
        y_text="stream",
        y_label="residual stream",
        value=value,
        value_label=measure.unit,
        probability=measure.probability,
        text=measure.column if measure.rank else "top_token",
        title=f"{measure.label}{of}, by stream and position",
        alt="For each position, across, and residual stream, down, embedding first: "
        + (f"{measure.says}{of}, in figures and by colour" if measure.rank else
           f"the token that the lens finds likeliest and, by colour, {measure.says}{of}")
        + f". {_settled(table)}",
    )  # fmt: skip
    rows = table["order"].nunique()
    key = f"residual/lens/{position}/{first}/{last}"
    figures.chart(
        drawn,
        table,
        key,
        height=min(30 * rows + 130, 900),
        code=script(subject, body),
        chosen={"position": position},
        on_select=lambda: pick(choices, key, lambda x, _: {"position": x}),
        selection_mode="points",
    )
    st.caption(
        "Each stream is read through the final norm and the unembedding, as if it were the last. "
        "Click a cell to choose its position. Early layers need not be written in the terms that "
        "the unembedding reads: where the lens finds nothing, a later layer may."
    )
    links.to_analysis("logit-lens", "As a canned analysis, with a tuned lens beside it")
    _along(subject, table, measure, target, position, incl_mid, body)


def _window(
    subject: Subject, choices: Choices, position: int, left: Any, right: Any
) -> tuple[int, int]:
    """The positions drawn, both ends included; asked for in two columns where not all are."""
    n = len(subject.predicts.tokens)
    if n <= WINDOW:
        return 0, n - 1
    with left:
        width = choices.number("width", "Positions drawn", WINDOW, 1, min(n, MOST), 1)
    latest = n - width
    if not latest:
        return 0, n - 1
    with right:
        default = min(max(0, position - width + 1), latest)
        first = choices.number("first", "From position", default, 0, latest, 1)
    return first, first + width - 1


def _settled(table: pd.DataFrame) -> str:
    """From which stream on the lens gives what the model predicts, in a sentence."""
    agrees = table.assign(agrees=table["top_token"] == table["final_token"])
    share = agrees.groupby("order")["agrees"].mean()
    streams = table.drop_duplicates("order").set_index("order")["stream"]
    middle = len(share) // 2
    return (
        f"Its top token is the model's own prediction at {share.iloc[0]:.0%} of positions in the "
        f"first stream, at {share.iloc[middle]:.0%} in {streams.iloc[middle]}."
    )


def _along(
    subject: Subject, table: pd.DataFrame, measure: Measure, target: int, position: int,
    incl_mid: bool, body: str,
) -> None:  # fmt: skip
    """The chosen position, from stream to stream."""
    at = place(subject, position)
    left, right = st.columns(2)
    with left:
        top = lens_top(subject, position, TOP, incl_mid)
        last = top[top["order"] == top["order"].max()].iloc[0]
        drawn = Chart(
            kind="heatmap",
            table="top",
            x="rank",
            y="order",
            y_text="stream",
            y_label="residual stream",
            value="probability",
            probability=True,
            text="token",
            title=f"Likeliest tokens of each stream {at}",
            alt=f"The {TOP} tokens that the lens finds likeliest {at}, across, in each stream, "
            f"down. The last stream's is “{visible(last['token'])}”, {last['probability']:.3g}.",
        )
        k = int(top["rank"].max())
        code = script(
            subject,
            "from analyses.lenses.tables import top_tokens_table\n"
            "from interp.lens import logit_lens"
            f"\n\nfound = logit_lens(model, pos_slice=[{position}], top_k={k}, "
            f"incl_mid={incl_mid}, **inputs)\ntable = top_tokens_table(model, found, 0)",
        )
        rows = top["order"].nunique()
        figures.chart(
            drawn, top, "residual/top", height=min(max(30 * rows + 130, 330), 900), code=code
        )
    here = table[table["position"] == position].reset_index(drop=True)
    with right:
        if here.empty:
            st.caption(f"Position {position} is not among those drawn.")
            return
        column = measure.column if measure.column != "top_probability" else "target_probability"
        name = token_name(subject.loaded.model, target)
        what = {
            "target_probability": f"probability of {name}",
            "target_rank": f"rank of {name} (1: the top)",
            "final_rank": "rank of the model's own prediction (1: the top)",
            "final_probability": "probability of the model's own prediction",
        }.get(column, measure.unit)
        drawn = Chart(
            kind="line",
            table="lens",
            x="order",
            x_text="stream",
            x_label="residual stream",
            y=column,
            y_label=what,
            probability=measure.probability,
            log_y=measure.rank,
            title=f"{what[0].upper()}{what[1:]}, {at}",
            alt=f"The {what} {at}, from stream to stream: {here[column].iloc[0]:.3g} in the first, "
            f"{here[column].iloc[-1]:.3g} in the last.",
        )
        only = f'table = table[table["position"] == {position}].reset_index(drop=True)'
        figures.chart(
            drawn, here, "residual/along", height=380, code=script(subject, f"{body}\n{only}")
        )
