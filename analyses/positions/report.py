"""All that is known here of a model's positions, on one page; several models beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import pandas as pd
from pydantic import Field, field_validator

from analyses.base import OPENS_MODELS, Analysis
from analyses.inputs.pairs import Texts
from analyses.positions.report_figures import add_drawn_tables, report_figures
from analyses.positions.report_merging import (
    ANALYSES,
    Part,
    left_out_table,
    merged_checks,
    merged_tables,
    settings_table,
)
from analyses.positions.report_overview import overview_table
from analyses.positions.rows import RowChoice
from analyses.registry import get_analysis, register, run_analysis
from analyses.results.result import AnalysisResult
from interp.errors import InputError
from interp.pretrained import load_model
from interp.progress import stage
from interp.weights import weight_hash

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

PartName = Literal["probes", "geometry", "attention", "interventions", "length"]
if TYPE_CHECKING:
    Parts = list[PartName]
else:
    Parts = PartName | list[PartName]  # one may stand for a list of one


class PositionReportParams(RowChoice):
    """Which models stand beside this one, and what is asked of all of them."""

    beside: Texts = Field(
        [],
        description="Other models, by the names that load_model takes: zoo:NAME, a directory, a "
        "name on the hub. They are opened where this one is, in its number format.",
        json_schema_extra=OPENS_MODELS,
    )
    parts: Parts = Field(
        list(get_args(PartName)),
        min_length=1,
        description="Which analyses are run: position-probes, -geometry, -attention, "
        "-interventions, length-generalisation.",
    )
    sequences: int | None = Field(
        None, ge=5, le=100_000, description="How many rows are read; by default as each analysis "
        "does by itself.",
    )  # fmt: skip
    length: int | None = Field(
        None,
        ge=2,
        description="Tokens of a row, but where lengths are compared; by default the length that "
        "each model's task was trained at, without a task 64, or what the model was made for.",
    )
    extent: Literal["full", "quick"] = Field(
        "full", description="Each analysis in full, or its quick form."
    )

    @field_validator("parts", mode="before")
    @classmethod
    def _one_name_is_a_list_of_one(cls, given: Any) -> Any:
        return [given] if isinstance(given, str) else given

    @field_validator("beside", "parts")
    @classmethod
    def _each_once(cls, names: list[str]) -> list[str]:
        if len(set(names)) < len(names):
            raise ValueError(f"each can be named once, got {names}")
        return names


@register
class PositionReport(Analysis[PositionReportParams]):
    """Every analysis of position, their tables with a column that names the model."""

    name = "position-report"
    question = "How does the model know where it is, and how far does that carry?"
    caveat = (
        "Each part has a caveat of its own, which holds here too: run it by itself to read it. "
        "What a probe reads need not be used, what attention depends on need not matter for the "
        "output, and moved positions are unlike anything seen in training: a claim about a model "
        "should stand on several of them. Models beside each other differ by one training run "
        "each: a difference between two encodings may be one between two seeds. Where models read "
        "different rows (other tasks, tokenizers or lengths) their losses are not comparable, and "
        "R² and accuracy depend on how many positions there are to tell apart."
    )

    @classmethod
    def supports(cls, model: HookedTransformer) -> str | None:
        """Models that one of its analyses fits."""
        reasons = {name: get_analysis(name).supports(model) for name in ANALYSES.values()}
        if None in reasons.values():
            return None
        return f"none of its analyses does: {'; '.join(dict.fromkeys(map(str, reasons.values())))}"

    def quick(self, params: PositionReportParams) -> PositionReportParams:
        """Each analysis's quick form."""
        return params.model_copy(update={"extent": "quick"})

    def run(self, model: HookedTransformer, params: PositionReportParams) -> AnalysisResult:
        """Run every part on every model, and merge what they give."""
        models = _models(model, params.beside)
        pairs = [(label, name) for label in models for name in params.parts]
        parts = []
        for i, (label, name) in enumerate(pairs):
            with stage(i, len(pairs), f"{name} of {label}"):
                parts.append(_part(label, models[label], name, params))
        if all(part.result is None for part in parts):
            reasons = "; ".join(dict.fromkeys(part.reason for part in parts))
            raise InputError(f"no part of {self.name} could be run: {reasons}")
        hashes = {label: weight_hash(each) for label, each in models.items()}
        merged = merged_tables(parts)
        tables: dict[str, pd.DataFrame] = {
            "overview": overview_table(merged, {k: each.cfg for k, each in models.items()}),
        }
        left_out = left_out_table(parts)
        if len(left_out):
            tables["left-out"] = left_out
        tables["models"] = _models_table(models, hashes)
        add_drawn_tables(merged, list(models))
        order = list(ANALYSES)
        tables |= dict(sorted(merged.items(), key=lambda item: order.index(item[0].split("-")[0])))
        tables["settings"] = settings_table(parts)
        result = self.result(
            model,
            params,
            tables=tables,
            figures=report_figures(tables, list(models)),
            checks=merged_checks(parts),
        )
        beside = {label: found for label, found in hashes.items() if models[label] is not model}
        known = result.provenance.model_copy(update={"beside": beside})
        return replace(result, provenance=known)


def _models(model: HookedTransformer, beside: Sequence[str]) -> dict[str, HookedTransformer]:
    """The models by what they are called here, opened before anything is run."""
    opened = {
        name: load_model(name, device=model.cfg.device, dtype=model.cfg.dtype).eval()
        for name in beside
    }
    own = model.cfg.model_name or "this model"
    if own in opened:  # a model that was trained further may have kept its name
        if weight_hash(opened[own]) == weight_hash(model):
            raise InputError(f"beside names other models than the one that is analysed: {own!r}.")
        own = f"this {own}"
    return {own: model, **opened}


def _part(label: str, model: HookedTransformer, name: str, params: PositionReportParams) -> Part:
    """One analysis of one model, or why it was left out."""
    analysis = get_analysis(ANALYSES[name])
    reason = analysis.supports(model)
    if reason is not None:
        return Part(label, name, None, reason)
    try:
        result = run_analysis(
            analysis.name, model, params.extent == "quick", **_given(analysis.Params, params)
        )
    except InputError as refusal:  # what is asked for does not fit this model: told in a row
        return Part(label, name, None, str(refusal))
    return Part(label, name, result)


def _given(asked: Any, params: PositionReportParams) -> dict[str, Any]:
    """The settings that differ from their defaults here, of those that an analysis has."""
    shared = set(PositionReportParams.model_fields) - {"beside", "parts", "extent"}
    found = {name: getattr(params, name) for name in shared & set(asked.model_fields)}
    defaults = PositionReportParams.model_fields
    return {name: value for name, value in found.items() if value != defaults[name].default}


def _models_table(models: dict[str, HookedTransformer], hashes: dict[str, str]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "model": label,
            "encoding": each.cfg.positional_embedding_type,
            "layers": each.cfg.n_layers,
            "heads": each.cfg.n_heads,
            "d_model": each.cfg.d_model,
            "n_ctx": each.cfg.n_ctx,
            "weights": sum(parameter.numel() for parameter in each.parameters()),
            "dtype": str(each.cfg.dtype).removeprefix("torch."),
            "device": str(each.W_E.device),
            "weight_hash": hashes[label],
        }
        for label, each in models.items()
    )
