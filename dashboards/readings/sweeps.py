"""Sweeps over places on the subject's prompt, each computed once."""

from __future__ import annotations

import pandas as pd

from analyses.place_effects import Measure, PutIn, Site, place_effects
from dashboards.readings.base import inputs_of, reading
from dashboards.subject import Subject
from interp import HookedTransformer, InputError
from interp.errors import require

MOST_WORK = 1e13  # multiplications for one request: about two minutes of two cores


def swept(
    subject: Subject,
    site: Site,
    put_in: PutIn,
    measure: Measure,
    target: int,
    wrong: int | None,
    position: int,
) -> pd.DataFrame:
    """The effect of every place, in the model without interventions; as `place_effects`.

    Raises:
        InputError: For a sweep beyond what one page may ask for, and as `place_effects`.
    """
    other = None
    if put_in == "patch":
        if subject.other is None:
            raise InputError("there is no second prompt to patch from: type one at the side.")
        other = subject.other.tokens
        n, m = len(subject.tokens), len(other)
        require(n == m, f"patching needs two prompts of as many tokens. These are {n} and {m}")
    _check_work(subject, site)
    given = (site, put_in, measure, target, wrong, position)
    return _swept(subject.unedited(), other, *given)


@reading(max_entries=16, spinner="Sweeping …")
def _swept(
    model: HookedTransformer,
    subject: Subject,
    other: tuple[int, ...] | None,
    site: Site,
    put_in: PutIn,
    measure: Measure,
    target: int,
    wrong: int | None,
    position: int,
) -> pd.DataFrame:
    inputs = inputs_of(subject)
    second = None if other is None else inputs["input"].new_tensor([other])
    return place_effects(model, inputs, site, put_in, measure, target, wrong, position, second)


def _check_work(subject: Subject, site: Site) -> None:
    """Raise `InputError` where every place, half a run on average, is more than a page may ask."""
    model, n = subject.loaded.model, len(subject.predicts.tokens)
    places = model.cfg.n_layers * (model.cfg.n_heads if site == "z" else n)
    weights = sum(p.numel() for p in model.parameters())
    work = places * n * weights / 2
    require(
        work <= MOST_WORK,
        f"a sweep on a page takes {MOST_WORK:.0e} multiplications at most. This one, {places:,} "
        f"places of {n} tokens, takes about {work:.1e}: shorten the prompt, or run the analysis "
        "activation-patching",
    )
