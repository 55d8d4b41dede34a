"""What stands where on the prompt page."""

from __future__ import annotations

from dashboards.page.address import Choices
from dashboards.page.subject import Subject
from dashboards.readings.predictions import kind, predictions
from dashboards.views.prompt import answers, comparison, continuation, outputs, surprise, tokens
from interp.charts.tokens import visible


def show(subject: Subject, choices: Choices) -> None:
    """Draw the page."""
    line, about = subject.predicts, kind(subject)
    n = len(line.tokens)
    found = predictions(subject)
    position = choices.choice(
        "position",
        "Position",
        range(n),
        n - 1,
        show=lambda i: f"{i}: {visible(line.texts[i])}",
        help="Also by a click on a row of the predictions.",
        width=360,
    )
    tokens.draw(subject, found, position)
    if about == "class":
        outputs.draw_classes(subject, found)
        return
    outputs.draw(subject, choices, found, position)
    surprise.draw(subject, found)
    answers.draw(subject)
    comparison.draw(subject)
    if about == "next":
        continuation.draw(subject, choices)
