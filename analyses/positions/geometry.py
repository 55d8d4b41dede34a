"""What shape positions have inside a model: how much, how many dimensions, which waves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from pydantic import Field, field_validator
from torch import Tensor

from analyses.base import Analysis
from analyses.inputs.prompts import token_texts
from analyses.positions.geometry_figures import figures
from analyses.positions.geometry_tables import (
    DRAWN_COMPONENTS,
    Site,
    angles_table,
    circles_table,
    components_table,
    helix_table,
    identities_table,
    periodogram_table,
    shift_curves,
    shift_table,
    similarity_table,
    spectrum_table,
    trajectory_table,
    variance_table,
)
from analyses.positions.rows import RowsParams, resolve_rows
from analyses.registry import register
from analyses.results.checks import SCALED, TOLERANCES, scaled_error
from analyses.results.result import AnalysisResult, Check
from interp.errors import InputError
from interp.position_effects.curve import Curve
from interp.position_effects.identities import (
    Identity,
    model_identities,
    shift_rotation,
    sinusoidal_product,
)
from interp.position_effects.means import PositionMeans, position_means
from interp.position_effects.rows import Rows
from interp.position_effects.shift import fewest_pairs
from interp.positions import SinusoidalPositions
from interp.run.recording import position_axis

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

SHORTEST = 16  # positions with which a spectrum and a map of them say anything
TABLE_SITE = "encoding"


class PositionGeometryParams(RowsParams):
    """What is read, where it is looked at, and how."""

    sites: list[str] = Field(
        [],
        description="Hooks to look at: names or globs, with or without heads; by default the "
        "residual stream before every layer and after the last. The encoding's own table, where "
        "there is one, comes first always.",
    )
    first: int | None = Field(
        None,
        ge=0,
        description="The first position counted; by default the first whose token is like all "
        "others: after BOS, and after a task's own first token.",
    )
    folds: int = Field(
        8,
        ge=4,
        le=64,
        description="Groups of sequences whose means have independent noise; no more than "
        "sequences.",
    )
    rank: int = Field(6, ge=1, le=64, description="Leading components that maps and angles take.")
    offsets: list[int] = Field(
        [1, 2, 4, 8], description="Shifts to fit a map for; those too far for the rows are left."
    )

    @field_validator("sites", mode="before")
    @classmethod
    def _one_site_is_a_list_of_one(cls, sites: Any) -> Any:
        return [sites] if isinstance(sites, str) else sites

    @field_validator("offsets")
    @classmethod
    def _offsets_go_ahead(cls, offsets: list[int]) -> list[int]:
        if not offsets or min(offsets) < 1 or len(set(offsets)) < len(offsets):
            raise ValueError(f"offsets must be at least 1 and no two the same, got {offsets}")
        return offsets


@dataclass(frozen=True)
class _Read:
    """What was read, and what came of it."""

    rows: Rows
    first: int
    means: PositionMeans
    sites: list[Site]


@register
class PositionGeometry(Analysis[PositionGeometryParams]):
    """Means by position, and the curve that they make in the model's space.

    Sources: Vaswani et al. 2017, Attention Is All You Need, §3.5; Stringer et al. 2019,
    High-dimensional geometry of population responses (cross-validated PCA); Kantamneni and Tegmark
    2025, Language Models Use Trigonometry to Do Addition (helix fits).
    """

    name = "position-geometry"
    question = "How much of each layer is position, in which shape, and is it the same in all?"
    caveat = (
        "The positional part is the mean over sequences at each position. It is position's alone "
        "only where tokens do not depend on the position: a BOS that is always first, a task with "
        "fixed places, or texts that begin alike put content into it. For that reason position 0 "
        "is left out where it is BOS, and an encoder's last one where that is SEP. What position "
        "does together with content (a head that turns both into something new) averages out and "
        "is not seen. Means are noisy; noise is taken out of shares, powers and similarities, not "
        "out of curves, angles and maps, whose scores it lowers. A smooth curve of any origin has "
        "most of its power at the longest periods, a few leading components that look like waves, "
        "and neighbours that are alike: waves of a network are those that return within the "
        "positions, and a shift map says something where it beats both no shift and shuffled "
        "targets. A positional part need not be used by the model."
    )

    @classmethod
    def supports(cls, model: HookedTransformer) -> str | None:
        """Models with one stack that read enough positions."""
        cfg = model.cfg
        if cfg.architecture == "encoder-decoder":
            return "it has two stacks, with positions of their own"
        if not cfg.n_layers:
            return "it has no layers"
        if cfg.n_ctx < SHORTEST:
            return f"it reads {cfg.n_ctx} tokens, too few for a curve"
        return None

    def quick(self, params: PositionGeometryParams) -> PositionGeometryParams:
        """Fewer sequences and shifts."""
        return params.model_copy(update={"sequences": 32, "offsets": [1, 4]})

    def run(self, model: HookedTransformer, params: PositionGeometryParams) -> AnalysisResult:
        """Read rows, take means by position, and measure the curve at every site."""
        read = _read(model, params)
        known = [site for site in read.sites if site.knows_position]
        identities = model_identities(model, read.rows.length, int(read.rows.tokens[0, -1]))
        tables = {"variance": variance_table(read.sites)}
        if known:
            tables |= _tables(known, params)
        if identities:
            tables["identities"] = identities_table(identities)
        return self.result(
            model,
            params,
            tables=tables,
            figures=figures(tables, known),
            checks=_checks(model, read, identities),
            tokens=read.rows.tokens.tolist(),
            str_tokens=[token_texts(model, row) for row in read.rows.tokens.tolist()],
        )


def _read(model: HookedTransformer, params: PositionGeometryParams) -> _Read:
    rows = resolve_rows(model, params)
    if bool((rows.tokens == rows.tokens[0]).all()):
        raise InputError(
            "rows must differ: what all of them share at a position would count as position's. "
            f"All {rows.n} are the same."
        )
    first = _first(rows) if params.first is None else params.first
    end = _end(model, rows)
    if end - first < SHORTEST:
        raise InputError(
            f"{SHORTEST} positions or more must be left from the first counted ({first}) on. "
            f"Rows have {end}."
        )
    counted = torch.arange(end)
    last = f"blocks.{model.cfg.n_layers - 1}.hook_resid_post"
    names = params.sites or ["blocks.*.hook_resid_pre", last]
    means = position_means(model, rows.tokens, names, folds=params.folds)
    sites = []
    table = _encoding_table(model, rows.length)
    if table is not None:
        sites.append(_table_site(model, Curve.of_table(table).in_order(counted).after(first)))
    by_head = means.per_head()
    curves = {name: by_head.curve(name).in_order(counted).after(first) for name in by_head.names}
    sites += [Site.of(name, i, of) for i, (name, of) in enumerate(curves.items(), len(sites))]
    return _Read(rows, first, means, sites)


def _first(rows: Rows) -> int:
    """The first position whose token is like the others': behind BOS, and the digit of `count`."""
    return int(rows.begins_with_bos) + int(rows.kind == "task count")


def _end(model: HookedTransformer, rows: Rows) -> int:
    """The position after the last counted: an encoder's texts end with one token, as SEP."""
    ends_alike = bool((rows.tokens[:, -1] == rows.tokens[0, -1]).all())
    return rows.length - int(model.cfg.architecture == "encoder" and ends_alike)


def _encoding_table(model: HookedTransformer, length: int) -> Tensor | None:
    encoding = model.main_stack.pos_embed
    if not (encoding.adds_embedding or encoding.adds_to_queries_and_keys):
        return None
    places = torch.arange(length, device=model.W_E.device)[None]
    with torch.no_grad():
        found: Tensor = encoding.embedding(places, length)[0]
    return found


def _table_site(model: HookedTransformer, curve: Curve) -> Site:
    encoding = model.main_stack.pos_embed
    if not isinstance(encoding, SinusoidalPositions):
        return Site.of(TABLE_SITE, 0, curve)
    frequencies = encoding.frequencies(curve.mean.device)
    layout = "interleaved" if encoding.interleaved else "halves"
    offsets = range(1, curve.n_positions)
    turns = {k: shift_rotation(frequencies, k, layout) for k in offsets if k & (k - 1) == 0}
    products = sinusoidal_product(
        frequencies, torch.arange(curve.n_positions).to(frequencies.device)
    )
    return Site.of(TABLE_SITE, 0, curve, turns, products)


def _tables(sites: Sequence[Site], params: PositionGeometryParams) -> dict[str, pd.DataFrame]:
    n = min(site.curve.n_positions for site in sites)
    offsets = [k for k in sorted(params.offsets) if k < n and fewest_pairs(n, k) >= params.rank + 2]
    tables = {
        "components": components_table(sites, max(params.rank, DRAWN_COMPONENTS)),
        "trajectory": trajectory_table(sites),
        "circles": circles_table(sites),
        "spectrum": spectrum_table(sites),
        "periodogram": periodogram_table(sites),
        "helix": helix_table(sites, params.seed),
        "similarity": similarity_table(sites),
    }
    if offsets:
        tables["shift"] = shift_table(sites, offsets, params.rank, params.seed)
        tables["shift-curves"] = shift_curves(tables["shift"])
    tables["angles"] = angles_table(sites, params.rank, params.seed)
    return {name: table for name, table in tables.items() if len(table)}


def _checks(model: HookedTransformer, read: _Read, identities: Sequence[Identity]) -> list[Check]:
    return [
        *_means_checks(model, read),
        _spectrum_check(read.sites),
        *(
            Check(
                name=f"{identity.name} ({identity.dtype})",
                value=identity.error,
                tolerance=identity.tolerance,
                note=f"{identity.note}; {SCALED}",
            )
            for identity in identities
        ),
    ]


def _means_checks(model: HookedTransformer, read: _Read) -> list[Check]:
    """Means of the first few rows, a batch at a time and by groups, against those of one tensor."""
    tokens = read.rows.tokens[: min(6, read.rows.n)]
    names = read.means.names
    found = position_means(model, tokens, names, batch_size=4, folds=min(3, len(tokens)))
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens, names_filter=names, return_type=None)
    means, totals = [0.0], [0.0]
    for name in names:
        axis = position_axis(name, cache[name])
        assert axis is not None  # else it would have no means
        x = cache[name].double().movedim(axis, 1)
        means.append(scaled_error(found.mean[name], x.mean(0)))
        between = found.centred[name].square().mean(0)
        within = found.squares[name].mean(0) / len(tokens)
        whole = (x - x.mean((0, 1))).square().mean((0, 1))
        totals.append(scaled_error(between + within, whole))
    tolerance = TOLERANCES[model.cfg.dtype]
    return [
        Check(
            name="means-two-ways",
            value=max(means),
            tolerance=tolerance,
            note="means of some rows merged from batches and groups of them, against those of all "
            f"at once; {SCALED}",
        ),
        Check(
            name="variance-adds-up",
            value=max(totals),
            tolerance=tolerance,
            note="variance between and within positions of the same rows, noise left in, against "
            f"all of it, entry by entry; {SCALED}",
        ),
    ]


def _spectrum_check(sites: Sequence[Site]) -> Check:
    worst = [0.0]
    for site in sites:
        found = site.spectrum
        size = float(site.curve.folds.square().sum(-1).mean())
        missing = abs(found.trend + float(found.power.sum()) - found.total)
        worst.append(missing / max(1.0, size))
    return Check(
        name="spectrum-sums-to-the-power",
        value=max(worst),
        tolerance=TOLERANCES[torch.float64],
        note="power of the line and of all frequencies against the positional power (Parseval), "
        "every site; |difference| over max(1, mean square)",
    )
