"""How unlikely each token was, beside how unlikely the model expected it to be."""

from __future__ import annotations

import math

import pandas as pd
import streamlit as st

from dashboards.drawing import figures
from dashboards.page.script import script
from dashboards.page.subject import Subject
from dashboards.readings.predictions import Reading, kind
from interp.charts import Chart
from interp.charts.tokens import visible

_NAMES = {"surprise": "surprise", "expected": "expected surprise (entropy)"}


def draw(subject: Subject, found: Reading) -> None:
    """Draw it, with means and perplexity."""
    if kind(subject) != "next":
        return
    st.subheader("Surprise")
    table = found.surprise
    if table.empty:
        st.caption("Nothing comes before the only token, so nothing predicts it.")
        return
    nats = table["surprise"]
    for place, (name, value, about) in zip(
        st.columns(4),
        (
            ("Mean surprise", f"{nats.mean():.3f} nats", "−ln of each token's probability"),
            ("Perplexity", f"{_perplexity(nats.mean())}", "e to the mean surprise"),
            ("Mean entropy", f"{table['expected'].mean():.3f} nats", "of the predictions"),
            ("Likeliest right", f"{(table['rank'] == 1).mean():.0%}", "tokens of rank 1"),
        ),
        strict=True,
    ):
        place.metric(name, value, help=about)
    most = table.iloc[int(nats.argmax())]
    tidy = _tidy(table)
    drawn = Chart(
        kind="line",
        table="surprise",
        x="position",
        x_text="token",
        x_label="token",
        y="nats",
        y_label="nats",
        color="quantity",
        title="How unlikely each token was, given those before it",
        alt=(
            f"Surprise of each token, −log of its probability: {nats.mean():.3f} nats on average; "
            f"most at position {most['position']} (“{visible(most['token'])}”), "
            f"{most['surprise']:.3f} nats. Beside it the entropy of the prediction, the surprise "
            f"that the model expected: {table['expected'].mean():.3f} nats on average."
        ),
    )
    code = script(subject, _body(subject))
    figures.chart(
        drawn, tidy, "prompt/figure/surprise", height=360, code=script(subject, _tidied(subject))
    )
    with st.expander("As a table"):
        figures.table(table, "prompt/table/surprise", "surprise", code)


def _tidy(table: pd.DataFrame) -> pd.DataFrame:
    found = table.melt(["position", "token"], list(_NAMES), "quantity", "nats")
    return found.replace({"quantity": _NAMES})


def _body(subject: Subject) -> str:
    tokens = "tokens" if subject.decoder is None else "decoder_tokens"
    return (
        "from analyses.predictions.next_tokens import surprise_table\n"
        "from analyses.inputs.prompts import token_texts\n"
        f"read = {tokens}[0].tolist()\n"
        "table = surprise_table(model, model(**inputs)[0], read, token_texts(model, read))"
    )


def _tidied(subject: Subject) -> str:
    return (
        f"{_body(subject)}\n"
        f'table = table.melt(["position", "token"], {list(_NAMES)}, "quantity", "nats")\n'
        f'table = table.replace({{"quantity": {_NAMES}}})'
    )


def _perplexity(mean: float) -> str:
    return f"{math.exp(mean):.4g}" if mean < 700 else "beyond 1e304"
