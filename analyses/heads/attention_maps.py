"""Attention of one prompt as maps and tables: what a head looks at, and by which measure.

Cells that a destination cannot see (behind it in a causal stack, beyond a window) are NaN in maps
and have no row in tables: they are absent, not zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from analyses.predictions.next_tokens import aligned_texts
from interp.attribution.rollout import attention_rollout
from interp.attribution.value_weighted import value_weighted_attention
from interp.behaviour import BEHAVIOURS, head_scores
from interp.components.mask import AttentionMask
from interp.errors import InputError, require, require_one_of
from interp.precision import wide

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

Attends = Literal["self", "encoder", "cross"]
Measure = Literal["pattern", "weighted", "scores"]
Array = np.ndarray[Any, np.dtype[np.floating[Any]]]


def attention_maps(
    model: HookedTransformer,
    inputs: Mapping[str, Any],
    layers: Sequence[int],
    measure: Measure = "pattern",
    attends: Attends = "self",
) -> Float[Tensor, "layer head pos key_pos"]:
    """Attention of every head of some layers, for one prompt without padding.

    Args:
        model: The model, with the interventions that are on it.
        inputs: What it is called with, a batch of one.
        layers: Which; of the encoder with `attends="encoder"`.
        measure: `pattern`: attention after the softmax; `weighted`: pattern × ‖v W_O‖, the length
            of what is moved (`interp.attribution.value_weighted`); `scores`: before the softmax.
        attends: `self`: to its own text, of the stack that logits come from; `encoder`, `cross`:
            an encoder–decoder's encoder, and its decoder's attention to the source.

    Returns:
        fp32 or wider, NaN where the mask of the architecture lets nothing through. What an
        intervention cuts stays: 0 in patterns, -inf in scores.

    Raises:
        InputError: for a layer or attention that is not there, or more than one row.
    """
    require_one_of("measure", measure, ("pattern", "weighted", "scores"))
    prefix = _prefix(model, layers, attends)
    hooks = {"pattern": ["pattern"], "weighted": ["pattern", "v"], "scores": ["attn_scores"]}
    names = [f"{prefix(layer)}.hook_{hook}" for layer in layers for hook in hooks[measure]]
    _, cache = model.run_with_cache(**inputs, names_filter=names, return_type=None)
    found = []
    for layer in layers:
        if measure == "weighted":
            rows = value_weighted_attention(cache, layer, attends=attends)
        else:
            rows = cache[f"{prefix(layer)}.hook_{hooks[measure][0]}"]
        require(len(rows) == 1, f"attention maps are of one row of tokens. Received {len(rows)}")
        values = wide(rows[0])
        seen = visible_sources(model, layer, values.shape[-2], values.shape[-1], attends)
        found.append(values.masked_fill(~seen.to(values.device), torch.nan))
    return torch.stack(found)


def rollout_maps(
    model: HookedTransformer, inputs: Mapping[str, Any], attends: Attends = "self"
) -> Float[Tensor, "layer pos key_pos"]:
    """Attention rollout (`interp.attribution.rollout`) after every layer of a stack, for one row.

    NaN where a causal stack lets nothing through.

    Raises:
        InputError: for cross-attention, which has no way back to its own text, and as
            `attention_rollout`.
    """
    if attends == "cross":
        raise InputError("a rollout needs attention from a text to itself, not cross-attention.")
    layers = range(_n_layers(model, attends))
    prefix = _prefix(model, layers, attends)
    names = [f"{prefix(layer)}.hook_pattern" for layer in layers]
    _, cache = model.run_with_cache(**inputs, names_filter=names, return_type=None)
    found = attention_rollout(cache, stack="encoder" if attends == "encoder" else "main")
    require(found.shape[1] == 1, f"a map is of one row of tokens. Received {found.shape[1]}")
    one = found[:, 0]
    if not _stack(model, attends).causal:
        return one
    return one.masked_fill(~torch.ones_like(one, dtype=torch.bool).tril(), torch.nan)


def visible_sources(
    model: HookedTransformer, layer: int, n_pos: int, n_keys: int, attends: Attends = "self"
) -> Bool[Tensor, "pos key_pos"]:
    """Which sources a layer lets each destination see, in a row without padding."""
    stack = _stack(model, attends)
    block: Any = stack.blocks[layer]
    crosses = attends == "cross"
    mask = AttentionMask(
        n_pos,
        n_keys,
        causal=stack.causal and not crosses,
        real_keys=None,
        device=torch.device("cpu"),
        window=block.cfg.window_size if block.local and not crosses else None,
    )
    return mask.allowed[0, 0]


def cells_table(
    cells: Array, destinations: Sequence[str], sources: Sequence[str], value: str = "attention"
) -> pd.DataFrame:
    """A map as a table: destination, source, their tokens, and the number in column `value`.

    Absent cells have no row. An infinite number (a score that an intervention cut) is NaN.

    Raises:
        InputError: if the texts are fewer than the map's rows or columns.
    """
    fits = len(destinations) >= cells.shape[0] and len(sources) >= cells.shape[1]
    require(
        fits,
        f"each of {cells.shape[0]} destinations and {cells.shape[1]} sources needs a text. "
        f"Received {len(destinations)} and {len(sources)}",
    )
    destination, source = np.nonzero(~np.isnan(cells))
    numbers = cells[destination, source].astype(np.float64)
    return pd.DataFrame(
        {
            "destination": destination,
            "source": source,
            "destination_token": [destinations[i] for i in destination.tolist()],
            "source_token": [sources[i] for i in source.tolist()],
            value: np.where(np.isfinite(numbers), numbers, np.nan),
        }
    )


def focus_table(cells: Array, destinations: Sequence[str], sources: Sequence[str]) -> pd.DataFrame:
    """How spread out a pattern is at each destination, and where it is largest.

    Columns: destination, its token, `entropy` (-Σ p ln p over sources, nats), `uniform` (ln of how
    many sources it sees: the most that entropy can be), source and token of the largest weight, and
    that `attention`.

    p are the weights over their sum, which is not 1 in the largest of several patterns, beside an
    attention sink, or where an intervention changed them. Entropy is NaN where it has no meaning:
    the sum is 0 or a weight is below 0.
    """
    weights = np.nan_to_num(cells.astype(np.float64))
    sums = np.where((weights >= 0).all(-1), weights.sum(-1), 0.0)[:, None]
    shares = np.divide(weights, sums, out=np.full_like(weights, np.nan), where=sums > 0)
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    source = np.where(np.isnan(cells), -np.inf, weights).argmax(-1)
    return pd.DataFrame(
        {
            "destination": range(len(cells)),
            "destination_token": list(destinations[: len(cells)]),
            # Adding 0 makes -0 plain.
            "entropy": -(shares * logs).sum(-1) + 0.0,
            "uniform": np.log((~np.isnan(cells)).sum(-1)),
            "source": source,
            "source_token": [sources[i] for i in source],
            "attention": weights[np.arange(len(cells)), source],
        }
    )


def behaviour_table(
    model: HookedTransformer, inputs: Mapping[str, Any], attends: Attends = "self"
) -> pd.DataFrame:
    """How much of each head's attention goes where known kinds of heads look, on one prompt.

    As `interp.behaviour.head_scores` by patterns, so that interventions show. Columns: behaviour,
    layer, head, label, score (attention mass, mean over destinations where it is possible), chance
    (of uniform attention), excess ((score - chance) / (1 - chance)), destinations. A behaviour that
    this prompt has no place for (nothing repeats) has no rows.

    Raises:
        InputError: for cross-attention, whose sources are not the destination's own text.
    """
    if attends == "cross":
        raise InputError("behaviours are of attention from a text to itself, not cross-attention.")
    given = dict(inputs)
    part: Any = None
    if model.cfg.architecture == "encoder-decoder":
        part = "encoder" if attends == "encoder" else "decoder"
        if part == "encoder":
            given.pop("decoder_input", None)
    found = head_scores(model, **given, part=part, route="patterns")
    rows = []
    for name in BEHAVIOURS:
        of = found[name]
        if not of.n_sequences:
            continue
        score, chance, excess = of.score, of.chance, of.excess
        for layer, head in np.ndindex(*score.shape):
            rows.append(
                {
                    "behaviour": name.replace("_", " "),
                    "layer": layer,
                    "head": head,
                    "label": f"L{layer}H{head}",
                    "score": float(score[layer, head]),
                    "chance": float(chance[layer]),
                    "excess": float(excess[layer, head]),
                    "destinations": of.n_destinations,
                }
            )
    columns = ["behaviour", "layer", "head", "label", "score", "chance", "excess", "destinations"]
    return pd.DataFrame(rows, columns=columns)


def paired_texts(first: Sequence[str], second: Sequence[str]) -> list[str]:
    """The tokens of two prompts as one row: a token where they agree, `a|b` where they differ.

    Raises:
        InputError: for prompts of unlike length, which have no common positions.
    """
    require(
        len(first) == len(second),
        f"two prompts that are drawn as one need as many tokens each. Received {len(first)} and "
        f"{len(second)}",
    )
    return aligned_texts(first, second)


def _stack(model: HookedTransformer, attends: Attends) -> Any:
    require_one_of("attends", attends, ("self", "encoder", "cross"))
    if attends != "self" and model.cfg.architecture != "encoder-decoder":
        raise InputError(f"attends={attends!r} needs an encoder-decoder. This is not one.")
    return model.encoder if attends == "encoder" else model.main_stack


def _n_layers(model: HookedTransformer, attends: Attends) -> int:
    return len(_stack(model, attends).blocks)


def _prefix(model: HookedTransformer, layers: Sequence[int], attends: Attends) -> Any:
    n_layers = _n_layers(model, attends)
    require(
        len(layers) > 0 and all(0 <= layer < n_layers for layer in layers),
        f"layers must lie in 0 … {n_layers - 1}. Received {list(layers)}",
    )
    both = model.cfg.architecture == "encoder-decoder"
    stack = "" if not both else "encoder." if attends == "encoder" else "decoder."
    part = "cross_attn" if attends == "cross" else "attn"
    return lambda layer: f"{stack}blocks.{layer}.{part}"
