"""An output by the tokens that the model reads, through gradients."""

from __future__ import annotations

import streamlit as st

from analyses.attribution.input_gradients import METHODS, Method
from analyses.inputs.targets import token_name
from dashboards.drawing import figures
from dashboards.drawing.wording import plain
from dashboards.page import links
from dashboards.page.address import Choices
from dashboards.page.script import script
from dashboards.page.subject import Subject
from dashboards.readings.attribution import token_shares
from dashboards.readings.contributions import leading_tokens
from dashboards.views.attribution.words import largest
from dashboards.views.shared.asked import Asked, place
from interp.charts import Chart


def draw_tokens_read(
    subject: Subject, choices: Choices, asked: Asked | None, position: int
) -> None:
    """What an output depends on, through the whole model."""
    st.subheader("By token read, through the whole model")
    model = subject.loaded.model
    left, middle, right = st.columns(3)
    with left:
        method: Method = choices.choice("method", "Method", METHODS, METHODS[0])
    top = leading_tokens(subject, position)
    right_id = top[0] if subject.answer is None else subject.answer
    wrong = subject.wrong if asked is None else asked.wrong
    log_probability = False
    if wrong is None:
        with middle:
            log_probability = choices.toggle("logprob", "Explain the log-probability", True)
    steps = 64
    if method == "integrated gradients":
        with right:
            steps = choices.number("steps", "Steps", 64, 2, 512, 1)
    place_of = None if model.cfg.classifies else position
    found = token_shares(subject, place_of, right_id, wrong, log_probability, method, steps)
    quantity = f"{'log-probability' if log_probability else 'logit'} of " + token_name(
        model, right_id
    )
    if wrong is not None:
        quantity += f" less that of {token_name(model, wrong)}"
    unit = "nats" if log_probability else "logits"
    at = "" if model.cfg.classifies else f", {place(subject, position)}"
    drawn = Chart(
        kind="bars",
        table="tokens-read",
        x="source",
        x_text="token",
        x_label="token",
        value="attribution",
        value_label=f"{unit} per unit of embedding" if method == "gradient norm" else unit,
        facet="sequence" if subject.loaded.is_seq2seq else None,
        signed=method != "gradient norm",
        title=f"{method[0].upper()}{method[1:]}: {quantity}{at}",
        alt=f"How the {quantity} depends on each token read, by {method}: "
        f"{largest(found.table, 'token')}.",
    )
    name = "LogitDiff" if wrong is not None else "LogProb" if log_probability else "Logit"
    ids = f"{right_id}, {wrong}" if wrong is not None else str(right_id)
    code = script(
        subject,
        "from analyses.attribution.input_gradients import token_attribution\n"
        f"from interp.patching.metrics import {name}\n\n"
        f"metric = {name}({ids}, pos={-1 if place_of is None else place_of})\n"
        f"table = token_attribution(model, metric, {method!r}, {steps}, **inputs).table",
        grad=True,
    )
    figures.chart(drawn, found.table, "attribution/read", height=360, code=code)
    if found.difference is not None and found.error is not None:
        st.caption(
            f"The {plain(quantity)} is {found.value:.4g}, {found.difference:+.4g} from that at the "
            "baseline (every token replaced by the mean embedding). The attributions miss that "
            f"difference by {abs(found.error):.2g}: more steps bring it down."
        )
    else:
        st.caption(
            "Gradients tell of small changes: where a softmax is certain they vanish, whatever the "
            "prediction rests on. Integrated gradients explain a difference from a baseline."
        )
    if not subject.loaded.is_seq2seq:
        links.to_analysis("input-attribution", "Five methods side by side, as a canned analysis")
