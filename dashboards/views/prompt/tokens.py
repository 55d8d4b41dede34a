"""The tokens of the prompt, of the second prompt, and of an encoder–decoder's target."""

from __future__ import annotations

import math

import streamlit as st

from dashboards.drawing import chips
from dashboards.page.subject import Line, Subject
from dashboards.readings.predictions import Reading, kind

_ABOUT = {
    "masked": "This model reads both ways: there is no next token. It was trained to fill in "
    "masks, and what it puts at a token that is not masked mostly repeats it.",
    "here": "This model reads both ways: there is no next token, and its outputs belong to the "
    "positions where they stand.",
    "class": "This model reads both ways and gives one output for the whole text: there is no next "
    "token.",
}


def draw(subject: Subject, found: Reading, position: int) -> None:
    """Draw them, the chosen position marked, shaded by how much they surprised the model."""
    st.subheader("Tokens")
    about = kind(subject)
    if about != "next":
        st.caption(_ABOUT[about])
    differ = _differing(subject.line, subject.other)
    guess = math.log(subject.loaded.model.cfg.d_vocab_out)
    shade: dict[int, float] = {}
    told: dict[int, str] = {}
    if not found.surprise.empty:
        columns = (found.surprise[name].tolist() for name in ("position", "surprise", "rank"))
        for at, nats, rank in zip(*columns, strict=True):
            shade[at] = nats / guess if guess else 0.0
            told[at] = f"surprise {nats:.3f} nats, rank {rank} in the prediction"
    here = position if about != "class" else None
    if subject.decoder is not None:
        _row(subject, subject.line, "Source", differs=differ[0])
        if subject.other is not None:
            _row(subject, subject.other, "Second source", differs=differ[1])
        target = "Target: what the decoder reads; behind each token it predicts the next"
        _row(subject, subject.decoder, target, here=here, shade=shade, told=told)
    else:
        named = "The prompt" if subject.other is not None else ""
        _row(subject, subject.line, named, here=here, shade=shade, told=told, differs=differ[0])
        if subject.other is not None:
            _row(subject, subject.other, "The second prompt", here=here, differs=differ[1])
    st.caption(_legend(subject, guess if shade else None))


def _row(subject: Subject, line: Line, name: str, **look: object) -> None:
    if name:
        st.html(f'<p class="figure-title">{name}</p>')
    model = subject.loaded.model
    bos = model.tokenizer.bos_token_id if subject.loaded.has_bos else None
    chips.draw(line.tokens, line.texts, bos=bos, **look)  # type: ignore[arg-type]


def _differing(first: Line, second: Line | None) -> tuple[set[int], set[int]]:
    """Positions of each whose token the other does not have there."""
    if second is None:
        return set(), set()
    same = {i for i, (a, b) in enumerate(zip(first.tokens, second.tokens, strict=False)) if a == b}
    return set(range(len(first.tokens))) - same, set(range(len(second.tokens))) - same


def _legend(subject: Subject, guess: float | None) -> str:
    n = len(subject.predicts.tokens)
    said = f"{n} tokens: text, position and id; a space is shown as ·, a newline as ↵."
    if subject.other is not None:
        said += " Doubly underlined: where the two prompts differ."
    if guess is not None:
        said += (
            " The stronger its shade, the more a token surprised the model; strongest from "
            f"{guess:.2f} nats on, what a blind guess costs."
        )
    return said
