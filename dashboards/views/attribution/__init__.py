"""The head attribution page: a logit by head, sublayer, source, neuron and token read."""

from __future__ import annotations

import streamlit as st

from dashboards.drawing.wording import plain
from dashboards.page import links
from dashboards.page.address import Choices
from dashboards.page.subject import Subject
from dashboards.readings.contributions import contributions_at
from dashboards.views.attribution.heads import draw_heads, draw_sublayers
from dashboards.views.attribution.neurons import draw_neurons
from dashboards.views.attribution.one_head import draw_one_head
from dashboards.views.attribution.sources import draw_sources
from dashboards.views.attribution.tokens_read import draw_tokens_read
from dashboards.views.shared import component_panels as panels
from dashboards.views.shared.asked import ask, ask_position, tell


def show(subject: Subject, choices: Choices) -> None:
    """Draw the page."""
    cfg = subject.loaded.model.cfg
    left, middle = st.columns(3)[:2]
    if cfg.head != "lm" or not cfg.n_layers:
        why = f"its logits are not linear in its residual stream (head={cfg.head!r})"
        st.info(plain(f"No direct attribution: {why if cfg.n_layers else 'it has no heads'}."))
        position = 0
        if not cfg.classifies:
            with left:
                position = ask_position(subject, choices)
        draw_tokens_read(subject, choices, None, position)
        return
    with left:
        position = ask_position(subject, choices)
    with middle:
        asked = ask(subject, choices, position, "difference")
    tell(subject, asked)
    found = contributions_at(subject, position, asked.measure, "head")
    panels.totals(subject, found, asked)
    st.subheader("By component")
    left, right = st.columns(2)
    with left:
        draw_heads(subject, choices, found, asked)
    with right:
        draw_sublayers(subject, found, asked)
    panels.growth(subject, found, asked, "head", "attribution/growth")
    name = draw_one_head(subject, choices, found, asked)
    draw_sources(subject, asked, name)
    if not cfg.attn_only:
        draw_neurons(subject, choices, found, asked)
    draw_tokens_read(subject, choices, asked, position)
    st.caption(
        "Direct effects only, with the final norm's scale held as it was: what a head does through "
        "later components is credited to those."
    )
    if not subject.loaded.is_seq2seq:
        links.to_analysis("head-attribution", "Run it as a canned analysis, with its checks")
