"""What the interventions do to predictions: the answers, the likeliest tokens, every position."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from analyses.patching.intervention_effects import Effects
from dashboards.drawing import figures
from dashboards.drawing.wording import plain
from dashboards.page.subject import Subject
from dashboards.views.interventions.panels import effects_code
from interp.charts import Chart
from interp.charts.tokens import visible

KEY = "interventions"


def draw_outcome(subject: Subject, found: Effects, position: int) -> None:
    """The quantities at the position, in large numbers."""
    st.subheader("Outcome")
    chosen = found.outcome["quantity"].str.startswith("probability") | (found.outcome.index == 0)
    for place, row in zip(st.columns(3), found.outcome[chosen].to_dict("records"), strict=False):
        name = str(row["quantity"])
        place.metric(
            plain(name[0].upper() + name[1:]),
            f"{row['before']:.3g} → {row['after']:.3g}",
            f"{row['difference']:+.3g}",
            delta_color="off",  # up is neither good nor bad
            help=f"Before: {row['before']:.6g}. After: {row['after']:.6g}.",
        )
    if subject.answer is None:
        st.caption(
            "The likeliest output before the interventions is followed. Type an answer at the side "
            "for another, and a wrong answer for the difference of their logits."
        )
    with st.expander("As a table"):
        code = effects_code(subject, position, "found.outcome")
        figures.table(found.outcome, f"{KEY}/outcome", "outcome", code)


def draw_predictions(subject: Subject, found: Effects, position: int) -> None:
    """The likeliest outputs and those that moved most; every position."""
    classifies = found.positions is None
    st.subheader("Predictions")
    where = "" if classifies else f" at position {position}"
    rows = found.predictions
    moved = rows.iloc[int(rows["difference"].abs().argmax())]
    most = (
        f"“{visible(moved['token'])}” moves most, from {moved['before']:.3g} to "
        f"{moved['after']:.3g}."
    )
    both = rows.melt(["rank", "token", "token_id"], ["before", "after"], "run", "probability")
    shared: dict[str, Any] = {"kind": "bars", "x": "rank", "x_text": "token", "x_label": "token"}
    left, right = st.columns(2)
    with left:
        drawn = Chart(
            **shared,
            table="predictions",
            value="probability",
            color="run",
            probability=True,
            title=f"Probability{where}, before and after",
            alt=f"The likeliest outputs{where} in either run, and those that moved most. {most}",
        )
        melted = (
            'found.predictions.melt(\n    ["rank", "token", "token_id"], ["before", "after"], '
            '"run", "probability"\n)'
        )
        code = effects_code(subject, position, melted)
        figures.chart(drawn, both, f"{KEY}/predictions", height=340, code=code)
    with right:
        drawn = Chart(
            **shared,
            table="predictions",
            value="difference",
            value_label="change of probability",
            signed=True,
            title=f"Probability{where}, after less before",
            alt=f"How much each of these outputs gains or loses{where}. {most}",
        )
        code = effects_code(subject, position, "found.predictions")
        figures.chart(drawn, rows, f"{KEY}/movers", height=340, code=code)
    if found.positions is not None:
        _every_position(subject, found.positions, position)


def _every_position(subject: Subject, rows: pd.DataFrame, position: int) -> None:
    code = effects_code(subject, position, "found.positions")
    most = rows.iloc[int(rows["kl"].argmax())]
    changed = int((rows["top_before"] != rows["top_after"]).sum())
    shared: dict[str, Any] = {
        "kind": "bars", "table": "positions", "x": "position", "x_text": "token", "x_label": "token"
    }  # fmt: skip
    drawn = Chart(
        **shared,
        value="kl",
        value_label="KL (nats)",
        title="How far each prediction moved: KL(before ‖ after)",
        alt=(
            "KL divergence of the prediction at each position: most at position "
            f"{most['position']} (“{visible(most['token'])}”), {most['kl']:.3g} nats. The "
            f"likeliest token changes at {changed} of {len(rows)} positions."
        ),
    )
    figures.chart(drawn, rows, f"{KEY}/kl", height=300, code=code)
    told = rows.dropna(subset=["surprise_difference"])
    if told.empty:
        return
    change = told["surprise_difference"]
    most = told.iloc[int(change.abs().argmax())]
    drawn = Chart(
        **shared,
        value="surprise_difference",
        value_label="change of surprise (nats)",
        signed=True,
        title="Surprise at each token, after less before",
        alt=(
            f"Change of each token's surprise, −log of its probability: {change.mean():+.3g} nats "
            f"on average; most at position {most['position']} (“{visible(most['token'])}”), from "
            f"{most['surprise_before']:.3g} to {most['surprise_after']:.3g} nats."
        ),
    )
    code = effects_code(subject, position, 'found.positions.dropna(subset=["surprise_difference"])')
    figures.chart(drawn, told, f"{KEY}/surprise", height=300, code=code)
