"""About which places and edges carry the answer over: first-order estimates of patching."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from analyses.base import Analysis
from analyses.inputs.pairs import TakesPairs, pairs_table, resolve_pairs
from analyses.patching.estimate_setting import ESTIMATED, AttributionPatchingParams, Setting
from analyses.patching.estimated_edges import edges_of
from analyses.patching.estimated_places import places_of
from analyses.registry import register
from analyses.results.result import AnalysisResult
from interp.charts.spec import Chart
from interp.errors import require

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer


@register
class AttributionPatching(TakesPairs, Analysis[AttributionPatchingParams]):
    """First-order estimates of activation patching, and how far they can be trusted.

    Sources: Nanda 2023, Attribution Patching; Syed et al. 2023, Attribution Patching Outperforms
    Automated Circuit Discovery (eap); Hanna et al. 2024, Have Faith in Faithfulness (eap-ig);
    Kramár et al. 2024, AtP* (atp*).
    """

    name = "attribution-patching"
    question = "Which places or edges would, by a first-order estimate, carry the answer over?"
    caveat = (
        "These are estimates, not effects of patching: a change of an activation times a gradient. "
        "Their ranking often holds while their size can be off by an order or more. Where "
        "attention is saturated, or a norm's scale is far from what the patch would make it, a "
        "gradient says next to nothing; opposite effects cancel in it. The table 'agreement' says "
        "how well these estimates rank (Spearman's correlation with exact patching, of signed "
        "changes and of magnitudes; top_tenth: share of the largest tenth found) and how large "
        "they are (scale: 1 would be right). Estimates of positions and heads add up; exact "
        "effects do not. 'leading' lists the largest estimates: a place that they miss is not in "
        "it, but stands in the other tables. Of grouped keys and values, head is the key/value "
        "head."
    )

    def quick(self, params: AttributionPatchingParams) -> AttributionPatchingParams:
        """Fewer places, and fewer edges patched exactly."""
        return params.model_copy(
            update={"sites": ["resid_pre", "z", "k"], "max_exact": min(params.max_exact, 200)}
        )

    def run(self, model: HookedTransformer, params: AttributionPatchingParams) -> AnalysisResult:
        """Estimate, and patch exactly what can be compared."""
        pairs = resolve_pairs(model, params)
        denoises = params.direction == "denoise"
        base, source = (pairs.corrupted, pairs.clean)[:: 1 if denoises else -1]
        with torch.no_grad():
            values = [pairs.metric.per_prompt(model(tokens)).double() for tokens in (base, source)]
        setting = Setting(model, pairs, params, base, source, *values)
        require(
            abs(setting.span) > 1e-6 * max(1.0, float(values[0].abs().max())),
            f"the clean and the corrupted prompts must differ in the {pairs.quantity}. "
            f"Received {float(values[0].mean()):g} for both",
        )
        tables = {"runs": _runs_table(setting)}
        tables["pairs"] = pairs_table(model, pairs, *(values[::-1] if denoises else values))
        if params.method in ("atp", "atp*"):
            found, checks = places_of(setting)
        else:
            found, checks = edges_of(setting)
        tables |= found
        return self.result(
            model,
            params,
            tables=tables,
            figures=_figures(setting, tables),
            checks=checks,
            tokens=[*pairs.clean.tolist(), *pairs.corrupted.tolist()],
        )


def _runs_table(setting: Setting) -> pd.DataFrame:
    params = setting.params
    run, of = ("corrupted", "clean") if params.direction == "denoise" else ("clean", "corrupted")
    corrections = {"atp*": "QK fix, GradDrop" if setting.drops else "QK fix"}
    integrates = params.method == "eap-ig"
    row = {
        "method": params.method,
        "what_is_shown": ESTIMATED,
        "corrections": corrections.get(params.method, "none"),
        "points": f"{params.steps}, {params.rule}" if integrates else "1, the run itself",
        "direction": params.direction,
        "run": run,
        "activations_of": of,
        "quantity": setting.pairs.quantity,
        "value_at_0": float(setting.base_values.mean()),
        "value_at_1": float(setting.source_values.mean()),
    }
    return pd.DataFrame([row])


def _figures(setting: Setting, tables: Mapping[str, pd.DataFrame]) -> dict[str, Chart]:
    params, pairs = setting.params, setting.pairs
    signed = not setting.drops
    what = f"{params.method}, {params.direction}"
    estimates: dict[str, Any] = {
        "value": "normalised_estimate",
        "value_label": f"normalised {ESTIMATED}" + ("" if signed else " (size)"),
        "signed": signed,
    }
    tokens = "position" if pairs.n_pairs == 1 else "position (tokens of pair 0)"
    figures = {
        "heads": Chart(
            kind="heatmap", table="heads", x="head", y="layer", facet="site",
            title=f"Estimates by head ({what})",
            alt="First-order estimates of what each head's output, queries, keys or values would "
            "carry over at all positions; not effects of patching. Layers down, heads across.",
            **estimates,
        ),
        "streams": Chart(
            kind="heatmap", table="streams", x="position", x_text="token", x_label=tokens,
            y="layer", facet="site",
            title=f"Estimates by layer and position ({what})",
            alt="First-order estimates of what one layer at one position would carry over; not "
            "effects of patching. Layers down, positions across.",
            **estimates,
        ),
        "drawn-edges": Chart(
            kind="graph", table="drawn-edges", x="from", y="to", x_level="from_level",
            y_level="to_level", color="through",
            title=f"The {len(tables.get('drawn-edges', ()))} largest estimates ({what})",
            alt="The edges with the largest first-order estimates, from what writes up to what "
            "reads; not effects of patching. Wide where the estimate is large, dashed below zero.",
            **estimates,
        ),
        "leading": Chart(
            kind="bars", table="leading", x="place", value="change", color="kind",
            title="Largest estimates" + (" beside exact patching" if params.verify else "")
            + f" ({what})",
            alt="For each of the places with the largest estimates, the first-order estimate of "
            "the change of the metric"
            + (" and the change by exact patching." if params.verify else "."),
            x_label="", value_label="change of the metric" + ("" if signed else " (size)"),
            signed=signed,
        ),
    }  # fmt: skip
    return {name: chart for name, chart in figures.items() if name in tables}
