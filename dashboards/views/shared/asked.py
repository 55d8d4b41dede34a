"""What a page explains of a prediction: a position, and a logit there or a difference of two."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from analyses.inputs.targets import token_name
from dashboards.drawing.wording import plain
from dashboards.page.address import Choices
from dashboards.page.subject import Subject
from dashboards.readings.contributions import leading_tokens
from interp.charts.tokens import visible
from interp.errors import InputError

QUANTITIES = {
    "difference": "Logit difference of two tokens",
    "excess": "Logit less the mean logit",
    "logit": "Logit of one token",
}


@dataclass(frozen=True)
class Asked:
    """What is explained.

    Attributes:
        position: The destination.
        right, wrong, less_mean: As `interp.attribution.direct_logit_attribution` takes them.
        quantity: In words.
        at: The position in words.
    """

    position: int
    right: int
    wrong: int | None
    less_mean: bool
    quantity: str
    at: str

    @property
    def measure(self) -> tuple[int, int | None, bool]:
        """What readings take."""
        return self.right, self.wrong, self.less_mean

    @property
    def written(self) -> str:
        """The same as arguments of Python."""
        return ", ".join(map(repr, self.measure))


def place(subject: Subject, position: int) -> str:
    """A position in words."""
    return f"at position {position} (“{visible(subject.predicts.texts[position])}”)"


def ask_position(subject: Subject, choices: Choices) -> int:
    """Let the reader choose a position: the last by default, or that of a mask to be filled."""
    line = subject.predicts
    n = len(line.tokens)
    tokenizer = subject.loaded.model.tokenizer
    mask = None if tokenizer is None else getattr(tokenizer, "mask_token_id", None)
    default = line.tokens.index(mask) if mask in line.tokens else n - 1
    return choices.choice(
        "position",
        "Position",
        range(n),
        default,
        show=lambda i: f"{i}: {visible(line.texts[i])}",
        help="Its prediction is of the token that comes next.",
    )


def ask(subject: Subject, choices: Choices, position: int, default: str) -> Asked:
    """Let the reader choose what is explained there.

    Answers come from the side; where none is typed, the model's prediction stands for the answer,
    and the likeliest other token for the wrong one.

    Raises:
        InputError: If both answers are one.
    """
    model = subject.loaded.model
    which = choices.choice(
        "quantity",
        "Explain",
        list(QUANTITIES),
        default,
        show=QUANTITIES.__getitem__,
        help="A log-probability is no sum over components; what all logits share changes no "
        "probability, so a difference, or the excess over the mean, says more than one logit.",
    )
    top = leading_tokens(subject, position)
    right = top[0] if subject.answer is None else subject.answer
    wrong = None
    if which == "difference":
        wrong = subject.wrong
        if wrong is None:
            wrong = top[0] if top[0] != right else top[1]
        if wrong == right:
            raise InputError(f"the wrong answer must differ from {token_name(model, right)}.")
    quantity = f"logit of {token_name(model, right)}"
    if wrong is not None:
        quantity += f" less that of {token_name(model, wrong)}"
    if which == "excess":
        quantity += " less the mean logit"
    if model.cfg.output_logits_soft_cap > 0:
        quantity += ", before the soft cap"
    return Asked(position, right, wrong, which == "excess", quantity, place(subject, position))


def tell(subject: Subject, asked: Asked) -> None:
    """Say what is explained, and where the answers come from."""
    typed = [
        name
        for name, token, used in (
            ("answer", subject.answer, True),
            ("wrong answer", subject.wrong, asked.wrong is not None),
        )
        if token is not None and used
    ]
    whence = f"the {' and the '.join(typed)} typed at the side" if typed else ""
    if subject.answer is None or (asked.wrong is not None and subject.wrong is None):
        own = "the model's own leading tokens; type others under “Second prompt, answers”"
        whence = f"{whence}, else {own}" if whence else own
    st.caption(plain(f"Explained: the {asked.quantity}, {asked.at}. Tokens: {whence}."))
