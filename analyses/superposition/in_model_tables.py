"""The tables of `superposition-in-model`, and its charts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from analyses.superposition.in_model_sets import N_BINS, Names, Row, SetReading
from interp.charts.spec import Chart
from interp.weight_circuits.direction_measures import nearest_directions
from interp.weight_circuits.directions import Directions
from interp.weight_circuits.overlap import alignment, head_overlap

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

N_CLASSES = 40  # of a set's dimensionalities, evenly in their logarithm


def summary_table(readings: Sequence[SetReading], of_tokens: bool) -> pd.DataFrame:
    """Every set beside its random one: those of tokens, or those of layers.

    `width` dimensions are open to `n` directions; the mean `dimensionality` is `at_most` their rank
    over n. `dimensions_per_feature` is the paper's m / ‖W‖²_F with W scaled so that ‖W‖²_F counts
    directions by their norms, as it does in a toy: (Σ ‖W_i‖²)² / Σ ‖W_i‖⁴ of them.
    `effective_dimensions` are those that they fill evenly. `interference` is the mean of
    Σ_{j≠i} (Ŵ_i·W_j)² in units of the mean ‖W_i‖². `alignment` is the mean squared cosine of
    different ones, weighted by squared norms, over that of random directions: 1 for them, less for
    heads', of which those of one head are orthogonal. `mean_share` is how much of the squared norms
    is one shared vector. Largest and smallest cosines are those of the sampled directions with all
    others, `nearest_cosine` the mean over them of the largest.
    """
    chosen = [each for each in readings if (each.layer < 0) == of_tokens]
    if of_tokens:
        chosen.sort(key=lambda each: each.order)
    table = pd.DataFrame([row for each in chosen for row in each.summary])
    return table.drop(columns="layer" if of_tokens else ["kind", "form"])


def spread_table(readings: Sequence[SetReading]) -> pd.DataFrame:
    """How dimensionalities and cosines are spread, of all layers together.

    Dimensionalities of one kind of direction are sorted into classes of equal width in their
    logarithm (none for directions of zeros), cosines into classes of 2 / 200; a class stands at its
    (geometric) middle. `shown` are those that figures show.
    """
    centres = (np.arange(N_BINS) + 0.5) * 2 / N_BINS - 1
    frames = []
    for label in dict.fromkeys(each.label for each in readings):
        sets = [each for each in readings if each.label == label]
        edges = _classes(np.concatenate([D for each in sets for D in each.dimensionality.values()]))
        middles = np.sqrt(edges[1:] * edges[:-1])
        for weights in ("model", "random"):
            D = np.concatenate([each.dimensionality[weights] for each in sets])
            counts = np.histogram(D[D > 0], edges)[0]
            shown = sets[0].clean
            frames.append(_shares(label, weights, "dimensionality", shown, middles, counts))
            if all(each.cosines for each in sets):
                counts = np.sum([each.cosines[weights] for each in sets], axis=0)
                frames.append(_shares(label, weights, "cosine", shown, centres, counts))
    return pd.concat(frames, ignore_index=True)


def _classes(dimensionalities: np.ndarray) -> np.ndarray:
    """Edges around all of them that are above 0; a kind's own, as heads' reach down to 1e-6."""
    there = dimensionalities[dimensionalities > 0]
    low, high = (there.min(), there.max()) if len(there) else (1.0, 1.0)
    return np.geomspace(0.999 * low, 1.001 * high, N_CLASSES + 1)


def _shares(
    label: str,
    weights: str,
    measure: str,
    shown: bool,
    places: np.ndarray,
    counts: np.ndarray,
) -> pd.DataFrame:
    filled = counts.nonzero()[0]
    kept = slice(max(filled[0] - 1, 0), filled[-1] + 2) if len(filled) else slice(0)
    return pd.DataFrame(
        {
            "directions": label,
            "weights": weights,
            "measure": measure,
            "shown": shown,
            "value": places[kept],
            "share": counts[kept] / max(counts.sum(), 1),
        }
    )


def neighbours_rows(
    directions: Directions, names: Names, tokens: Int[Tensor, "token"], k: int
) -> list[Row]:
    """The k tokens whose directions have the largest cosine with each of some tokens'."""
    places = directions.places_of(tokens)
    if not len(places):
        return []
    found, values = nearest_directions(directions.vectors, places, k)
    rows: list[Row] = []
    for place, ids, numbers in zip(
        places.tolist(), found.tolist(), values.double().tolist(), strict=True
    ):
        (text,), token = names(directions, [place]), int(directions.name(place))
        rows.extend(
            {
                "directions": directions.label,
                "token": text,
                "token_id": token,
                "rank": rank,
                "neighbour": neighbour,
                "neighbour_id": int(directions.name(i)),
                "cosine": cosine,
                "place": f"{text} #{token}",
            }
            for rank, (neighbour, i, cosine) in enumerate(
                zip(names(directions, ids), ids, numbers, strict=True), 1
            )
        )
    return rows


def heads_rows(directions: Directions) -> list[Row]:
    """How each head's output shares its dimensions with those of the other heads of its layer."""
    found = head_overlap(directions)
    n = len(found.norms)
    assert directions.layer is not None
    others = ~torch.eye(n, dtype=torch.bool, device=found.overlap.device)
    rows: list[Row] = []
    for head in range(n):
        row: Row = {
            "directions": directions.label,
            "component": f"L{directions.layer}H{head}",
            "layer": directions.layer,
            "head": head,
            "norm": float(found.norms[head]),
            "effective_dimensions": float(found.effective_dimensions[head]),
        }
        if n > 1:
            overlap = found.overlap[head][others[head]].double()
            random = found.random[head][others[head]].double()
            nearest = int(found.overlap[head].masked_fill(~others[head], -1).argmax())
            row |= {
                "overlap": float(overlap.mean()),
                "random_overlap": float(random.mean()),
                "doublings": _doublings(float(overlap.mean()), float(random.mean())),
                "nearest": f"L{directions.layer}H{nearest}",
                "nearest_overlap": float(found.overlap[head, nearest]),
            }
        rows.append(row)
    return rows


def _doublings(found: float, random: float) -> float:
    return math.log2(found / random) if found > 0 and random > 0 else math.nan


@dataclass(frozen=True)
class Place:
    """A set on the way through its stack.

    Attributes:
        label, stack, layer, reads: Of the set.
        moment: Its second moment.
        width: The dimensions open to it.
        order: When its block runs it: what is read sees what is written before.
    """

    label: str
    stack: str
    layer: int | None
    reads: bool
    moment: Float[Tensor, "d d"]
    width: int
    order: int


def alignment_table(places: Sequence[Place], parallel: bool = False) -> pd.DataFrame:
    """How what is written lies in the dimensions of what later reads it, in each stack.

    `parallel`: an MLP does not read the heads of its own block.
    """
    written = [each for each in places if not each.reads]
    read = [each for each in places if each.reads]
    pairs = [
        (a, b)
        for a in written
        for b in read
        if a.stack == b.stack and a.order < b.order and not (parallel and a.layer == b.layer)
    ]
    values = [alignment(a.moment, b.moment, b.width) for a, b in pairs]
    found = torch.stack(values).double().tolist() if values else []
    return pd.DataFrame(
        {
            "stack": [a.stack or "model" for a, _ in pairs],
            "written": [a.label for a, _ in pairs],
            "read": [b.label for _, b in pairs],
            "written_order": [a.order for a, _ in pairs],
            "read_order": [b.order for _, b in pairs],
            "alignment": found,
            "doublings": [_doublings(each, 1.0) for each in found],
        }
    )


def places_of(
    model: HookedTransformer,
    directions: Directions,
    moment: Float[Tensor, "d d"],
    order: int,
) -> list[Place]:
    """Where a set stands, if sums in a residual stream are what lies between writing and reading.

    Norms between the two (`norm_placement="post"`) and heads in front of W_U leave it none; tokens
    enter both stacks of an encoder–decoder. Tokens are to be given in one form.
    """
    cfg = model.cfg
    if cfg.norm_placement == "post":
        return []
    if directions.kind == "W_U" and cfg.head != "lm":
        return []
    stacks = [directions.stack]
    if directions.layer is None and cfg.architecture == "encoder-decoder":
        stacks = ["decoder"] if directions.kind == "W_U" else ["encoder", "decoder"]
    label = (
        directions.kind if directions.layer is None else f"L{directions.layer} {directions.kind}"
    )
    return [
        Place(label, stack, directions.layer, directions.reads, moment, directions.width, order)
        for stack in stacks
    ]


def figures(tables: dict[str, pd.DataFrame]) -> dict[str, Chart]:
    """The charts of those tables that there are."""
    found = {
        "tokens": Chart(
            kind="bars",
            table="tokens",
            x="form",
            value="dimensionality",
            color="weights",
            facet="kind",
            x_label="tokens",
            value_label="mean D",
            title="Dimensionality of tokens",
            alt="The mean fraction of a dimension that a token has to itself in W_E and W_U, of "
            "all tokens and of distinct ones, as they are and less their mean, beside random "
            "directions of the same number and norms.",
        ),
        "spread": Chart(
            kind="line",
            table="spread",
            x="value",
            y="share",
            color="weights",
            facet="directions",
            where={"measure": "dimensionality", "shown": True},
            log_x=True,
            x_label="dimensionality D",
            y_label="share of directions",
            title="Dimensionalities of single directions, all layers together",
            alt="For each kind of direction the distribution of the fraction of a dimension that "
            "each has to itself, beside random directions of the same number and norms.",
        ),
    }
    if (tables["spread"]["measure"] == "cosine").any():
        found["cosines"] = Chart(
            kind="line",
            table="spread",
            x="value",
            y="share",
            color="weights",
            facet="directions",
            where={"measure": "cosine", "shown": True},
            x_label="cosine",
            y_label="share of pairs",
            title="Cosines of sampled directions with all others of their set",
            alt="For each kind of direction the distribution of cosines between different ones, "
            "beside random directions in as many dimensions. Those of one head are orthogonal.",
        )
    if "layers" in tables:
        for name, column, label, title in (
            ("dimensionality", "dimensionality", "mean D", "Dimensionality by layer"),
            (
                "effective-dimensions",
                "effective_dimensions",
                "dimensions",
                "Dimensions that the directions of a layer fill evenly",
            ),
        ):
            found[name] = Chart(
                kind="line",
                table="layers",
                x="layer",
                y=column,
                color="weights",
                facet="directions",
                y_label=label,
                title=title,
                alt=f"{title}, for what heads write and what neurons read and write, beside random "
                "directions of the same number and norms.",
            )
    if "heads" in tables and "overlap" in tables["heads"]:
        found["heads"] = Chart(
            kind="heatmap",
            table="heads",
            x="head",
            y="layer",
            value="doublings",
            facet="directions",
            signed=True,
            value_label="log₂ of overlap over random's",
            title="Heads that write where others of their layer do",
            alt="How far the mean overlap of each head's output with those of the other heads of "
            "its layer is above (red) or below (blue) that of heads turned at random, in "
            "doublings, layers down, heads across.",
        )
    if len(tables.get("alignment", ())):
        found["alignment"] = Chart(
            kind="heatmap",
            table="alignment",
            x="read_order",
            x_text="read",
            y="written_order",
            y_text="written",
            value="doublings",
            facet="stack" if tables["alignment"]["stack"].nunique() > 1 else None,
            signed=True,
            x_label="read by",
            y_label="written by",
            value_label="log₂ of mean squared cosine over random's",
            title="What is written beside what later reads it",
            alt="For each pair of what writes into the residual stream and what later reads it, "
            "how far the mean squared cosine of their directions is above (red) or below (blue) "
            "that of random directions, in doublings.",
        )
    if "neighbours" in tables:
        neighbours = tables["neighbours"]
        found["neighbours"] = Chart(
            kind="bars",
            table="neighbours",
            x="rank",
            x_text="neighbour",
            value="cosine",
            facet="place",
            where={"directions": neighbours["directions"].iloc[0]},
            x_label="neighbour",
            title="Nearest tokens by " + neighbours["directions"].iloc[0],
            alt="For each of some tokens the tokens whose directions have the largest cosine with "
            "its own.",
        )
    return found
