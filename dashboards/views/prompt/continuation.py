"""The text continued by the model, on a button."""

from __future__ import annotations

import math

import streamlit as st

from dashboards.drawing import chips, figures
from dashboards.drawing.wording import plain
from dashboards.page.address import Choices
from dashboards.page.script import preamble
from dashboards.page.subject import Subject
from dashboards.readings.predictions import Draws, continued
from interp.charts import Chart
from interp.charts.tokens import visible

MOST = 64  # tokens


def draw(subject: Subject, choices: Choices) -> None:
    """Draw the settings, and the continuation once it was asked for."""
    st.subheader("Continue the text")
    draws = _settings(choices)
    asked = choices.asked("write", "0") == "1"
    choices.shown["write"] = str(int(asked))
    with st.container(horizontal=True):
        st.button(
            "Write", key="prompt/write", type="primary", disabled=asked,
            on_click=lambda: choices.keep("write", "1"),
        )  # fmt: skip
        st.button(
            "Clear", key="prompt/clear", on_click=lambda: choices.keep("write", "0"),
            disabled=not asked,
        )  # fmt: skip
    if not asked:
        return
    table = continued(subject, draws)
    if table.empty:
        st.info("The prompt is as long as the model can read: there is no room to go on.")
        return
    least = table.iloc[int(table["probability"].argmin())]
    mean = float((-table["probability"].map(math.log)).mean())
    chips.draw(
        table["token_id"].tolist(),
        table["token"].tolist(),
        shade=dict(zip(table["position"], 1 - table["probability"], strict=True)),
        told={
            at: f"probability {probability:.3g}, rank {rank}"
            for at, probability, rank in zip(
                *(table[name].tolist() for name in ("position", "probability", "rank")), strict=True
            )
        },
        first=int(table["position"].iloc[0]),
    )
    st.caption(
        f"{len(table)} tokens, the stronger the shade the less likely; surprise {mean:.3f} nats on "
        "average. "
        + ("The likeliest was taken each time. " if not draws.temperature else "")
        + ("The interventions act at every step on the whole text so far." if subject.plan else "")
    )
    if subject.loaded.can_read_text:
        st.code("".join(table["token"]), language=None, wrap_lines=True)
    code = _code(subject, draws)
    drawn = Chart(
        kind="line",
        table="continuation",
        x="position",
        x_text="token",
        x_label="token",
        y="probability",
        probability=True,
        title="Probability of each token that was written",
        alt=(
            f"Probability of each of {len(table)} tokens by the model's own prediction, "
            f"{table['probability'].mean():.2f} on average; least likely was "
            f"“{visible(least['token'])}”, {least['probability']:.3g}."
        ),
    )
    left, right = st.columns([3, 2])
    with left:
        figures.chart(drawn, table, "prompt/figure/continuation", height=320, code=code)
    with right:
        figures.table(table, "prompt/table/continuation", "continuation", code)


def _settings(choices: Choices) -> Draws:
    n, temperature, top_k, top_p, seed = st.columns(5)
    with n:
        length = choices.number("n", "Tokens", 12, 1, MOST, 1)
    with temperature:
        heat = choices.number(
            "temperature", "Temperature", 0.0, 0.0, 5.0, 0.1, help="0: the likeliest each time."
        )
    with top_k:
        k = choices.number(
            "k", "Top k", 0, 0, 1_000, 1, help="Draw from the k likeliest; 0: from all."
        )
    with top_p:
        p = choices.number(
            "p", "Top p", 1.0, 0.01, 1.0, 0.05,
            help="Draw from the fewest that hold this share of the probability; 1: from all.",
        )  # fmt: skip
    with seed:
        start = choices.number("seed", "Seed", 0, 0, 999_999, 1, help="Of the draws.")
    if heat == 0 and (k, p, start) != (0, 1.0, 0):
        st.caption(plain("Top k, top p and seed have no effect at temperature 0."))
    return Draws(length, heat, k, p, start)


def _code(subject: Subject, draws: Draws) -> str:
    cut = [f", top_k={draws.top_k}" if draws.top_k else ""]
    cut.append(f", top_p={draws.top_p}" if draws.top_p < 1 else "")
    plan = ", interventions=plan" if subject.plan else ""
    return (
        f"{preamble(subject)}\n"
        "from analyses.predictions.continuation import continuation_table\n\n"
        f"table = continuation_table(\n    model, inputs, {draws.n}, "
        f"temperature={draws.temperature}{''.join(cut)}, seed={draws.seed}{plan}\n)\n"
    )
