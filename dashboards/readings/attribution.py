"""A logit split over source tokens, neurons and the tokens read."""

from __future__ import annotations

import pandas as pd

from analyses.attribution.direct_tables import (
    Checked,
    head_sources_table,
    neurons_table,
    ov_table,
    sources_table,
)
from analyses.attribution.input_gradients import Method, TokenAttribution, token_attribution
from dashboards.page.subject import Subject
from dashboards.readings.base import inputs_of, reading, require_room
from interp import HookedTransformer
from interp.patching.metrics import Logit, LogitDiff, LogProb, Metric

Measure = tuple[int, int | None, bool]  # right, wrong, less_mean


@reading(max_entries=16, spinner="Splitting heads by source …")
def sources(model: HookedTransformer, subject: Subject, position: int, measure: Measure) -> Checked:
    """Every head's share by source token; see `sources_table`."""
    n_heads = model.cfg.n_layers * model.cfg.n_heads
    require_room(n_heads * len(subject.predicts.tokens) ** 2, "The patterns of all heads")
    return sources_table(model, position, *measure, **inputs_of(subject))


@reading(max_entries=32)
def head_sources(
    model: HookedTransformer, subject: Subject, layer: int, head: int, measure: Measure
) -> pd.DataFrame:
    """A head's share at every position by source token; see `head_sources_table`."""
    return head_sources_table(model, layer, head, *measure, **inputs_of(subject))


@reading(max_entries=32)
def neurons(
    model: HookedTransformer,
    subject: Subject,
    layer: int,
    position: int,
    measure: Measure,
    top: int,
) -> Checked:
    """The leading neurons of a layer; see `neurons_table`."""
    return neurons_table(model, layer, position, *measure, top, **inputs_of(subject))


@reading(max_entries=32)
def ov(
    model: HookedTransformer, subject: Subject, layer: int, head: int, top_k: int
) -> pd.DataFrame:
    """What a head's OV circuit makes of the prompt's tokens; see `ov_table`."""
    return ov_table(model, layer, head, list(subject.predicts.tokens), top_k)


@reading(max_entries=16, grad=True, spinner="Taking gradients …")
def token_shares(
    model: HookedTransformer,
    subject: Subject,
    position: int | None,
    right: int,
    wrong: int | None,
    log_probability: bool,
    method: Method,
    steps: int,
) -> TokenAttribution:
    """What an output depends on, by token read; `position` is None for a classifier."""
    place = -1 if position is None else position
    metric: Metric
    if wrong is not None:
        metric = LogitDiff(right, wrong, pos=place)
    else:
        metric = (LogProb if log_probability else Logit)(right, pos=place)
    return token_attribution(model, metric, method, steps, **inputs_of(subject))
