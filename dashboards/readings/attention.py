"""Attention: maps, rollout and what kinds of heads there are."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from analyses.heads.attention_maps import (
    Attends,
    Measure,
    attention_maps,
    behaviour_table,
    rollout_maps,
)
from dashboards.page.subject import Line, Subject
from dashboards.readings.base import inputs_of, reading, require_room
from interp import HookedTransformer

Maps = npt.NDArray[np.floating[Any]]


def lines(subject: Subject, attends: Attends) -> tuple[Line, Line]:
    """The tokens that look, and those that are looked at."""
    if attends == "encoder":
        return subject.line, subject.line
    if attends == "cross":
        return subject.predicts, subject.line
    return subject.predicts, subject.predicts


@reading(max_entries=24, spinner="Watching attention …")
def maps(
    model: HookedTransformer,
    subject: Subject,
    attends: Attends,
    layers: tuple[int, ...],
    measure: Measure,
    n: int,
) -> Maps:
    """`[layer, head, pos, key_pos]` as `attention_maps`, of the first `n` tokens each way."""
    destinations, sources = (len(line.tokens) for line in lines(subject, attends))
    require_room(
        len(layers) * model.cfg.n_heads * destinations * sources, "The attention of these layers"
    )
    found = attention_maps(model, inputs_of(subject), layers, measure, attends)
    kept: Maps = found[..., :n, :n].cpu().numpy()
    return kept


@reading(max_entries=16, spinner="Watching attention …")
def rollout(model: HookedTransformer, subject: Subject, attends: Attends, n: int) -> Maps:
    """`[layer, pos, key_pos]` as `rollout_maps`, of the first `n` tokens each way."""
    length = len(lines(subject, attends)[0].tokens)
    require_room(model.cfg.n_layers * model.cfg.n_heads * length**2, "The attention of all layers")
    kept: Maps = rollout_maps(model, inputs_of(subject), attends)[:, :n, :n].cpu().numpy()
    return kept


@reading(max_entries=32, spinner="Scoring heads …")
def behaviours(model: HookedTransformer, subject: Subject, attends: Attends) -> pd.DataFrame:
    """As `behaviour_table`."""
    return behaviour_table(model, inputs_of(subject), attends)
