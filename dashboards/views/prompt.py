"""The prompt page: tokens, what the model predicts behind them, what surprised it."""

import math

import streamlit as st

from dashboards import chips, figures
from dashboards.address import Choices
from dashboards.readings.predictions import Reading, predictions
from dashboards.subject import Subject
from interp.charts import Chart
from interp.charts.tokens import visible


def show(subject: Subject, choices: Choices) -> None:
    """Draw the page."""
    n = len(subject.tokens)
    with st.columns([2, 3])[0]:
        position = choices.choice(
            "position",
            "Position",
            range(n),
            n - 1,
            show=lambda i: f"{i}: {visible(subject.texts[i])}",
            help="Predictions are those of the token that comes after this position.",
        )
    found = predictions(subject)
    _tokens(subject, found, position)
    _predictions(subject, found, position)
    _surprise(subject, found)


def _tokens(subject: Subject, found: Reading, position: int) -> None:
    st.subheader("Tokens")
    model = subject.loaded.model
    guess = math.log(model.cfg.d_vocab_out)
    surprise = zip(found.surprise["position"], found.surprise["surprise"], strict=True)
    chips.draw(
        subject.tokens,
        subject.texts,
        bos=model.tokenizer.bos_token_id if subject.loaded.has_bos else None,
        here=position,
        shade={int(i): nats / guess if guess else 0.0 for i, nats in surprise},
    )
    st.caption(
        f"{len(subject.tokens)} tokens: text, position and id; a space is shown as ·, a newline "
        f"as ↵. The darker a token, the more it surprised the model; darkest from {guess:.2f} nats "
        "on, what a blind guess costs."
    )


def _predictions(subject: Subject, found: Reading, position: int) -> None:
    st.subheader("What comes next")
    here = found.predictions[found.predictions["position"] == position]
    after = visible(subject.texts[position])
    top = here.iloc[0]
    drawn = Chart(
        kind="bars",
        table="predictions",
        x="rank",
        x_text="token",
        x_label="next token",
        value="probability",
        probability=True,
        title=f"Next token after position {position} (“{after}”)",
        alt=(
            f"Probabilities of the {len(here)} likeliest tokens after position {position} "
            f"(“{after}”). The likeliest is “{visible(top['token'])}”, "
            f"with probability {top['probability']:.3g}."
        ),
    )
    left, right = st.columns([3, 2])
    with left:
        figures.chart(drawn, here, "prompt/figure/predictions", height=400)
    with right:
        columns = ["rank", "token", "token_id", "probability", "logit"]
        figures.table(here[columns], "prompt/table/predictions", "predictions")


def _surprise(subject: Subject, found: Reading) -> None:
    st.subheader("Surprise")
    if found.surprise.empty:
        st.caption("Nothing comes before the only token, so nothing predicts it.")
        return
    nats = found.surprise["surprise"]
    most = found.surprise.iloc[int(nats.argmax())]
    drawn = Chart(
        kind="bars",
        table="surprise",
        x="position",
        x_text="token",
        x_label="token",
        value="surprise",
        value_label="surprise (nats)",
        title="How unlikely each token was, given those before it",
        alt=(
            f"Surprise of each token, −log of its probability: {nats.mean():.3f} nats on average; "
            f"most at position {most['position']} (“{visible(most['token'])}”), "
            f"{most['surprise']:.3f} nats."
        ),
    )
    figures.chart(drawn, found.surprise, "prompt/figure/surprise", height=380)
    with st.expander("As a table"):
        figures.table(found.surprise, "prompt/table/surprise", "surprise")
