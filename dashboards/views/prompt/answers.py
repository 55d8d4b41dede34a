"""The two outputs typed at the side, followed along the prompt."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from dashboards.drawing import figures
from dashboards.page.script import script
from dashboards.page.subject import Subject
from dashboards.readings.predictions import followed, kind
from interp.charts import Chart
from interp.charts.tokens import visible


def draw(subject: Subject) -> None:
    """Draw rank and probability of the answer and the wrong answer, where they were typed."""
    outputs = tuple(
        dict.fromkeys(each for each in (subject.answer, subject.wrong) if each is not None)
    )
    if not outputs:
        return
    st.subheader("The answers")
    table = followed(subject, outputs)
    where = "after" if kind(subject) == "next" else "at"
    last = table[table["position"] == table["position"].max()]
    told = ", ".join(
        f"“{visible(row.token)}” {row.probability:.3g} (rank {row.rank})"
        for row in last.itertuples()
    )
    drawn = Chart(
        kind="line",
        table="answers",
        x="position",
        x_text="at_token",
        x_label=f"{where} the token",
        y="probability",
        color="token",
        probability=True,
        title="Probability of the answers",
        alt=f"Probability of the answers at each position; {where} the last: {told}.",
    )
    tokens = "tokens" if subject.decoder is None else "decoder_tokens"
    body = (
        "from analyses.predictions.next_tokens import followed_table\n"
        "from analyses.inputs.prompts import token_texts\n"
        f"texts = token_texts(model, {tokens}[0])\n"
        f"table = followed_table(model, model(**inputs)[0], texts, {list(outputs)})"
    )
    left, right = st.columns([3, 2])
    with left:
        figures.chart(drawn, table, "prompt/figure/answers", height=340, code=script(subject, body))
    with right:
        if len(outputs) == 2:
            _difference(last)
        columns = ["position", "at_token", "token", "rank", "probability", "logit"]
        code = script(subject, f"{body}\ntable = table[{columns}]")
        figures.table(table[columns], "prompt/table/answers", "answers", code)


def _difference(last: pd.DataFrame) -> None:
    right, wrong = last["logit"]
    st.metric(
        "Logit difference at the last position",
        f"{right - wrong:.4g}",
        help="Logit of the answer less that of the wrong answer.",
    )
