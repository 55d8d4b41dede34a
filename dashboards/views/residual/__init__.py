"""The residual stream page: the logit lens, what each component adds, and norms."""

from __future__ import annotations

import streamlit as st

from analyses.attribution.stream_norms import Stack
from dashboards.page.address import Choices
from dashboards.page.subject import Subject
from dashboards.views.residual.components import draw_components
from dashboards.views.residual.lens import draw_lens
from dashboards.views.residual.norms import draw_norms
from dashboards.views.shared.asked import ask_position


def show(subject: Subject, choices: Choices) -> None:
    """Draw the page."""
    stack: Stack = "main"
    left, middle, right = st.columns(3)
    with left:
        position = ask_position(subject, choices)
    if subject.loaded.is_seq2seq:
        with middle:
            stack = choices.choice(
                "stack", "Stack", ["main", "encoder"], "main",
                show={"main": "Decoder", "encoder": "Encoder"}.__getitem__,
            )  # fmt: skip
    with right:
        incl_mid = choices.toggle(
            "mid", "Streams between attention and MLP too", False, disabled=stack == "encoder"
        )
    if stack == "encoder":
        st.info(
            "The unembedding reads the decoder's stream: the encoder's has no logit lens and no "
            "direct contribution to a logit. Its norms are below."
        )
    else:
        draw_lens(subject, choices, position, incl_mid)
        draw_components(subject, choices, position)
    draw_norms(subject, choices, stack, position)
