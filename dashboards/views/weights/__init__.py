"""The weights page: what heads, neurons and tokens do to each other, with nothing run."""

import streamlit as st

from dashboards.page import links
from dashboards.page.address import Choices
from dashboards.page.model_alone import alone
from dashboards.page.subject import Loaded
from dashboards.views.weights import composition, heads, neurons, pairs, vocabulary

VIEWS = {
    "heads": ("All heads, and the spectrum of one", heads),
    "pairs": ("Token pairs of one head", pairs),
    "composition": ("Which head reads which", composition),
    "neurons": ("Neurons of a layer", neurons),
    "vocabulary": ("Tokens in and out", vocabulary),
}
_NAMES = tuple(name for _, view in VIEWS.values() for name in view.NAMES)


def show(loaded: Loaded, choices: Choices) -> None:
    """Draw the page; the prompt at the side has no part in it."""
    left, right = st.columns([2, 3], vertical_alignment="bottom")
    with left:
        name = choices.choice(
            "view", "View", list(VIEWS), "heads", show=lambda name: VIEWS[name][0]
        )
    with right:
        links.to_analysis(
            "weight-circuits", "All of it as one analysis, with parameters and checks"
        )
    st.caption(
        "Read off the weights alone, without the prompt and without interventions: what a head or "
        "neuron would do, not when it does it. Norms’ scales and all biases are left out, so that "
        "sizes compare within a model and are no logits of a run."
    )
    view = VIEWS[name][1]
    view.show(alone(loaded), choices)
    # What was chosen in another view holds when the reader comes back to it.
    choices.keep_unseen(*(set(_NAMES) - set(view.NAMES)))
