"""Along which routes information flows from the tokens to a prediction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from pydantic import Field
from torch import Tensor

from analyses.base import Analysis, Parameters
from analyses.flow.figures import figures
from analyses.flow.tables import (
    edges_table,
    graph_table,
    head_totals_table,
    heads_table,
    nodes_table,
    parts_table,
)
from analyses.inputs.prompts import predictions_table, prompt_tokens, token_texts
from analyses.inputs.targets import resolve_position
from analyses.registry import register
from analyses.results.checks import SCALED, TOLERANCES, scaled_error
from analyses.results.result import AnalysisResult, Check
from interp.attribution.proximity import (
    StreamImportance,
    misfit,
    proximity_hooks,
    stream_importance,
)
from interp.attribution.routes import Routes, trace_routes
from interp.errors import InputError

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

# Heads of classifiers that read the first token alone.
POOLED = ("classification", "next-sentence")


class InformationFlowParams(Parameters):
    """What is read, and what is traced back from where."""

    prompt: str = Field("", description="The text that the model reads.")
    tokens: list[int] | None = Field(
        None, description="Token ids to read instead of a prompt, used as they are."
    )
    positions: list[int] | None = Field(
        None,
        description="The positions whose last stream is traced back, together; negative ones "
        "count from the end. By default the last, or the first of a model that classifies by it.",
        min_length=1,
    )
    threshold: float = Field(
        0.04, ge=0, le=1, description="Edges that are more important than this are kept."
    )
    max_tokens: int = Field(
        512,
        ge=1,
        le=8192,
        description="Longer inputs are refused: the work grows with the square of their length.",
    )
    top_edges: int = Field(
        40, ge=1, le=200, description="How many kept edges the graph shows, those of most flow."
    )
    prepend_bos: bool | None = Field(
        None, description="Begin the prompt with BOS; by default as the model was made for."
    )


@register
class InformationFlow(Analysis[InformationFlowParams]):
    """Routes through the residual stream, heads and MLPs, by importance of the parts of sums.

    Source: Ferrando & Voita 2024, Information Flow Routes.
    """

    name = "information-flow"
    takes_interventions = True
    question = "Along which heads, MLPs and positions does information flow to this prediction?"
    caveat = (
        "Importance says how near a part comes to the sum that it is in, not what would happen "
        "without it: switch it off to see (ablations). It knows no target token: a part that makes "
        "the stream what it is may have nothing to do with the predicted token. Parts that lead "
        "away from the sum count as nothing, and where two large parts cancel the one that is left "
        "over gets the credit. The ℓ1 norm depends on the basis: where a few dimensions are far "
        "larger than all others, as in many pretrained models, they decide. What flows along a "
        "route is a product of shares of sums, not of anything measured from end to end."
    )

    @classmethod
    def merged(cls, defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        """Tokens that the user gives take the place of the model's default prompt."""
        if given.get("tokens") is not None:
            defaults = {k: v for k, v in defaults.items() if k != "prompt"}
        return super().merged(defaults, given)

    @classmethod
    def supports(cls, model: HookedTransformer) -> str | None:
        """One sequence, and at least one layer."""
        return misfit(model)

    def run(self, model: HookedTransformer, params: InformationFlowParams) -> AnalysisResult:
        """Take every stream apart, trace back from the positions, and check the sums."""
        tokens = prompt_tokens(model, params.prompt, params.tokens, params.prepend_bos)
        n = tokens.shape[1]
        if n > params.max_tokens:
            raise InputError(f"max_tokens allows {params.max_tokens} tokens. Received {n}.")
        hooked = bool(model.watched_hooks()[0])
        with torch.no_grad():
            plain = model(tokens)
            logits, cache = model.run_with_cache(tokens, names_filter=proximity_hooks(model))
        importance = stream_importance(cache)
        positions = params.positions or [0 if model.cfg.head in POOLED else -1]
        places = [resolve_position(each, n) for each in positions]
        routes = trace_routes(importance, places, params.threshold)
        texts = token_texts(model, tokens[0])
        edges = edges_table(routes, importance, texts)
        tables = {
            "nodes": nodes_table(routes, texts),
            "edges": edges,
            "graph": graph_table(edges, routes, texts, params.top_edges),
            "heads": heads_table(routes, importance, cache, texts),
            "head-totals": head_totals_table(routes, importance),
            "parts": parts_table(importance, texts, edits=hooked),
        }
        if model.cfg.head in ("lm", "mlm"):
            tables["predictions"] = predictions_table(model, logits[0, routes.positions[-1]])
        return self.result(
            model,
            params,
            tables=tables,
            figures=figures(routes, tables, texts),
            checks=_checks(model, importance, routes, plain, logits, hooked),
            tokens=tokens.tolist(),
            str_tokens=[texts],
        )


def _checks(
    model: HookedTransformer,
    importance: list[StreamImportance],
    routes: Routes,
    plain: Tensor,
    logits: Tensor,
    hooked: bool,
) -> list[Check]:
    exact = 1e-10 if model.cfg.dtype == torch.float64 else 1e-5  # importances are at least fp32
    checks = [
        Check(
            name="importances-sum-to-one",
            value=max(_from_one_or_none(each.total()) for each in importance),
            tolerance=exact,
            note="of all parts of each stream, all positions; 0 where no part comes near the sum",
        ),
        Check(
            name="flow-is-conserved",
            value=float((routes.flow.sum(-1) + routes.lost - 1.0).abs().max()),
            tolerance=exact,
            note="what flows through each stream and what came from biases above it add up to 1",
        ),
        Check(
            name="threshold-0-keeps-all-that-flows",
            value=_without_threshold(importance, routes),
            tolerance=exact,
            note="flow along kept edges against all flow, tracing with threshold 0",
        ),
        Check(
            name="records-agree",
            value=scaled_error(logits, plain),
            tolerance=TOLERANCES[model.cfg.dtype],
            note=f"logits of the run that was taken apart against those of a plain run; {SCALED}",
        ),
    ]
    if hooked:  # what hooks put into a stream is then a part of it, whatever it is
        return checks
    left = Check(
        name="parts-sum-to-streams",
        value=max(float(each.left.max()) for each in importance),
        tolerance=TOLERANCES[model.cfg.dtype],
        note="stream before, heads by source, MLP and biases against each residual stream, all "
        f"positions; {SCALED}",
    )
    return [left, *checks]


def _from_one_or_none(total: Tensor) -> float:
    return float(torch.minimum((total - 1.0).abs(), total.abs()).max())


def _without_threshold(importance: list[StreamImportance], routes: Routes) -> float:
    everything = trace_routes(importance, routes.positions, 0.0)
    return float((everything.kept - routes.flow).abs().max())
