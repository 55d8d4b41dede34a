"""The page from top to bottom."""

from __future__ import annotations

import streamlit as st

from dashboards.page.address import Choices
from dashboards.page.subject import Subject
from dashboards.readings.interventions import check, compared
from dashboards.views.interventions import attention, form, outcome, streams, sweep
from interp.charts.tokens import visible

SECTIONS = {
    "predictions": "Predictions",
    "attention": "Attention of a head",
    "heads": "Head contributions",
    "streams": "Residual stream",
    "lens": "Logit lens",
}

_QUICK_LENS = 5e9  # multiplications: about a second of two cores for both runs
_CAVEAT = (
    "Zero is no neutral value: parts write much that is the same for every text, and later layers "
    "count on it, so that zeroing may break what a part has nothing to do with. Its mean, or what "
    "it holds on other text, is a fairer replacement. Where two parts do the same work, taking one "
    "of them away may show nothing."
)


def show(subject: Subject, choices: Choices, shared: Choices) -> None:
    """Draw the page."""
    st.caption(_CAVEAT)
    form.draw(subject, choices, shared)
    position = _position(subject, choices)
    sweep.draw(subject, choices, shared, position)
    if subject.edits:
        check(subject)  # what is wrong with them is told before anything is drawn
        _compare(subject, choices, position)
    else:
        st.info("Add an intervention, or click a cell of a sweep: before and after come here.")
    _keep_unseen(choices)


def _keep_unseen(choices: Choices) -> None:
    """Widgets come and go with what is chosen in others; what is unseen is no unknown choice."""
    choices.keep_unseen("site", "measure", "show", "part", "layer", "head")
    for name in form.NAMES:
        if name not in choices.shown:
            choices.kept.pop(name, None)


def _compare(subject: Subject, choices: Choices, position: int) -> None:
    """Every section that is asked for."""
    sections = choices.several(
        "show", "Compare", list(SECTIONS), _first_shown(subject), show=SECTIONS.__getitem__
    )
    found = compared(subject, position, "lens" in sections)
    outcome.draw_outcome(subject, found, position)
    if "predictions" in sections:
        outcome.draw_predictions(subject, found, position)
    if "attention" in sections:
        attention.draw(subject, choices, found)
    if "heads" in sections:
        streams.draw_heads(subject, found, position)
    if "streams" in sections:
        streams.draw_norms(subject, found, position)
    if "lens" in sections:
        streams.draw_lens(subject, found, position)


def _first_shown(subject: Subject) -> list[str]:
    """Every section; the lens of a large model only when it is asked for."""
    cfg = subject.loaded.model.cfg
    streams = (cfg.n_layers + 1) * len(subject.predicts.tokens)
    quick = streams * cfg.d_model * cfg.d_vocab_out <= _QUICK_LENS
    return [name for name in SECTIONS if quick or name != "lens"]


def _position(subject: Subject, choices: Choices) -> int:
    """Where predictions are read; of a classifier, which answers for the whole sequence, 0."""
    if subject.loaded.model.cfg.classifies:
        return 0
    texts = subject.predicts.texts
    n = len(texts)
    with st.columns([2, 3])[0]:
        return choices.choice(
            "position",
            "Predictions are read at",
            range(n),
            n - 1,
            show=lambda i: f"{i}: {visible(texts[i])}",
            help="Predictions are those of the token that comes after this position.",
        )
