"""Sweeps over places on the subject's prompt, each computed once."""

from __future__ import annotations

import pandas as pd

from analyses.patching.place_effects import Measure, PutIn, Site, place_effects
from dashboards.page.subject import Subject
from dashboards.readings.base import MOST_WORK, inputs_of, reading, require_work
from interp import HookedTransformer, InputError
from interp.errors import require

_PATTERN_ENTRY = 100  # multiplications that take as long as one entry of a pattern; measured


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
    if _work(model, site, n) <= MOST_WORK:
        return
    longest = max((k for k in range(1, n) if _work(model, site, k) <= MOST_WORK), default=0)
    require_work(
        _work(model, site, n),
        f"a sweep over {_places(model, site, n):,} places of {n} tokens",
        (f"take a prompt of at most {longest} tokens, or " if longest else "")
        + "run the analysis activation-patching",
    )


def _places(model: HookedTransformer, site: Site, n: int) -> int:
    return model.cfg.n_layers * (model.cfg.n_heads if site == "z" else n)


def _work(model: HookedTransformer, site: Site, n: int) -> float:
    weights = sum(p.numel() for p in model.parameters())
    entries = model.cfg.n_layers * model.cfg.n_heads * n * n
    return _places(model, site, n) * (n * weights + _PATTERN_ENTRY * entries) / 2
