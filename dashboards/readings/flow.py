"""What the residual streams are made of, for the routes that are traced through them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pandas as pd

from analyses.flow.node import neurons_table, node_heads_table
from analyses.inputs.prompts import predictions_table
from dashboards.page.subject import Subject
from dashboards.readings.base import inputs_of, reading, require_room
from interp import HookedTransformer, InputError
from interp.attribution import StreamImportance, proximity_hooks, stream_importance
from interp.attribution.proximity import misfit

MAX_TOKENS = 128  # whose routes are traced on a page


@dataclass(frozen=True)
class Streams:
    """The streams of one prompt.

    Attributes:
        importance: Of each, the lowest first, on the CPU.
        predictions: At each position the likeliest outputs: position, rank, token, probability;
            empty for a model that gives one output for all.
    """

    importance: list[StreamImportance]
    predictions: pd.DataFrame


@reading(max_entries=8, spinner="Taking residual streams apart …")
def streams(model: HookedTransformer, subject: Subject) -> Streams:
    """The importance of all parts of all streams.

    Raises:
        InputError: If the model cannot be taken apart so, or the prompt is too long for a page.
    """
    _check(model, subject)
    names = proximity_hooks(model)
    logits, cache = model.run_with_cache(**inputs_of(subject), names_filter=names)
    found = [_on_cpu(each) for each in stream_importance(cache)]
    if model.cfg.head not in ("lm", "mlm"):
        return Streams(found, pd.DataFrame())
    tables = [
        predictions_table(model, logits[0, position], 1).assign(position=position)
        for position in range(len(subject.tokens))
    ]
    return Streams(found, pd.concat(tables, ignore_index=True))


@reading(max_entries=64, spinner="Looking at heads …")
def heads_at(model: HookedTransformer, subject: Subject, layer: int, position: int) -> pd.DataFrame:
    """What each head of a layer gives a position, by source: see `node_heads_table`."""
    names = proximity_hooks(model)
    _, cache = model.run_with_cache(**inputs_of(subject), names_filter=names, return_type=None)
    (stream, *_) = stream_importance(cache, layers=[layer])
    return node_heads_table(stream, cache, position, subject.texts)


@reading(max_entries=64, spinner="Looking at neurons …")
def neurons_at(
    model: HookedTransformer, subject: Subject, layer: int, position: int
) -> pd.DataFrame:
    """The neurons with the largest parts in what an MLP writes: see `neurons_table`."""
    names = [*proximity_hooks(model), f"blocks.{layer}.mlp.hook_post"]
    _, cache = model.run_with_cache(**inputs_of(subject), names_filter=names, return_type=None)
    return neurons_table(stream_importance(cache, layers=[layer])[-1], cache, position)


def _check(model: HookedTransformer, subject: Subject) -> None:
    reason = misfit(model)
    if reason is not None:
        raise InputError(f"information flow does not fit {subject.loaded.name}: {reason}")
    n = len(subject.tokens)
    if n > MAX_TOKENS:
        raise InputError(f"this page traces {MAX_TOKENS} tokens at most; these are {n}")
    require_room(model.cfg.n_layers * model.cfg.n_heads * n * n, "the parts of all heads")


def _on_cpu(stream: StreamImportance) -> StreamImportance:
    return replace(
        stream,
        residual=stream.residual.cpu(),
        heads=None if stream.heads is None else stream.heads.cpu(),
        mlp=None if stream.mlp is None else stream.mlp.cpu(),
        bias=stream.bias.cpu(),
        edit=stream.edit.cpu(),
        left=stream.left.cpu(),
    )
