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
from analyses.checks import SCALED, TOLERANCES, scaled_error
from analyses.position_geometry_tables import (
    DRAWN_COMPONENTS,
    N_ERRORS,
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
from analyses.position_rows import RowsParams, resolve_rows
from analyses.prompts import token_texts
from analyses.registry import register
from analyses.result import AnalysisResult, Check
from interp.charts.spec import Chart
from interp.errors import InputError
from interp.positional.curve import Curve
from interp.positional.identities import (
    Identity,
    model_identities,
    shift_rotation,
    sinusoidal_product,
)
from interp.positional.means import PositionMeans, position_means
from interp.positional.rows import Rows
from interp.positional.shift import fewest_pairs
from interp.positional.spectrum import position_spectrum
from interp.positions import SinusoidalPositions

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

SHORTEST = 16  # positions with which a spectrum and a map of them say anything
PANELS = 6  # sites that figures with a panel for each show
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
        "fixed places, or texts that begin alike put content into it, and position 0 is left out "
        "for that reason where it is BOS. What position does together with content (a head that "
        "turns both into something new) averages out and is not seen. Means are noisy; noise is "
        "taken out of shares, powers and similarities, not out of curves, angles and maps, whose "
        "scores it lowers. A smooth curve of any origin has most of its power at the longest "
        "periods, a few leading components that look like waves, and neighbours that are alike: "
        "waves of a network are those that return within the positions, and a shift map says "
        "something where it beats both no shift and shuffled targets. A positional part need not "
        "be used by the model."
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
            figures=_figures(tables, known),
            checks=_checks(model, read, identities),
            tokens=read.rows.tokens.tolist(),
            str_tokens=[token_texts(model, row) for row in read.rows.tokens.tolist()],
        )


def _read(model: HookedTransformer, params: PositionGeometryParams) -> _Read:
    if params.folds > params.sequences:
        raise InputError(
            f"folds must be no more than sequences ({params.sequences}). Received {params.folds}."
        )
    rows = resolve_rows(model, params)
    first = _first(rows) if params.first is None else params.first
    if rows.length - first < SHORTEST:
        raise InputError(
            f"{SHORTEST} positions or more must be left from the first counted ({first}) on. "
            f"Rows have {rows.length}."
        )
    last = f"blocks.{model.cfg.n_layers - 1}.hook_resid_post"
    names = params.sites or ["blocks.*.hook_resid_pre", last]
    means = position_means(model, rows.tokens, names, folds=params.folds)
    sites = []
    table = _encoding_table(model, rows.length)
    if table is not None:
        sites.append(_table_site(model, Curve.of_table(table).after(first)))
    by_head = means.per_head()
    curves = {name: by_head.curve(name).after(first) for name in by_head.names}
    sites += [Site.of(name, i, of) for i, (name, of) in enumerate(curves.items(), len(sites))]
    return _Read(rows, first, means, sites)


def _first(rows: Rows) -> int:
    """The first position whose token is like the others': behind BOS, and the digit of `count`."""
    return int(rows.begins_with_bos) + int(rows.kind == "task count")


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
        "helix": helix_table(sites),
        "similarity": similarity_table(sites),
    }
    if offsets:
        tables["shift"] = shift_table(sites, offsets, params.rank, params.seed)
        tables["shift-curves"] = shift_curves(tables["shift"])
    tables["angles"] = angles_table(sites, params.rank, params.seed)
    return {name: table for name, table in tables.items() if len(table)}


def _shown(sites: Sequence[Site]) -> list[str]:
    """The labels of at most `PANELS` sites, evenly chosen, first and last among them."""
    if len(sites) <= PANELS:
        return [site.label for site in sites]
    step = (len(sites) - 1) / (PANELS - 1)
    return [sites[round(i * step)].label for i in range(PANELS)]


def _figures(tables: dict[str, pd.DataFrame], known: Sequence[Site]) -> dict[str, Chart]:
    charts = {
        "variance": Chart(
            kind="bars",
            table="variance",
            x="order",
            x_text="label",
            x_label="site",
            value="share",
            value_label="share of variance (± standard error)",
            error="stderr",
            color="verdict",
            title="How much of each site is position",
            alt="Variance between positions as a share of all variance, noise taken out, at each "
            "site in the model's order.",
        )
    }
    if not known:
        return charts
    shown = _shown(known)
    for name in ("trajectory", "similarity", "shift-curves", "periodogram"):
        if name in tables:
            mine = tables[name]["label"].str.removesuffix(", as it is").isin(shown)
            tables[name] = tables[name].assign(drawn=mine)
    charts["trajectory"] = Chart(
        kind="line",
        table="trajectory",
        where={"drawn": True},
        x="position",
        y="score",
        color="component",
        facet="label",
        title="Leading components of the mean by position",
        alt="The first three principal components' scores against position, one panel a site.",
    )
    charts["spectrum"] = Chart(
        kind="heatmap",
        table="spectrum",
        x="turns",
        x_label="turns over all positions",
        y="order",
        y_text="label",
        y_label="site",
        value="share",
        value_label="share of positional power",
        title="Power by frequency, a straight line taken out",
        alt="The discrete spectrum of the mean by position: sites down, frequencies across.",
    )
    charts["periodogram"] = Chart(
        kind="line",
        table="periodogram",
        where={"drawn": True},
        x="period",
        x_label="period (positions)",
        y="share",
        y_label="share explained beyond a line",
        color="label",
        title="What one sine and cosine of each period explain",
        alt="Share of positional power by period, one line a site.",
    )
    charts["similarity"] = Chart(
        kind="line",
        table="similarity",
        where={"drawn": True},
        x="offset",
        y="correlation",
        y_label="x(t)·x(t + k) (± sd over t)",
        error="correlation_spread",
        facet="label",
        signed=True,
        title="How alike positions are by distance",
        alt="Mean product of the positional parts at two positions, over that at distance 0, by "
        "their distance; the band is narrow where the distance says all.",
    )
    if "shift-curves" in tables:
        charts["shift"] = Chart(
            kind="line",
            table="shift-curves",
            where={"drawn": True},
            x="offset",
            y="held_out_r2",
            y_label="held-out R² (at least -1)",
            color="map",
            facet="label",
            title="One linear map that moves every position on by k",
            alt="R² of the fitted map on positions it has not seen, beside that of no shift, and "
            "of the closed form where there is one.",
        )
    chances = tables["angles"]["random_overlap"]
    chance = f"{chances.min():.2g}"
    if chances.min() < chances.max():
        chance += f" … {chances.max():.2g}"
    charts["angles"] = Chart(
        kind="heatmap",
        table="angles",
        x="other_order",
        x_text="other_label",
        x_label="site",
        y="order",
        y_text="label",
        y_label="site",
        value="overlap",
        value_label="mean cos² of principal angles",
        probability=True,
        title=f"Do sites hold position in the same directions? (random: {chance})",
        alt="Overlap of the leading components of every two sites, each from one half of the "
        "sequences; noise keeps it below 1, and the diagonal says by how much.",
    )
    return charts


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
        x = cache[name].double()
        if x.shape[1] != tokens.shape[1] or name.endswith("pattern"):
            x = x.movedim(2, 1)
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
        found = position_spectrum(site.curve)
        size = float(site.curve.folds.square().sum(-1).mean())
        missing = abs(found.trend + float(found.power.sum()) - found.total)
        worst.append(missing / max(1.0, size))
    return Check(
        name="spectrum-sums-to-the-power",
        value=max(worst),
        tolerance=TOLERANCES[torch.float64],
        note="power of the line and of all frequencies against the positional power (Parseval), "
        f"every site; |difference| over max(1, mean square); sites that show position are "
        f"{N_ERRORS:g} standard errors above zero",
    )
