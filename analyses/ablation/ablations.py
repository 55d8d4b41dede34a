"""What a prediction loses without each of a model's components, alone and together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from torch import Tensor

from analyses.ablation.setup import (
    AblationsParams,
    Component,
    Setup,
    components_of,
    make_setup,
    replaced,
    swept_values,
)
from analyses.ablation.tables import (
    by_position_table,
    cumulative_table,
    effects_table,
    interactions_table,
    leading_table,
    prompts_table,
    ranked_components,
    runs_table,
    sets_table,
)
from analyses.base import Analysis
from analyses.inputs.pairs import TakesPairs
from analyses.registry import register
from analyses.results.checks import SCALED, TOLERANCES, scaled_error
from analyses.results.result import AnalysisResult, Check
from interp.charts.spec import Chart
from interp.interventions import Patch, Reference, applied

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer


@register
class Ablations(TakesPairs, Analysis[AblationsParams]):
    """Ablation of components, one by one, in sets, and one after another.

    Sources: Michel et al. 2019, Are Sixteen Heads Really Better than One?; Wang et al. 2022,
    Interpretability in the Wild (mean ablation, backup heads); Chan et al. 2022, Causal Scrubbing
    (resampling).
    """

    name = "ablations"
    takes_interventions = True
    question = "What does the prediction lose without each head, MLP and layer?"
    caveat = (
        "An ablation shows what breaks when an activation is replaced, not what the model uses it "
        "for: zeros and noise (and, less so, means) put the model where it never is, and its "
        "reaction to that counts as an effect. How large effects are depends on the kind, the "
        "reference prompts and the positions, which every row states. A component with a backup "
        "shows nothing alone: see the sets. An interaction (the joint effect less the sum of the "
        "single ones) of the same sign as the joint effect speaks of backups; of the other sign, "
        "of parts that work in series, or of a difference that cannot fall further. What all "
        "reference prompts share with the clean prompts survives a mean ablation. Greedy order is "
        "a search, not an optimum."
    )

    def quick(self, params: AblationsParams) -> AblationsParams:
        """Few draws, steps and pairs."""
        few = {"draws": 1, "steps": 3, "leading": 3, "candidates": 6, "n_random": 16}
        return params.model_copy(update=few)

    def run(self, model: HookedTransformer, params: AblationsParams) -> AnalysisResult:
        """Sweep over the components; sets and orders by whole runs."""
        with torch.no_grad():
            setup = make_setup(model, params)
            every = components_of(model, params.components)
            values = {kind: swept_values(setup, kind, every) for kind in ("head", "mlp")}
            values["layer"] = [setup.without([c]) for c in every if c.kind == "layer"]
            effects = effects_table(setup, every, values)
            single = [c for c in every if c.kind != "layer"]
            tables = {
                "runs": runs_table(setup),
                "effects": effects,
                "leading": leading_table(effects),
            }
            ranked = ranked_components(effects, single)
            if len(ranked) > 1 or params.sets:
                tables["sets"] = sets_table(setup, effects, ranked[: params.leading])
                tables["interactions"] = interactions_table(tables["sets"])
            if ranked:
                tables["cumulative"] = cumulative_table(setup, ranked)
            heads = [c for c in ranked if c.kind == "head"][: params.leading]
            if heads and params.where == "all":
                tables["by-position"] = by_position_table(setup, heads)
            tables["pairs"] = prompts_table(setup)
            checks = _checks(setup, every, effects)
        return self.result(
            model,
            params,
            tables=tables,
            figures=_figures(setup, tables),
            checks=checks,
            tokens=setup.pairs.clean.tolist(),
        )


def _checks(setup: Setup, every: Sequence[Component], effects: pd.DataFrame) -> list[Check]:
    model, clean = setup.model, setup.pairs.clean
    tolerance = TOLERANCES[model.cfg.dtype]
    hooks = list(dict.fromkeys(hook for c in every for hook in c.hooks))
    own = [Patch(hook, Reference(clean)) for hook in hooks]
    with applied(model, own):
        same = model(clean)
    found, expected = [], []
    noisy = setup.params.ablation == "noise"
    for kind in dict.fromkeys(c.kind for c in every):
        if noisy and kind == "layer":
            continue  # noise is added to what the layer's attention has left of its MLP's output
        rows = effects[effects["kind"] == kind]
        top = rows.iloc[int(rows["logit_diff_effect"].abs().to_numpy().argmax())]
        component = next(c for c in every if c.label == top["component"])
        found.append(torch.tensor(top["logit_diff"]))
        expected.append(_plain(setup, component))
    checks = [
        Check(
            name="replacing-by-itself-changes-nothing",
            value=scaled_error(same, model(clean)),
            tolerance=tolerance,
            note="all logits with every component's output replaced by what it is anyway, against "
            f"those without; {SCALED}",
        )
    ]
    if found:
        checks.append(
            Check(
                name="ablations-equal-plain-runs",
                value=scaled_error(torch.stack(found), torch.stack(expected)),
                tolerance=tolerance,
                note="the logit difference without the component of each kind that matters most, "
                f"against whole runs in which its activations are copied in; {SCALED}",
            )
        )
    return checks


def _plain(setup: Setup, component: Component) -> Tensor:
    """The logit difference without a component, by hooks that copy tensors in."""
    model, values = setup.model, []
    at = slice(None) if setup.positions is None else list(setup.positions)
    for draw in range(setup.draws):
        hooks: list[Any] = []
        for hook in component.hooks:
            new = replaced(setup, [hook], draw)[hook]

            def put_in(x: Tensor, hook: Any, new: Tensor = new) -> Tensor:
                if component.head is None:
                    x[:, at] = new[:, at]
                else:
                    x[:, at, component.head] = new[:, at, component.head]
                return x

            hooks.append((hook, put_in))
        logits = model.run_with_hooks(setup.pairs.clean, fwd_hooks=hooks)
        values.append(setup.pairs.metric.per_prompt(logits).double().mean())
    return torch.stack(values).mean().cpu()


def _figures(setup: Setup, tables: Mapping[str, pd.DataFrame]) -> dict[str, Chart]:
    facts = setup.facts
    how = f"{setup.params.ablation} ablation"
    if facts["reference"] != "none":
        how += f", {facts['reference']}"
    if setup.positions is not None:
        how += f", position {facts['positions']} alone"
    unit = "change of the logit difference"
    effect: dict[str, Any] = {"value_label": unit, "signed": True}
    figures = {}
    if (tables["effects"]["kind"] == "head").any():
        figures["heads"] = Chart(
            kind="heatmap",
            table="effects",
            where={"kind": "head"},
            x="head",
            y="layer",
            value="logit_diff_effect",
            title=f"Without each head: {how}",
            alt="How much the logit difference changes when one head is ablated. Layers down, "
            "heads across; negative: the head supports the answer.",
            **effect,
        )
    several = setup.pairs.n_pairs > 1
    bars = {**effect, "value_label": f"{unit} (± standard error)"} if several else effect
    figures["leading"] = Chart(
        kind="bars",
        table="leading",
        x="component",
        value="logit_diff_effect",
        color="kind",
        error="logit_diff_error" if several else None,
        title=f"Largest effects: {how}",
        alt="How much the logit difference changes when one head, MLP or layer is ablated, the "
        "largest changes first, with the standard error over prompts where there are several.",
        **bars,
    )
    if "interactions" in tables:
        figures["sets"] = Chart(
            kind="bars",
            table="interactions",
            x="set",
            value="effect",
            color="ablated",
            title=f"Sets: {how}",
            alt="For each set of components, how much the logit difference changes when they are "
            "ablated together, beside the sum of the changes when each is ablated alone.",
            **effect,
        )
    if "cumulative" in tables:
        figures["cumulative"] = Chart(
            kind="line",
            table="cumulative",
            x="step",
            y="logit_diff",
            color="order",
            x_label="components ablated",
            y_label="logit difference",
            title=f"One after another: {how}",
            alt="The logit difference as more and more components are ablated, in the order of "
            "their single effects and greedily.",
        )
    if "by-position" in tables:
        figures["by-position"] = Chart(
            kind="heatmap",
            table="by-position",
            x="position",
            x_text="token",
            y="order",
            y_text="head",
            y_label="head",
            value="effect",
            title=f"One position at a time: {how}",
            alt="How much the logit difference changes when a leading head is ablated at one "
            "position. Heads down, positions across.",
            **effect,
        )
    return figures
