"""What each component adds to a logit at one position, and towards which tokens it writes."""

from __future__ import annotations

import pandas as pd

from analyses.attribution.contributions import Contributions, contributions, promoted_tokens
from analyses.attribution.stream_parts import By, neuron_part
from dashboards.page.subject import Subject
from dashboards.readings.base import inputs_of, reading
from interp import HookedTransformer


@reading(max_entries=64)
def leading_tokens(model: HookedTransformer, subject: Subject, position: int) -> tuple[int, int]:
    """The two outputs with the largest logits at a position; of a classifier, of the prompt."""
    logits = model(**inputs_of(subject))[0]
    first, second = (logits if model.cfg.classifies else logits[position]).topk(2).indices.tolist()
    return first, second


@reading(max_entries=32)
def contributions_at(
    model: HookedTransformer,
    subject: Subject,
    position: int,
    measure: tuple[int | None, int | None, bool],
    by: By,
) -> Contributions:
    """The stream of a position taken apart, and with it a logit; see `contributions`."""
    return contributions(model, position, *measure, by, **inputs_of(subject))


@reading(max_entries=64)
def promoted(
    model: HookedTransformer, subject: Subject, component: str, position: int, top_k: int
) -> pd.DataFrame:
    """The tokens that a component raises and lowers most; see `promoted_tokens`."""
    return promoted_tokens(model, component, position, top_k, **inputs_of(subject))


@reading(max_entries=64)
def activation(
    model: HookedTransformer, subject: Subject, position: int, layer: int, neuron: int
) -> float:
    """The activation of a neuron at a position."""
    return neuron_part(model, position, layer, neuron, **inputs_of(subject))[1]
