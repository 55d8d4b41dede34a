"""What attention does with position: parts of scores, curves by offset, distances and sinks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field

from analyses.base import Analysis
from analyses.inputs.prompts import token_texts
from analyses.positions.attention_figures import attention_figures
from analyses.positions.attention_tables import (
    bias_curves_table,
    bias_heads_table,
    distance_distribution_table,
    distances_table,
    heads_table,
    offsets_table,
    rotary_curves_table,
    rotary_heads_table,
    rotary_table,
    score_parts_table,
)
from analyses.positions.rows import RowsParams, resolve_rows
from analyses.registry import register
from analyses.results.checks import SCALED, TOLERANCES, scaled_error
from analyses.results.result import AnalysisResult, Check
from interp.behaviour import offset_scores
from interp.kernels import attention_statistics
from interp.position_effects import (
    BiasCurves,
    ExplainedPatterns,
    MeanPatterns,
    RecoveredBias,
    RotaryBands,
    ScorePartStatistics,
    attention_distances,
    bias_curves,
    explained_by_position,
    mean_patterns,
    offset_curves,
    position_means,
    recovered_bias,
    rotary_bands,
    score_part_statistics,
)

if TYPE_CHECKING:
    from jaxtyping import Int
    from torch import Tensor

    from interp.transformer import HookedTransformer

SHORTEST = 8  # tokens that a model must be able to read
BATCH = 32  # rows that run at once, if they are short
ENTRIES = 2**20  # of a layer's patterns at once: with more it is slower, and takes memory
COMPARED = 8  # offsets that are worked out a second way


class PositionAttentionParams(RowsParams):
    """What is read, and how scores are taken apart."""

    parts_rows: int = Field(
        16,
        ge=1,
        description="On how many of the rows scores are taken apart; the means by position, and "
        "the patterns, are of all rows.",
    )
    grand_mean: Literal["position", "bias"] = Field(
        "position",
        description="Where the mean over all positions goes: the position part is the mean at each "
        "position, or (bias) only how that differs from the mean over all of them.",
    )
    split_bias: bool = Field(
        False, description="Name the five terms with a bias, instead of their sum."
    )


@register
class PositionAttention(Analysis[PositionAttentionParams]):
    """The exact split of scores into content and position, and what patterns owe to position.

    Sources: Dai et al. 2019, Transformer-XL, §3.3; Ke et al. 2021, TUPE, §3.1; Su et al. 2021,
    RoFormer; Press et al. 2022, ALiBi; Raffel et al. 2020, T5; Barbero et al. 2025, Round and Round
    We Go!.
    """

    name = "position-attention"
    question = "How much of where heads look comes from position, and through which terms?"
    caveat = (
        "Shares of a score's variance count every key alike, while a softmax sees mostly the "
        "highest: `pattern_change` says what leaving a part out does to the pattern. Shares are "
        "covariances with the whole: one is negative where a part works against the others. The "
        "position part is a mean over these rows: of n rows it holds 1/n of their content, it "
        "holds whatever else is the same in all rows at a position (as in tasks with a fixed "
        "layout), and what a layer makes of position text by text counts as content. It includes "
        "the mean over all positions, which tells no position by itself: position-content may be a "
        "constant query's liking for some tokens (grand_mean=bias tells them apart). With rotary "
        "positions a constant query and key do give scores by offset, which are counted as "
        "position-position, and as bias where biases make them. `position_r2` counts 1/n of what "
        "differs between n rows. What offset explains is fitted to patterns, so that a head that "
        "looks one token back because of what stands there is explained by the offset too, and an "
        "induction head's offset is whatever distance the rows repeat at."
    )

    @classmethod
    def supports(cls, model: HookedTransformer) -> str | None:
        """Models with heads and one stack that can read a few tokens."""
        cfg = model.cfg
        if cfg.architecture == "encoder-decoder":
            return "it reads two texts, with positions of their own"
        if not cfg.n_layers:
            return "it has no heads"
        if cfg.n_ctx < SHORTEST:
            return f"it reads {cfg.n_ctx} tokens, too few for offsets to differ"
        return None

    def quick(self, params: PositionAttentionParams) -> PositionAttentionParams:
        """Fewer rows."""
        return params.model_copy(update={"sequences": 16, "parts_rows": 4})

    def run(self, model: HookedTransformer, params: PositionAttentionParams) -> AnalysisResult:
        """Run the rows for means, patterns and scores, and put tables and checks together."""
        rows = resolve_rows(model, params)
        tokens = rows.tokens
        taken_apart = tokens[: params.parts_rows]
        batch = max(1, min(BATCH, ENTRIES // (model.cfg.n_heads * rows.length**2)))
        means = position_means(model, tokens, "blocks.*.hook_resid_pre", BATCH)
        parts = score_part_statistics(
            model,
            taken_apart,
            means,
            grand_mean=params.grand_mean,
            split_bias=params.split_bias,
            batch_size=batch,
        )
        patterns = mean_patterns(model, tokens, batch)
        explained, distances = explained_by_position(patterns), attention_distances(patterns)
        heads = heads_table(patterns, explained, model.cfg.attn_sinks)
        tables = {
            "heads": heads,
            "distances": distances_table(patterns, distances),
            "distance-distribution": distance_distribution_table(distances, heads),
            "score-parts": score_parts_table(parts),
            "offsets": offsets_table(patterns, heads),
        }
        checks = [
            *_parts_checks(model, parts),
            *_pattern_checks(model, tokens, patterns, batch),
            _explained_check(explained),
        ]
        encoding = model.main_stack.pos_embed
        if encoding.rotates:
            bands = rotary_bands(model, taken_apart, batch_size=batch)
            causal = bool(model.main_stack.causal)
            tables["rotary"] = rotary_table(bands)
            tables["rotary-heads"] = rotary_heads_table(bands, rows.length)
            tables["rotary-curves"] = rotary_curves_table(bands, rows.length, causal)
            checks.append(_bands_check(model, bands))
        if encoding.biases_scores:
            curves = bias_curves(model, rows.length)
            recovered = [
                recovered_bias(model, taken_apart, layer) for layer in range(model.cfg.n_layers)
            ]
            tables["bias-curves"] = bias_curves_table(curves)
            tables["bias-heads"] = bias_heads_table(curves, recovered)
            checks.append(_bias_check(model, curves, recovered))
        return self.result(
            model,
            params,
            tables=tables,
            figures=attention_figures(tables, rows.kind),
            checks=checks,
            tokens=tokens.tolist(),
            str_tokens=[token_texts(model, row) for row in tokens],
        )


def _parts_checks(model: HookedTransformer, parts: ScorePartStatistics) -> list[Check]:
    tolerance = TOLERANCES[model.cfg.dtype]
    sums = parts.share.sum(-1)
    off = torch.where(sums.isnan(), 0, (sums - 1).abs())
    return [
        Check(
            name="parts-sum-to-scores",
            value=parts.error,
            tolerance=tolerance,
            note=f"sum of the parts of every score against hook_attn_scores of the run; {SCALED}",
        ),
        Check(
            name="shares-sum-to-one",
            value=float(off.max()),
            tolerance=tolerance,
            note="shares of the variance of every head's scores: largest deviation of their sum",
        ),
    ]


def _pattern_checks(
    model: HookedTransformer,
    tokens: Int[Tensor, "batch pos"],
    patterns: MeanPatterns,
    batch: int,
) -> list[Check]:
    tolerance = TOLERANCES[model.cfg.dtype]
    found = attention_statistics(model, tokens, statistics=["entropy", "first_mass"])
    # Queries behind the first, averaged over texts: [layer, head]
    entropy, first = (found[name][..., 1:].double().mean((1, 3)) for name in found)
    errors = [
        scaled_error(patterns.mean_entropy(), entropy),
        scaled_error(patterns.first_mass(), first),
    ]
    offsets, curves = offset_curves(patterns)
    compared = [k for k in offsets.tolist() if 0 <= k < COMPARED]
    again = torch.zeros_like(curves[..., : len(compared)])
    for some in tokens.split(batch):
        scores = offset_scores(model, some, compared).by_offset
        share = len(some) / len(tokens)
        again += share * torch.stack([scores[k].score for k in compared], -1)
    chosen = torch.tensor(compared, device=offsets.device) - offsets[0]
    return [
        Check(
            name="statistics-two-ways",
            value=float(torch.tensor(errors).max()),
            tolerance=tolerance,
            note="entropy and attention to the first token of the patterns against those made "
            f"beside fused attention; {SCALED}",
        ),
        Check(
            name="offsets-two-ways",
            value=scaled_error(curves[..., chosen], again),
            tolerance=tolerance,
            note="attention at the first offsets from the mean patterns against scores of each "
            f"text; {SCALED}",
        ),
    ]


def _explained_check(of: ExplainedPatterns) -> Check:
    over = [of.offset - of.both, of.key - of.both, of.both - of.position, of.position - 1]
    return Check(
        name="explained-in-order",
        value=float(torch.stack(over).nan_to_num(0).clamp(min=0).max()),
        tolerance=1e-6,
        note="offset and key each explain no more than both, those no more than all positions, "
        "and those no more than everything: largest excess",
    )


def _bands_check(model: HookedTransformer, bands: RotaryBands) -> Check:
    return Check(
        name="bands-sum-to-scores",
        value=bands.error,
        tolerance=TOLERANCES[model.cfg.dtype],
        note=f"what the frequencies add to every score against hook_attn_scores; {SCALED}",
    )


def _bias_check(
    model: HookedTransformer, curves: BiasCurves, recovered: list[RecoveredBias]
) -> Check:
    errors = []
    for of in recovered:
        expected = curves.curve[:, of.offsets - curves.offsets[0]].double()
        off = (of.curve - expected).abs().amax(-1) + of.deviation
        errors.append(float((off / of.largest.clamp(min=1.0)).max()))
    return Check(
        name="bias-from-scores",
        value=float(torch.tensor(errors).max()),
        tolerance=TOLERANCES[model.cfg.dtype],
        note="the scores of every layer less their products of queries and keys, against the "
        "encoding's own curves, each text, query and key: largest |difference| over max(1, a "
        "head's largest score)",
    )
