"""Which activations carry the difference between two prompts, place by place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from analyses.base import Analysis
from analyses.inputs.pairs import (
    PairParams,
    Pairs,
    TakesPairs,
    mean_over,
    pairs_table,
    resolve_pairs,
)
from analyses.patching.activation_figures import activation_figures
from analyses.patching.place_experiment import BY_HEAD, STREAMS, PlaceExperiment, Site
from analyses.registry import register
from analyses.results.checks import SCALED, TOLERANCES, scaled_error
from analyses.results.result import AnalysisResult, Check
from interp.errors import InputError, require
from interp.patching import KLDivergence, LogProb, Metric, sites, sweep

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

LEADING = 5  # places of each site in the table of the largest effects


class ActivationPatchingParams(PairParams):
    """The pairs, what is patched, and how the outcome is measured."""

    direction: Literal["denoise", "noise"] = Field(
        "denoise",
        description="denoise: run the corrupted prompt with clean activations put in (what is "
        "enough to restore the answer); noise: the other way round (what the answer needs).",
    )
    metric: Literal["logit-diff", "probability", "kl"] = Field(
        "logit-diff",
        description="The right answer's logit less the wrong one's; the right answer's "
        "probability; or the KL divergence from the clean run's prediction.",
    )
    sites: list[Site] | None = Field(
        None,
        description="What is patched: resid_pre, attn_out, mlp_out by layer and position; z, q, "
        "k, v, pattern by head at all positions. By default all that the model has.",
        min_length=1,
    )
    top_heads: int = Field(
        4,
        ge=0,
        le=32,
        description="How many heads, those with the largest effect of z, to patch position by "
        "position too.",
    )


@register
class ActivationPatching(TakesPairs, Analysis[ActivationPatchingParams]):
    """Activation patching: every place by itself, the other run's activation put in.

    Sources: Vig et al. 2020, Causal Mediation Analysis; Meng et al. 2022, Locating and Editing
    Factual Associations in GPT; Heimersheim and Nanda 2024, How to use and interpret activation
    patching.
    """

    name = "activation-patching"
    takes_interventions = True
    question = "Which activations, put into the other run, carry the answer over?"
    caveat = (
        "Each place is patched by itself, with all that it does downstream: effects do not add up. "
        "Denoising shows what is enough, noising what is needed; where two places hold the same "
        "information, noising one of them shows nothing. The effects are of this contrast between "
        "the prompts alone: what both have in common is invisible. Normalised effects (0: as the "
        "run without a patch, 1: as the run that the activation is from) are ratios of means over "
        "pairs, and blow up where the two runs hardly differ. By head, q, k, v and patterns are "
        "whole rows of positions (k and v of key/value heads); z contains the effect of all four."
    )

    def quick(self, params: ActivationPatchingParams) -> ActivationPatchingParams:
        """The residual stream and the outputs of attention and of heads."""
        few = {"sites": ["resid_pre", "attn_out", "z"], "top_heads": min(params.top_heads, 2)}
        return params.model_copy(update=few)

    def run(self, model: HookedTransformer, params: ActivationPatchingParams) -> AnalysisResult:
        """Sweep over every site, and recompute some of it plainly."""
        pairs = resolve_pairs(model, params)
        chosen = _sites(model, params.sites)
        with torch.no_grad():
            experiment, table = _experiment(model, pairs, params, chosen)
            streams = [_stream_rows(experiment, s) for s in chosen if s in STREAMS]
            heads = [_head_rows(experiment, s) for s in chosen if s in BY_HEAD]
            tables = {"runs": _runs_table(experiment, params), "pairs": table}
            if streams:
                tables["streams"] = pd.concat(streams, ignore_index=True)
            if heads:
                tables["heads"] = pd.concat(heads, ignore_index=True)
            if "z" in chosen and params.top_heads:
                leading = _leading_heads(tables["heads"], params.top_heads)
                tables["heads-by-position"] = _by_position(experiment, leading)
            tables["leading"] = _leading(tables)
            checks = _checks(experiment, tables)
        return self.result(
            model,
            params,
            tables=tables,
            figures=activation_figures(experiment, params, chosen, tables),
            checks=checks,
            tokens=[*pairs.clean.tolist(), *pairs.corrupted.tolist()],
        )


def _sites(model: HookedTransformer, asked: Sequence[Site] | None) -> list[Site]:
    """The sites asked for, without repeats; all that the model has where none are."""
    has = [s for s in (*STREAMS, *BY_HEAD) if s != "mlp_out" or not model.cfg.attn_only]
    if asked is None:
        return has
    for site in asked:
        if site not in has:
            raise InputError(f"sites must be of {', '.join(has)} in this model. Received {site!r}.")
    return list(dict.fromkeys(asked))


def _experiment(
    model: HookedTransformer, pairs: Pairs, params: ActivationPatchingParams, chosen: list[Site]
) -> tuple[PlaceExperiment, pd.DataFrame]:
    """Both runs, and the table of their values; the hooks of these sites are recorded of one."""
    denoises = params.direction == "denoise"
    base_tokens, source_tokens = (
        (pairs.corrupted, pairs.clean) if denoises else (pairs.clean, pairs.corrupted)
    )
    names = {hook for site in chosen for hook in sites(model, site).hooks}
    names |= {sites(model, "resid_pre").hooks[0]}  # of a check
    source_logits, cache = model.run_with_cache(source_tokens, names_filter=sorted(names))
    source = {name: cache[name] for name in names}
    base_logits = model(base_tokens)
    at = pairs.metric.pos
    metric: Metric
    if params.metric == "logit-diff":
        metric, quantity, of_pair = pairs.metric, pairs.quantity, None
    elif params.metric == "probability":
        metric = LogProb(pairs.right, at)
        of_pair = "probability of the right answer"
        quantity = mean_over(pairs.n_pairs, of_pair)
    else:
        metric = KLDivergence(source_logits if denoises else base_logits, at)
        of_pair = "KL divergence from the clean run (nats)"
        quantity = mean_over(pairs.n_pairs, of_pair)
    is_probability = params.metric == "probability"
    values = [metric.per_prompt(logits).double() for logits in (base_logits, source_logits)]
    base, put_in = [v.exp() if is_probability else v for v in values]
    apart = abs(float(put_in.mean() - base.mean()))
    require(
        apart > 1e-6 * max(1.0, abs(float(base.mean()))),
        f"the clean and the corrupted prompts must differ in the {quantity}. "
        f"Received {float(base.mean()):g} for both",
    )
    experiment = PlaceExperiment(
        model, pairs, base_tokens, source, metric, is_probability, base, put_in, quantity
    )
    table = pairs_table(model, pairs, *((put_in, base) if denoises else (base, put_in)))
    return experiment, table if of_pair is None else table.assign(quantity=of_pair)


def _runs_table(experiment: PlaceExperiment, params: ActivationPatchingParams) -> pd.DataFrame:
    """One row: which run is patched with which, and what 0 and 1 of a normalised effect are."""
    base, put_in = (
        ("corrupted", "clean") if params.direction == "denoise" else ("clean", "corrupted")
    )
    row = {
        "direction": params.direction,
        "run": base,
        "activations_of": put_in,
        "quantity": experiment.quantity,
        "pairs": experiment.pairs.n_pairs,
        "value_at_0": float(experiment.base.mean()),
        "value_at_1": float(experiment.put_in.mean()),
    }
    return pd.DataFrame([row])


def _stream_rows(experiment: PlaceExperiment, site: Site) -> pd.DataFrame:
    values, (layers, positions) = experiment.patched(sites(experiment.model, site))
    grid = pd.MultiIndex.from_product([layers, positions], names=["layer", "position"])
    rows = grid.to_frame(index=False)
    return rows.assign(
        site=site,
        token=[experiment.pairs.labels[p] for p in rows["position"]],
        **experiment.columns(values),
    )[["site", "layer", "position", "token", "value", "effect", "normalised"]]


def _head_rows(experiment: PlaceExperiment, site: Site) -> pd.DataFrame:
    places = sites(experiment.model, site, positions="all")
    values, (layers, heads) = experiment.patched(places)
    grid = pd.MultiIndex.from_product([layers, heads], names=["layer", "head"])
    return grid.to_frame(index=False).assign(site=site, **experiment.columns(values))[
        ["site", "layer", "head", "value", "effect", "normalised"]
    ]


def _leading_heads(heads: pd.DataFrame, n: int) -> list[tuple[int, int]]:
    z = heads[heads["site"] == "z"]
    order = z["effect"].abs().sort_values(ascending=False, kind="stable").index[:n]
    return list(zip(z.loc[order, "layer"].tolist(), z.loc[order, "head"].tolist(), strict=True))


def _by_position(experiment: PlaceExperiment, heads: Sequence[tuple[int, int]]) -> pd.DataFrame:
    labels = experiment.pairs.labels
    frames = []
    for order, (layer, head) in enumerate(heads):
        places = sites(experiment.model, "z", layers=[layer], heads=[head])
        values, _ = experiment.patched(places)
        frames.append(
            pd.DataFrame(
                {
                    "head": f"L{layer}H{head}",
                    "order": order,
                    "position": range(len(labels)),
                    "token": labels,
                    **experiment.columns(values),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def _leading(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The places of the largest effects, some of each site; -1 for an axis that a site lacks."""
    found = []
    for name in ("streams", "heads"):
        if name not in tables:
            continue
        for _, rows in tables[name].groupby("site", sort=False):
            order = rows["effect"].abs().sort_values(ascending=False, kind="stable").index
            found.append(rows.loc[order[:LEADING]].assign(rank=range(1, len(order[:LEADING]) + 1)))
    table = pd.concat(found, ignore_index=True)
    for axis in ("position", "head"):
        if axis not in table:
            table[axis] = -1
        table[axis] = table[axis].fillna(-1).astype(int)
    if "token" not in table:
        table["token"] = ""
    table["token"] = table["token"].fillna("")
    columns = ["site", "rank", "layer", "head", "position", "token"]
    return table[[*columns, "value", "effect", "normalised"]]


def _checks(experiment: PlaceExperiment, tables: Mapping[str, pd.DataFrame]) -> list[Check]:
    model = experiment.model
    tolerance = TOLERANCES[model.cfg.dtype]
    (first,) = sites(model, "resid_pre", layers=[0]).hooks
    whole = sites(model, first, positions="all")
    swept = sweep(model, experiment.base_tokens, experiment.source, whole, experiment.metric)
    leading = tables["leading"]
    tops = leading[leading["rank"] == 1]
    plain = [_plain_run(experiment, place).mean().cpu() for _, place in tops.iterrows()]
    return [
        Check(
            name="whole-stream-carries-all-over",
            value=scaled_error(experiment.after(swept.values.double()), experiment.put_in),
            tolerance=tolerance,
            note="resid_pre of layer 0 patched at all positions against the run that it is from, "
            f"every pair; {SCALED}",
        ),
        Check(
            name="sweep-equals-plain-run",
            value=scaled_error(torch.tensor(tops["value"].to_numpy()), torch.stack(plain)),
            tolerance=tolerance,
            note="the first place of each site in the table 'leading' against a whole run with a "
            f"hook that copies the activation in; {SCALED}",
        ),
    ]


def _plain_run(experiment: PlaceExperiment, place: pd.Series[Any]) -> Tensor:
    """The reported value of each pair, one place patched by an ordinary hook."""
    (name,) = sites(experiment.model, place["site"], layers=[int(place["layer"])]).hooks
    new = experiment.source[name]

    def put_in(x: Tensor, hook: Any) -> Tensor:
        x = x.clone()
        if place["head"] < 0:
            x[:, place["position"]] = new[:, place["position"]]
        elif place["site"] == "pattern":
            x[:, place["head"]] = new[:, place["head"]]
        else:
            x[:, :, place["head"]] = new[:, :, place["head"]]
        return x

    logits = experiment.model.run_with_hooks(experiment.base_tokens, fwd_hooks=[(name, put_in)])
    return experiment.after(experiment.metric.per_prompt(logits).double())
