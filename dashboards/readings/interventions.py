"""What the interventions at the side change, before and after, each computed once."""

from __future__ import annotations

import pandas as pd

from analyses.patching.intervention_effects import Effects, effects, pattern_effects
from dashboards.page.subject import Subject
from dashboards.readings.base import inputs_of, reading, require_room
from dashboards.readings.plans import planned
from interp import HookedTransformer
from interp.interventions import Intervention


def compared(subject: Subject, position: int, lens: bool) -> Effects:
    """Tables of the run without and with the subject's interventions, switched on or not.

    Args:
        subject: What the page looks at.
        position: Where predictions are compared.
        lens: Whether to read streams with the logit lens.

    Raises:
        InputError: As `planned` and `analyses.patching.intervention_effects.effects`.
    """
    other = None if subject.other is None else subject.other.tokens
    cfg, n = subject.loaded.model.cfg, len(subject.predicts.tokens)
    require_room(2 * n * cfg.d_vocab_out, "the predictions of both runs")
    answers = (subject.answer, subject.wrong)
    # A wrong answer alone has nothing to be taken off.
    answers = answers if subject.answer is not None else (None, None)
    return _compared(subject.unedited(), subject.edits, other, position, *answers, lens)


@reading(max_entries=16, spinner="Running before and after …")
def _compared(
    model: HookedTransformer,
    subject: Subject,
    text: str,
    other: tuple[int, ...] | None,
    position: int,
    target: int | None,
    wrong: int | None,
    lens: bool,
) -> Effects:
    made = _plan(subject, text)
    return effects(model, inputs_of(subject), made, position, target, wrong, lens)


def patterns(subject: Subject, hook: str, head: int) -> pd.DataFrame:
    """One head's attention without and with the interventions, as `pattern_effects` gives it."""
    other = None if subject.other is None else subject.other.tokens
    return _patterns(subject.unedited(), subject.edits, other, hook, head)


@reading(max_entries=32, spinner="Watching attention before and after …")
def _patterns(
    model: HookedTransformer,
    subject: Subject,
    text: str,
    other: tuple[int, ...] | None,
    hook: str,
    head: int,
) -> pd.DataFrame:
    made = _plan(subject, text)
    return pattern_effects(model, inputs_of(subject), made, hook, head)


def check(subject: Subject) -> None:
    """Check that the interventions can be made, without comparing before and after.

    Raises:
        InputError: As `planned`.
    """
    _plan(subject, subject.edits)


def _plan(subject: Subject, text: str) -> tuple[Intervention, ...]:
    return planned(subject.loaded, text, subject.line, subject.other, subject.decoder)
