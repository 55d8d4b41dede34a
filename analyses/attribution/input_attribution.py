"""Which tokens of the prompt a prediction depends on, by gradients and by attention."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from analyses.attribution.input_tables import (
    Setting,
    by_token_table,
    completeness_table,
    explained_table,
    value_weighted_table,
)
from analyses.base import Analysis, Parameters
from analyses.inputs.prompts import prompt_tokens, token_texts
from analyses.inputs.targets import resolve_position, resolve_token, token_name
from analyses.registry import register
from analyses.results.checks import SCALED, TOLERANCES, scaled_error
from analyses.results.result import AnalysisResult, Check
from interp.attribution.inputs import (
    Baseline,
    InputGradients,
    Rule,
    completeness_by_steps,
    input_gradients,
    integrated_gradients,
)
from interp.attribution.rollout import attention_rollout
from interp.attribution.value_weighted import value_weighted_attention
from interp.charts.spec import Chart
from interp.charts.tokens import visible
from interp.errors import InputError
from interp.patching.metrics import Logit, LogitDiff, LogProb, Metric

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

# A copy in fp64, which the gradients are checked on, takes up to 8 GB at this size.
LARGEST_COPY = 1_000_000_000
STEP = 1e-6  # of the finite difference, as a part of the path


class InputAttributionParams(Parameters):
    """What is explained, where, and from which baseline."""

    prompt: str = Field("", description="The text that the model reads.")
    tokens: list[int] | None = Field(
        None, description="Token ids to read instead of a prompt, used as they are."
    )
    target: str | int | None = Field(
        None,
        description="The token to explain: its text, or #7 for id 7; by default the model's top "
        "prediction. Of a classifier: the class, as #1.",
    )
    wrong: str | int | None = Field(
        None, description="Explain the target's excess over this token (or class) instead."
    )
    measure: Literal["log-probability", "logit"] = Field(
        "log-probability",
        description="Of the target alone: its log-probability or its logit. Between two tokens "
        "both differ by the same.",
    )
    position: int = Field(
        -1, description="The destination position to look at; negative counts from the end."
    )
    baseline: str = Field(
        "mean",
        description="Where integrated gradients begin: mean (of all token embeddings), a token "
        "that takes every place (its text, or #7 for id 7), or zeros, near which a norm jumps.",
    )
    steps: int = Field(128, ge=2, le=4096, description="Steps of integrated gradients.")
    rule: Rule = Field(
        "midpoint", description="Where in each step the gradient is taken, or gauss (Legendre)."
    )
    prepend_bos: bool | None = Field(
        None, description="Begin the prompt with BOS; by default as the model was made for."
    )


@register
class InputAttribution(Analysis[InputAttributionParams]):
    """Gradients, integrated gradients, attention rollout and value-weighted attention, by token.

    Source: Sundararajan et al. 2017; Abnar & Zuidema 2020; Kobayashi et al. 2020.
    """

    name = "input-attribution"
    takes_interventions = True
    question = "Which tokens of the prompt does this prediction depend on?"
    caveat = (
        "Gradients tell of small changes: where a softmax is certain they vanish, whatever the "
        "prediction rests on. Integrated gradients explain the difference from their baseline, "
        "another baseline gives other numbers, and they add up only as far as the completeness "
        "error says: where it is not small beside the difference, more steps are needed. Where the "
        "difference itself is next to nothing, shares of it are shares of noise. Rollout and "
        "value-weighted attention follow attention alone, know neither sign nor target, and "
        "are no effects: they show where a position could have read from. The value-weighted "
        "rollout puts the two together and is in neither paper."
    )

    @classmethod
    def merged(cls, defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        """Prompts that the user gives take the place of the model's own, and of its target."""
        if given.get("tokens") is not None or given.get("prompt"):
            about = ("prompt", "tokens", "target", "wrong", "position")
            defaults = {k: v for k, v in defaults.items() if k not in about}
        return super().merged(defaults, given)

    @classmethod
    def supports(cls, model: HookedTransformer) -> str | None:
        """Attention, and one sequence."""
        if not model.cfg.n_layers:
            return "it has no attention"
        if model.cfg.architecture == "encoder-decoder":
            return "it reads two sequences (an encoder-decoder)"
        return None

    def quick(self, params: InputAttributionParams) -> InputAttributionParams:
        """Fewer steps."""
        return params.model_copy(update={"steps": 32})

    def run(self, model: HookedTransformer, params: InputAttributionParams) -> AnalysisResult:
        """Attribute by each method, measure completeness, and check the gradients."""
        setting = _resolve(model, params)
        tokens, metric = setting.tokens, setting.metric
        gradients = input_gradients(model, tokens, metric)
        integrated = integrated_gradients(
            model, tokens, metric, setting.baseline, params.steps, params.rule
        )
        steps = _steps(params)
        errors = completeness_by_steps(model, tokens, metric, setting.baseline, steps, params.rule)[
            :, 0
        ]
        names = ["blocks.*.attn.hook_pattern", "blocks.*.attn.hook_v"]
        with torch.no_grad():
            _, cache = model.run_with_cache(tokens, names_filter=names, return_type=None)
        weighted = [
            value_weighted_attention(cache, layer)[0] for layer in range(model.cfg.n_layers)
        ]
        rolled = attention_rollout(cache)
        tables = {
            "explained": explained_table(
                params.steps, params.rule, params.baseline, setting, integrated
            ),
            "by-token": by_token_table(setting, gradients, integrated, rolled[-1, 0], weighted),
            "completeness": completeness_table(params.rule, integrated, steps, errors),
            "value-weighted": value_weighted_table(setting, cache, weighted),
        }
        return self.result(
            model,
            params,
            tables=tables,
            figures=_figures(params, setting, tables),
            checks=[
                *_gradient_checks(model, setting),
                _one_step_check(model, setting, gradients),
                _rollout_check(model, rolled),
            ],
            tokens=tokens.tolist(),
            str_tokens=[setting.texts],
        )


def _resolve(model: HookedTransformer, params: InputAttributionParams) -> Setting:
    tokens = prompt_tokens(model, params.prompt, params.tokens, params.prepend_bos)
    with torch.no_grad():
        logits = model(tokens)[0]
    if model.cfg.classifies:
        if params.position not in (-1, 0):
            raise InputError(
                "position has no meaning for a classifier, which has one output for each prompt. "
                f"Received {params.position}."
            )
        place, destination, here = -1, 0, logits  # its head reads the first token's stream
    else:
        place = destination = resolve_position(params.position, tokens.shape[1])
        here = logits[place]
    right = int(here.argmax()) if params.target is None else resolve_token(model, params.target)
    measure: Metric
    if params.wrong is not None:
        wrong = resolve_token(model, params.wrong)
        if right == wrong:
            raise InputError(
                f"wrong must differ from the target. Both are {token_name(model, right)}."
            )
        measure = LogitDiff(right, wrong, pos=place)
        quantity = f"logit of {token_name(model, right)} less that of {token_name(model, wrong)}"
        unit = "logits"
    elif params.measure == "logit":
        measure, unit = Logit(right, pos=place), "logits"
        quantity = f"logit of {token_name(model, right)}"
    else:
        measure, unit = LogProb(right, pos=place), "nats"
        quantity = f"log-probability of {token_name(model, right)}"
    texts = token_texts(model, tokens[0])
    baseline = _baseline(model, params.baseline)
    return Setting(tokens, texts, destination, measure, quantity, unit, baseline)


def _baseline(model: HookedTransformer, name: str) -> Baseline:
    if name == "zeros":
        return "zeros"
    if name == "mean":
        return "mean"
    if name.startswith("#") and name[1:].isdecimal():
        return int(name[1:])
    if model.tokenizer is None:
        raise InputError(
            f"baseline must be zeros, mean, or a token's id as #7, for this model has no "
            f"tokenizer. Received {name!r}."
        )
    return model.to_single_token(name)


def _steps(params: InputAttributionParams) -> list[int]:
    """Doubling, up to the number asked for."""
    least = 2 if params.rule == "trapezoid" else 1
    doubling = [2**i for i in range(13) if least <= 2**i < params.steps]
    return [*doubling, params.steps]


# --- figures -------------------------------------------------------------------------------------


def _figures(
    params: InputAttributionParams, setting: Setting, tables: Mapping[str, pd.DataFrame]
) -> dict[str, Chart]:
    shown = visible(setting.texts[setting.destination])
    at = f"from position {setting.destination} (“{shown}”)"
    errors = tables["completeness"]["size_of_error"]
    start = {"mean": "the mean embedding"}.get(params.baseline, params.baseline)
    off = f"{errors.iloc[-1]:.2g} {setting.unit}"
    tokens: dict[str, Any] = {"x": "source", "x_text": "token", "x_label": "token"}
    return {
        "integrated": Chart(
            kind="bars",
            table="by-token",
            where={"method": "integrated gradients"},
            **tokens,
            value="value",
            value_label=f"attribution ({setting.unit})",
            signed=True,
            title=f"Integrated gradients: {setting.quantity} (baseline: {start}; sum off by {off})",
            alt=f"What each token adds to the {setting.quantity}, beyond its value at the baseline "
            f"({start}).",
        ),
        "methods": Chart(
            kind="bars",
            table="by-token",
            **tokens,
            value="share",
            value_label="share of the sum of sizes",
            facet="method",
            signed=True,
            title=f"Five methods: {setting.quantity}",
            alt=f"For each method, how its attribution of the {setting.quantity} divides over the "
            "tokens. Gradient methods have signs; rollouts are of attention alone.",
        ),
        "value-weighted": Chart(
            kind="heatmap",
            table="value-weighted",
            **tokens,
            y="order",
            y_text="head",
            y_label="head",
            value="share_written",
            value_label="share",
            probability=True,
            title=f"Value-weighted attention {at}",
            alt=f"Of the sizes of what each head, down, writes of every token, across, {at}: each "
            "token's share.",
        ),
        "completeness": Chart(
            kind="line",
            table="completeness",
            x="steps",
            y="size_of_error",
            y_label=f"|error of completeness| ({setting.unit})",
            log_x=True,
            log_y=bool((errors > 0).all()),
            title=f"Completeness of integrated gradients by steps ({params.rule})",
            alt="How far the attributions' sum is from the difference that it should equal, with "
            "more and more steps.",
        ),
    }


# --- checks --------------------------------------------------------------------------------------


def _gradient_checks(model: HookedTransformer, setting: Setting) -> list[Check]:
    """Halfway along the path, the gradient against a difference of two runs, in fp64."""
    if sum(p.numel() for p in model.parameters()) > LARGEST_COPY:
        return []
    wide = copy.deepcopy(model).to(torch.float64)
    tokens, metric = setting.tokens, setting.metric
    found = integrated_gradients(wide, tokens, metric, setting.baseline, 1, "midpoint")
    path = found.embeddings - found.baseline_embeddings
    values = []
    for time in (0.5 + STEP, 0.5 - STEP):
        point = found.baseline_embeddings + time * path
        put = ("hook_embed", lambda x, hook, point=point: point)
        with torch.no_grad():
            values.append(metric.per_prompt(wide.run_with_hooks(tokens, fwd_hooks=[put])))
    slope = (values[0] - values[1]) / (2 * STEP)
    return [
        Check(
            name="gradient-is-the-slope",
            value=scaled_error(found.attributions.sum(-1), slope),
            tolerance=1e-6,
            note="the gradient along the path, halfway, against a central difference of "
            f"{STEP:g} of it, both in fp64; {SCALED}",
        )
    ]


def _one_step_check(model: HookedTransformer, setting: Setting, gradients: InputGradients) -> Check:
    """Integrated gradients of one step taken at the prompt are gradient × (input − baseline)."""
    one = integrated_gradients(model, setting.tokens, setting.metric, setting.baseline, 1, "right")
    path = one.embeddings - one.baseline_embeddings
    return Check(
        name="one-step-is-gradient-times-difference",
        value=scaled_error(one.attributions, (gradients.gradients * path).sum(-1)),
        tolerance=TOLERANCES[model.cfg.dtype],
        note="integrated gradients of one step at the prompt against its gradient times "
        f"(embedding less baseline), each token; {SCALED}",
    )


def _rollout_check(model: HookedTransformer, rolled: Tensor) -> Check:
    sums = rolled[:, 0].sum(-1)
    sinks = model.cfg.attn_sinks
    short = (sums - 1).clamp(min=0.0) if sinks else sums - 1
    return Check(
        name="rollout-rows-sum-to-1",
        value=float(short.abs().max()),
        tolerance=TOLERANCES[model.cfg.dtype],
        note="largest |sum over tokens − 1|, every layer and position"
        + ("; below 1 by what attention sinks took" if sinks else ""),
    )
