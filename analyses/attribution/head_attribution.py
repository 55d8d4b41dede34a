"""Which components wrote the logit of a prediction, head by head."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from jaxtyping import Int
from pydantic import Field
from torch import Tensor

from analyses.attribution.head_figures import head_attribution_figures
from analyses.base import Analysis, Parameters
from analyses.heads.attention_maps import visible_sources
from analyses.heads.pattern_tables import patterns_table
from analyses.inputs.prompts import predictions_table, prompt_tokens, token_texts
from analyses.inputs.targets import resolve_position, resolve_token, token_name
from analyses.registry import register
from analyses.results.checks import SCALED, TOLERANCES, scaled_error
from analyses.results.result import AnalysisResult, Check
from interp.attribution.by_source_and_neuron import source_attribution
from interp.attribution.direct import DirectAttribution, direct_logit_attribution, hooks_needed
from interp.errors import InputError

if TYPE_CHECKING:
    from interp.cache import ActivationCache
    from interp.transformer import HookedTransformer

LEADING = 20  # components shown one by one; what the others add is shown as one


class HeadAttributionParams(Parameters):
    """What is explained, and where."""

    prompt: str = Field("", description="The text that the model reads.")
    tokens: list[int] | None = Field(
        None, description="Token ids to read instead of a prompt, used as they are."
    )
    target: str | int | None = Field(
        None,
        description="The token to explain: its text, or #7 for id 7; by default the model's top "
        "prediction.",
    )
    wrong: str | int | None = Field(
        None, description="Explain the target's logit less that of this token (text or #id)."
    )
    less_mean: bool = Field(
        False,
        description="Explain the logit less the mean over the vocabulary, which changes no "
        "probability.",
    )
    position: int = Field(
        -1, description="The destination position to look at; negative counts from the end."
    )
    head: str | None = Field(
        None,
        description="The head to split by source token, such as L1H2; "
        "by default that with the largest direct attribution, either sign.",
        pattern=r"^L\d+H\d+$",
    )
    top_heads: int = Field(4, ge=1, le=32, description="How many heads' patterns to show.")
    prepend_bos: bool | None = Field(
        None, description="Begin the prompt with BOS; by default as the model was made for."
    )


@dataclass(frozen=True)
class Setting:
    """What is asked, resolved for one model."""

    tokens: Int[Tensor, "1 pos"]
    texts: list[str]
    right: int
    wrong: int | None
    position: int
    less_mean: bool
    quantity: str


@register
class HeadAttribution(Analysis[HeadAttributionParams]):
    """Direct logit attribution, with the final norm's scale frozen as it was.

    Source: Elhage et al. 2021, A Mathematical Framework for Transformer Circuits.
    """

    name = "head-attribution"
    takes_interventions = True
    question = "Which heads, MLPs and embeddings wrote the logit of this prediction?"
    caveat = (
        "Direct effects only, with the final norm's scale held as it was: a head that acts through "
        "later components is not credited with what they write, and may matter more than its share "
        "here. A single logit also holds what all logits share, which changes no probability; "
        "compare with a wrong token, or take the mean off (less_mean)."
    )

    @classmethod
    def merged(cls, defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        """Tokens that the user gives take the place of the model's default prompt."""
        if given.get("tokens") is not None:
            defaults = {k: v for k, v in defaults.items() if k != "prompt"}
        return super().merged(defaults, given)

    @classmethod
    def supports(cls, model: HookedTransformer) -> str | None:
        """Heads, one sequence, and logits that are linear in the residual stream."""
        cfg = model.cfg
        if not cfg.n_layers:
            return "it has no heads"
        if cfg.architecture == "encoder-decoder":
            return "it reads two sequences (an encoder-decoder)"
        if cfg.head != "lm":
            return f"its logits are not linear in its residual stream (head={cfg.head!r})"
        return None

    def run(self, model: HookedTransformer, params: HeadAttributionParams) -> AnalysisResult:
        """Attribute, split the chosen head by source, and check that the parts sum up."""
        tokens = prompt_tokens(model, params.prompt, params.tokens, params.prepend_bos)
        with torch.no_grad():
            names = [*hooks_needed(model), "unembed.hook_out"]
            logits, cache = model.run_with_cache(tokens, names_filter=names)
        linear = cache["unembed.hook_out"]  # before a soft cap, which no sum can explain
        setting = _resolve(model, params, tokens, logits)
        attribution = direct_logit_attribution(
            model, cache, setting.right, setting.wrong, params.less_mean
        )
        components = _components_table(attribution, setting)
        here = components[components["position"] == setting.position].reset_index(drop=True)
        heads = _leading_heads(here, params.top_heads)
        chosen = _chosen_head(model, params.head, heads)
        watched_logits, watched = _watch(model, tokens, {*heads, chosen})
        by_source = source_attribution(model, watched, attribution, *chosen)
        tables = {
            "explained": _explained_table(setting, linear[0], logits[0], attribution),
            "leading": _leading(_ranked(here)),
            "at-position": _ranked(here),
            "by-source": _sources_table(watched, by_source, chosen, setting),
            "patterns": patterns_table(watched, heads, setting.texts),
            "predictions": predictions_table(model, logits[0, setting.position]),
            "components": components,
        }
        return self.result(
            model,
            params,
            tables=tables,
            figures=head_attribution_figures(setting, chosen, heads),
            checks=[
                _sum_check(model, setting, attribution, linear),
                *_checks(model, attribution, by_source, chosen, logits, watched_logits),
            ],
            tokens=tokens.tolist(),
            str_tokens=[setting.texts],
        )


def _resolve(
    model: HookedTransformer, params: HeadAttributionParams, tokens: Tensor, logits: Tensor
) -> Setting:
    position = resolve_position(params.position, tokens.shape[1])
    right = (
        int(logits[0, position].argmax())
        if params.target is None
        else resolve_token(model, params.target)
    )
    wrong = None if params.wrong is None else resolve_token(model, params.wrong)
    if right == wrong:
        raise InputError(f"wrong must differ from the target. Both are {token_name(model, right)}.")
    quantity = f"logit of {token_name(model, right)}"
    if wrong is not None:
        quantity += f" less that of {token_name(model, wrong)}"
    if params.less_mean:
        quantity += " less the mean logit"
    if model.cfg.output_logits_soft_cap > 0:
        quantity += ", before the soft cap"
    texts = token_texts(model, tokens[0])
    return Setting(tokens, texts, right, wrong, position, params.less_mean, quantity)


def _explained_table(
    setting: Setting, linear: Tensor, logits: Tensor, attribution: DirectAttribution
) -> pd.DataFrame:
    """One row: the quantity, its value, and what the attributions add up to.

    Args:
        setting: What is asked.
        linear, logits: Those before and after a soft cap, `[pos, d_vocab_out]`; without one, the
            same.
        attribution: The parts.
    """
    row = {
        "quantity": setting.quantity,
        "position": setting.position,
        "token_id": setting.right,
        "wrong_id": -1 if setting.wrong is None else setting.wrong,
        "value": float(_explained(setting, linear)[setting.position]),
        "sum_of_parts": float(attribution.total()[0, setting.position]),
        "probability": float(logits[setting.position].double().softmax(-1)[setting.right]),
    }
    return pd.DataFrame([row])


def _explained(setting: Setting, logits: Tensor) -> Tensor:
    """The quantity itself at every position, from the model's logits `[pos, d_vocab_out]`."""
    wide = logits.double()
    value = wide[:, setting.right]
    if setting.wrong is not None:
        value = value - wide[:, setting.wrong]
    return value - wide.mean(-1) if setting.less_mean else value


def _components_table(attribution: DirectAttribution, setting: Setting) -> pd.DataFrame:
    values = attribution.values[:, 0].double().cpu().numpy()
    frames = [
        pd.DataFrame(
            {
                "component": part.label,
                "order": order,
                "kind": part.kind,
                "layer": -1 if part.layer is None else part.layer,
                "head": -1 if part.head is None else part.head,
                "position": range(len(setting.texts)),
                "token": setting.texts,
                "attribution": values[order],
            }
        )
        for order, part in enumerate(attribution.components)
    ]
    return pd.concat(frames, ignore_index=True)


def _ranked(here: pd.DataFrame) -> pd.DataFrame:
    order = here["attribution"].abs().sort_values(ascending=False, kind="stable").index
    ranked = here.loc[order].reset_index(drop=True)
    return ranked.drop(columns=["order"]).assign(rank=range(1, len(ranked) + 1))


def _leading(ranked: pd.DataFrame) -> pd.DataFrame:
    """The largest components one by one and the sum of the rest: together, the logit."""
    leading = ranked[["component", "kind", "attribution"]].head(LEADING)
    rest = ranked["attribution"].iloc[LEADING:]
    if rest.empty:
        return leading.reset_index(drop=True)
    other = {"component": f"{len(rest)} others", "kind": "rest", "attribution": rest.sum()}
    return pd.concat([leading, pd.DataFrame([other])], ignore_index=True)


def _leading_heads(here: pd.DataFrame, n: int) -> list[tuple[int, int]]:
    leading = _ranked(here[here["kind"] == "head"]).head(n)
    return list(zip(leading["layer"].tolist(), leading["head"].tolist(), strict=True))


def _chosen_head(
    model: HookedTransformer, name: str | None, leading: Sequence[tuple[int, int]]
) -> tuple[int, int]:
    if name is None:
        return leading[0]
    layer, head = map(int, re.findall(r"\d+", name))
    if layer >= model.cfg.n_layers or head >= model.cfg.n_heads:
        raise InputError(
            f"head must lie in L0H0 … L{model.cfg.n_layers - 1}H{model.cfg.n_heads - 1}. "
            f"Received {name}."
        )
    return layer, head


def _watch(
    model: HookedTransformer, tokens: Tensor, heads: set[tuple[int, int]]
) -> tuple[Tensor, ActivationCache]:
    """Patterns and values of the layers of these heads: the only ones spelled out."""
    layers = sorted({layer for layer, _ in heads})
    names = [f"blocks.{i}.attn.hook_{kind}" for i in layers for kind in ("pattern", "v")]
    with torch.no_grad():
        return model.run_with_cache(tokens, names_filter=names)


def _sources_table(
    cache: ActivationCache, by_source: Tensor, head: tuple[int, int], setting: Setting
) -> pd.DataFrame:
    """A row for each source that the position sees."""
    layer, number = head
    n = len(setting.texts)
    seen = visible_sources(cache.model, layer, n, n)[setting.position].nonzero().flatten()
    pattern = cache["pattern", layer][0, number, setting.position].double().cpu()
    return pd.DataFrame(
        {
            "head": f"L{layer}H{number}",
            "position": setting.position,
            "source": seen.tolist(),
            "source_token": [setting.texts[source] for source in seen.tolist()],
            "attention": pattern[seen].numpy(),
            "attribution": by_source[0, setting.position].double().cpu()[seen].numpy(),
        }
    )


def _sum_check(
    model: HookedTransformer, setting: Setting, attribution: DirectAttribution, logits: Tensor
) -> Check:
    return Check(
        name="parts-sum-to-logit",
        value=scaled_error(attribution.total()[0], _explained(setting, logits[0])),
        tolerance=TOLERANCES[model.cfg.dtype],
        note=f"sum of components against the {setting.quantity}, all positions; {SCALED}",
    )


def _checks(
    model: HookedTransformer,
    attribution: DirectAttribution,
    by_source: Tensor,
    chosen: tuple[int, int],
    logits: Tensor,
    watched_logits: Tensor,
) -> list[Check]:
    tolerance = TOLERANCES[model.cfg.dtype]
    label = f"L{chosen[0]}H{chosen[1]}"
    row = next(i for i, c in enumerate(attribution.components) if c.label == label)
    return [
        Check(
            name="sources-sum-to-head",
            value=scaled_error(by_source[0].sum(-1), attribution.values[row, 0]),
            tolerance=tolerance,
            note=f"sum over source tokens against the share of {label}, all positions; {SCALED}",
        ),
        Check(
            name="watching-changes-nothing",
            value=scaled_error(watched_logits[0], logits[0]),
            tolerance=tolerance,
            note="all logits with attention spelled out, where its patterns were recorded, against "
            f"those with fused attention; {SCALED}",
        ),
    ]
