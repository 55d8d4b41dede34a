"""The positions page: the encoding by itself, and what analyses find of position in the model."""

import streamlit as st

from dashboards.page.address import Choices
from dashboards.page.model_alone import alone
from dashboards.page.subject import Loaded
from dashboards.views.positions import encoding, measured

ENCODING = "encoding"
VIEWS = {ENCODING: "The encoding itself"} | {
    name: each.title for name, each in measured.ASPECTS.items()
}


def show(loaded: Loaded, choices: Choices) -> None:
    """Draw the page; the prompt at the side has no part in it."""
    with st.columns([2, 3])[0]:
        view = choices.choice("view", "View", list(VIEWS), ENCODING, show=VIEWS.__getitem__)
    looked_at = alone(loaded)
    if view == ENCODING:
        encoding.show(looked_at, choices)
    else:
        measured.show(looked_at, choices, view)
    # What was chosen in another view holds when the reader comes back to it.
    own = encoding.NAMES if view == ENCODING else measured.NAMES
    choices.keep_unseen(*({*encoding.NAMES, *measured.NAMES} - set(own)))
