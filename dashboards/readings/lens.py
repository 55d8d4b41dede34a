"""What the residual stream says from layer to layer: the logit lens, and norms."""

from __future__ import annotations

import pandas as pd

from analyses.attribution.stream_norms import Stack, norms_table
from analyses.lenses.tables import lens_grid, top_tokens_table
from dashboards.page.subject import Subject
from dashboards.readings.base import inputs_of, reading, require_room
from interp import HookedTransformer
from interp.lens import logit_lens


@reading(max_entries=32, spinner="Reading each layer …")
def lens(
    model: HookedTransformer, subject: Subject, target: int, first: int, last: int, incl_mid: bool
) -> pd.DataFrame:
    """The logit lens of these positions, both ends included; see `lens_grid`."""
    return lens_grid(model, target, first, last, incl_mid, **inputs_of(subject))


@reading(max_entries=32, spinner="Reading each layer …")
def lens_top(
    model: HookedTransformer, subject: Subject, position: int, top_k: int, incl_mid: bool
) -> pd.DataFrame:
    """The likeliest tokens of each stream at a position; see `top_tokens_table`."""
    k = min(top_k, model.cfg.d_vocab_out)
    found = logit_lens(
        model, pos_slice=[position], top_k=k, incl_mid=incl_mid, **inputs_of(subject)
    )
    return top_tokens_table(model, found, 0)


@reading(max_entries=16)
def norms(model: HookedTransformer, subject: Subject, stack: Stack) -> pd.DataFrame:
    """Norms of streams and of what is added to them; see `norms_table`."""
    tokens = max(len(subject.tokens), len(subject.predicts.tokens))
    require_room(4 * model.cfg.n_layers * tokens * model.cfg.d_model, "The streams of all layers")
    return norms_table(model, stack, **inputs_of(subject))
