"""The measures of superposition on a model's own weights."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from analyses.base import Analysis, Parameters
from analyses.inputs.prompts import token_texts
from analyses.registry import register
from analyses.results.checks import SCALED, TOLERANCES
from analyses.results.result import AnalysisResult, Check
from analyses.superposition.in_model_sets import CHECKED, Row, SetReading, read_set, sample
from analyses.superposition.in_model_tables import (
    Place,
    alignment_table,
    figures,
    heads_rows,
    neighbours_rows,
    places_of,
    spread_table,
    summary_table,
)
from interp.errors import require
from interp.weight_circuits.direction_measures import near_copies
from interp.weight_circuits.directions import (
    Directions,
    block_directions,
    stacks_of,
    token_directions,
    unembedding_directions,
)

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer


class InModelParams(Parameters):
    """How directions are taken from the weights, and which are spelled out."""

    fold_norms: bool = Field(
        True,
        description="Take directions with the weights and the centring of the norms that they are "
        "read or written through; otherwise the bare weights.",
    )
    unit_norms: bool = Field(
        False,
        description="Measure all directions at norm 1: what remains when neurons' inputs are "
        "scaled against their outputs.",
    )
    sampled: int = Field(
        256,
        ge=2,
        le=100_000,
        description="How many directions of a set are compared with all others one by one, for "
        "cosines and the closest pairs; all, where there are fewer. Dimensionalities are of all.",
    )
    tokens: list[str | int] | None = Field(
        None,
        min_length=1,
        description="The tokens (texts or ids) whose neighbours are listed; by default some of "
        "those sampled, from the one with the closest neighbour to the loneliest.",
    )
    n_tokens: int = Field(6, ge=1, le=100, description="How many, where none are named.")
    k: int = Field(5, ge=1, le=100, description="How many neighbours, pairs and extremes to list.")
    duplicate_cosine: float = Field(
        0.99,
        gt=0,
        le=1,
        description="Tokens whose directions have at least this cosine with a sampled one count "
        "once among the distinct tokens, which are measured beside all of them.",
    )
    between: bool = Field(
        True,
        description="Compare what is written with what later reads it. Holds a d_model × d_model "
        "matrix for every set.",
    )
    seed: int = Field(0, ge=0, description="Of the random directions and of the sample.")


@register
class SuperpositionInModel(Analysis[InModelParams]):
    """Dimensionality and interference of tokens, neurons and heads, beside random directions.

    Source: the measures of Elhage et al. 2022, Toy Models of Superposition, on what weights alone
    give as features: see `interp.weight_circuits.directions`.
    """

    name = "superposition-in-model"
    question = "How do a model's tokens, neurons and heads share the dimensions of its stream?"
    caveat = (
        "A toy model's features are known, a Transformer's are not: tokens, neurons and singular "
        "directions of heads stand for them here, and a model may well have other features, more "
        "of them, and sparse ones, which weights alone do not show. D falls with the number of "
        "directions, whatever they are: read it beside random directions of the same number and "
        "norms. D below theirs says that directions crowd into fewer dimensions, D above theirs "
        "that they keep out of each other's way. Random directions are drawn once, and in all "
        "dimensions: what a training leaves is seldom spread so evenly, so that a lower D alone is "
        "no sign of features in superposition. A large shared mean (mean_share) makes cosines high "
        "and D small by itself; tokens are therefore shown without it too. Directions that differ "
        "in norm do not count alike: long ones crowd short ones out. Neurons' norms are half "
        "arbitrary, as an input can be scaled against its output (unit_norms). What the norms "
        "divide by, biases, and how often a direction is used are left out: interference that "
        "never happens at once costs nothing."
    )

    @classmethod
    def supports(cls, model: HookedTransformer) -> str | None:
        """Any model with dimensions to share."""
        if model.cfg.d_model < 2:
            return "its residual stream has a single dimension"
        return None

    def quick(self, params: InModelParams) -> InModelParams:
        """Fewer single cosines and shorter lists."""
        return params.model_copy(update={"sampled": 64, "n_tokens": 4, "k": 3})

    def run(self, model: HookedTransformer, params: InModelParams) -> AnalysisResult:
        """Read one set after another, and hold what is written beside what reads it."""
        with torch.no_grad():
            tables, checks = _read(model, params)
        return self.result(model, params, tables=tables, figures=figures(tables), checks=checks)


class _Texts:
    """Texts of tokens, each looked up once; of other directions their names."""

    def __init__(self, model: HookedTransformer) -> None:
        self._model = model
        self._known: dict[int, str] = {}

    def __call__(self, directions: Directions, ids: Iterable[int]) -> list[str]:
        if directions.layer is not None:
            return [directions.name(i) for i in ids]
        if directions.kind == "W_U" and self._model.cfg.classifies:
            return [f"class {i}" for i in ids]
        wanted = [int(directions.name(i)) for i in ids]
        new = [i for i in dict.fromkeys(wanted) if i not in self._known]
        self._known.update(zip(new, token_texts(self._model, new), strict=True))
        return [self._known[i] for i in wanted]


def _read(
    model: HookedTransformer, params: InModelParams
) -> tuple[dict[str, pd.DataFrame], list[Check]]:
    texts = _Texts(model)
    drawn = torch.Generator().manual_seed(params.seed)
    readings: list[SetReading] = []
    neighbours: list[Row] = []
    heads: list[Row] = []
    places: list[Place] = []
    chosen = None if params.tokens is None else _named(model, params.tokens)
    for order, (directions, clean) in enumerate(_sets(model, params)):
        measured = directions.of_norm_one() if params.unit_norms else directions
        reading = read_set(measured, texts, params.sampled, params.k, params.seed, drawn, clean)
        readings.append(replace(reading, moment=None))
        if params.between and clean:
            assert reading.moment is not None
            places += places_of(model, measured, reading.moment, order)
        if measured.of_heads:
            heads += heads_rows(measured)
        if measured.layer is None and len(measured) > 1 and not _of_classes(model, measured):
            if chosen is None:
                chosen = _spread_out(measured, reading, params.n_tokens)
            neighbours += neighbours_rows(measured, texts, chosen, params.k)
    tables = {
        "tokens": summary_table(readings, of_tokens=True),
        "spread": spread_table(readings),
        "extremes": pd.DataFrame([row for each in readings for row in each.extremes]),
    }
    pairs = [row for each in readings for row in each.pairs]
    for name, rows in (("neighbours", neighbours), ("pairs", pairs)):
        if rows:
            tables[name] = pd.DataFrame(rows)
    if heads:
        tables["layers"] = summary_table(readings, of_tokens=False)
        tables["heads"] = pd.DataFrame(heads)
    if places:
        tables["alignment"] = alignment_table(places, model.cfg.parallel_attn_mlp)
    return tables, _checks(model, readings)


def _sets(model: HookedTransformer, params: InModelParams) -> Iterator[tuple[Directions, bool]]:
    """All sets in the order in which a run reads them, and whether figures show them.

    They show every layer's, and tokens in the cleanest of their forms.
    """
    fold = params.fold_norms
    yield from _of_tokens(token_directions(model, fold), params)
    for stack, blocks in stacks_of(model):
        for layer in range(len(blocks)):
            for each in block_directions(model, layer, stack, fold):
                yield each, True
    yield from _of_tokens(unembedding_directions(model, fold), params)


def _of_tokens(directions: Directions, params: InModelParams) -> Iterator[tuple[Directions, bool]]:
    """Tokens in two forms, or four if some are copies of others, the cleanest first."""
    if len(directions) == 1:
        yield directions, True
        return
    rows = sample(directions, params.sampled, params.seed)
    copies = near_copies(directions.vectors, rows, params.duplicate_cosine)
    some = bool(copies.any())
    if some:
        distinct = directions.only(~copies)
        yield distinct.without_mean(), True
        yield distinct, False
    yield directions.without_mean(), not some
    yield directions, False


def _of_classes(model: HookedTransformer, directions: Directions) -> bool:
    """Whether these are a classifier's outputs, which are no tokens."""
    return directions.kind == "W_U" and model.cfg.classifies


def _named(model: HookedTransformer, tokens: list[str | int]) -> Tensor:
    """Ids of tokens that are given as text or number."""
    ids = []
    for token in tokens:
        if isinstance(token, int) or re.fullmatch(r"#\d+", token):
            found = int(str(token).removeprefix("#"))
        else:
            require(
                model.tokenizer is not None,
                f"this model has no tokenizer: give tokens by id. Received {token!r}",
            )
            found = model.to_single_token(token)
        n = model.cfg.d_vocab
        require(0 <= found < n, f"a token must lie in 0 … {n - 1}. Received {found}")
        ids.append(found)
    return torch.tensor([*dict.fromkeys(ids)])


def _spread_out(directions: Directions, reading: SetReading, n: int) -> Tensor:
    """Some sampled tokens, evenly from the one with the closest neighbour to the loneliest."""
    assert reading.nearest is not None  # of one token alone there are no neighbours
    rows, cosine = reading.nearest
    order = rows[cosine.argsort(descending=True, stable=True)]
    at = torch.linspace(0, len(order) - 1, min(n, len(order))).round().long()
    return torch.tensor([int(directions.name(i)) for i in order[at.to(order.device)].tolist()])


def _checks(model: HookedTransformer, readings: list[SetReading]) -> list[Check]:
    """Sums through the second moment beside the same pair by pair, and what bounds them."""
    tolerance = TOLERANCES[torch.promote_types(model.cfg.dtype, torch.float32)]
    return [
        Check(
            name="dimensionality-equals-pair-by-pair",
            value=max(each.from_pairs for each in readings),
            tolerance=tolerance,
            note=f"D through the second moment of all directions against the squared products with "
            f"each, summed in fp64, for up to {CHECKED} of every set; {SCALED}",
        ),
        Check(
            name="dimensionalities-sum-to-the-rank-at-most",
            value=max(each.over_rank for each in readings),
            tolerance=tolerance,
            note="by how much the sum of D exceeds the dimensions that so many directions can "
            "span, over these, of the model's directions and of the random ones",
        ),
        Check(
            name="squared-norms-equal-trace",
            value=max(each.off_trace for each in readings),
            tolerance=tolerance,
            note="sum of squared norms against the trace of the second moment; |difference| over "
            "max(1, sum)",
        ),
    ]
