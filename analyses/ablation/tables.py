"""The tables of ablations: one by one, in sets, one after another, by position."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from analyses.ablation.setup import Component, Setup, components_of, replaced
from analyses.inputs.pairs import pairs_table
from interp.errors import require
from interp.patching import sites, sweep

LEADING = 20  # components in the figure of the largest effects


def effects_table(
    setup: Setup,
    every: Sequence[Component],
    values: Mapping[str, list[dict[str, Float[Tensor, "prompt"]]]],
) -> pd.DataFrame:
    """A row for each component: every metric without it, and the change."""
    at = {kind: iter(found) for kind, found in values.items()}
    rows = [_row(setup, component, next(at[component.kind])) for component in every]
    return pd.DataFrame(rows)


def _row(setup: Setup, component: Component, found: Mapping[str, Tensor]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "component": component.label,
        "kind": component.kind,
        "layer": component.layer,
        "head": -1 if component.head is None else component.head,
    }
    for name, value in found.items():
        row[name] = float(value.mean())
        if name != "kl":
            row[f"{name}_effect"] = float((value - setup.base[name]).mean())
    change = found["logit_diff"] - setup.base["logit_diff"]
    n = len(change)
    row["logit_diff_error"] = float(change.std() / n**0.5) if n > 1 else math.nan
    return {**row, **setup.facts}


def leading_table(effects: pd.DataFrame) -> pd.DataFrame:
    """The components of the largest effects on the logit difference, either sign."""
    order = effects["logit_diff_effect"].abs().sort_values(ascending=False, kind="stable").index
    rows = effects.loc[order[:LEADING]].reset_index(drop=True)
    return rows.assign(rank=range(1, len(rows) + 1))


def ranked_components(effects: pd.DataFrame, single: Sequence[Component]) -> list[Component]:
    """Heads and MLPs, those first whose loss lowers the logit difference most."""
    by_label = dict(zip(effects["component"], effects["logit_diff_effect"], strict=True))
    return sorted(single, key=lambda c: by_label[c.label])


def sets_table(setup: Setup, effects: pd.DataFrame, leading: Sequence[Component]) -> pd.DataFrame:
    """A row for each set: its joint effect beside the single ones."""
    model, given = setup.model, setup.params.sets
    known = {c.label: c for c in components_of(model, ["head", "mlp", "layer"])}
    sets = [_members(text, known) for text in given] or [
        list(pair) for pair in itertools.combinations(leading, 2)
    ]
    base = float(setup.base["logit_diff"].mean())
    alone = dict(zip(effects["component"], effects["logit_diff_effect"], strict=True))
    rows = []
    for members in sets:
        for member in members:
            if member.label not in alone:
                alone[member.label] = setup.mean_without([member])["logit_diff"] - base
        joint = setup.mean_without(members)
        singles = [alone[m.label] for m in members]
        rows.append(
            {
                "set": "+".join(m.label for m in members),
                "size": len(members),
                "logit_diff": joint["logit_diff"],
                "joint_effect": joint["logit_diff"] - base,
                "sum_of_singles": sum(singles),
                "largest_single": min(singles, key=lambda x: -abs(x)),
                "interaction": joint["logit_diff"] - base - sum(singles),
                "probability": joint["probability"],
                "kl": joint["kl"],
                **setup.facts,
            }
        )
    return pd.DataFrame(rows)


def _members(text: str, known: Mapping[str, Component]) -> list[Component]:
    labels = [label for label in re.split(r"\s*\+\s*", text.strip()) if label]
    require(
        len(labels) > 1 and len(set(labels)) == len(labels),
        f"a set is two or more components, such as L0H1+L1MLP. Received {text!r}",
    )
    for label in labels:
        require(label in known, f"sets are of {', '.join(known)}. Received {label!r}")
    members = [known[label] for label in labels]
    for whole, part in itertools.permutations(members, 2):
        require(
            whole.kind != "layer" or whole.layer != part.layer,
            f"a set must not hold a layer and a part of it, which would count twice. "
            f"Received {text!r}",
        )
    return members


def interactions_table(table: pd.DataFrame) -> pd.DataFrame:
    """The sets once more, a row for each of the two effects that are compared."""
    rows = table.melt(
        id_vars=["set", "ablation", "reference", "positions"],
        value_vars=["joint_effect", "sum_of_singles"],
        var_name="ablated",
        value_name="effect",
    )
    names = {"joint_effect": "together", "sum_of_singles": "one by one, summed"}
    return rows.assign(ablated=rows["ablated"].map(names))


def cumulative_table(setup: Setup, ranked: Sequence[Component]) -> pd.DataFrame:
    """One after another: in the order of single effects, and greedily."""
    base = {name: float(value.mean()) for name, value in setup.base.items()}
    n = min(setup.params.steps, len(ranked))
    single = [(c, setup.mean_without(ranked[: i + 1])) for i, c in enumerate(ranked[:n])]
    greedy: list[tuple[Component, dict[str, float]]] = []
    left = list(ranked[: setup.params.candidates])
    out: list[Component] = []
    for _ in range(min(n, len(left))):
        tried = [(c, setup.mean_without([*out, c])) for c in left]
        best = min(tried, key=lambda found: found[1]["logit_diff"])
        greedy.append(best)
        out.append(best[0])
        left.remove(best[0])
    rows = []
    for order, steps in (("single effects", single), ("greedy", greedy)):
        for step, (component, values) in enumerate([(None, base), *steps]):
            rows.append(
                {
                    "order": order,
                    "step": step,
                    "added": "" if component is None else component.label,
                    "logit_diff": values["logit_diff"],
                    "probability": values["probability"],
                    "kl": values["kl"],
                    **setup.facts,
                }
            )
    return pd.DataFrame(rows)


def by_position_table(setup: Setup, heads: Sequence[Component]) -> pd.DataFrame:
    """The leading heads, ablated at one position at a time."""
    base, frames = setup.base["logit_diff"], []
    for order, component in enumerate(heads):
        places = sites(setup.model, "z", layers=[component.layer], heads=[component.head or 0])
        values = []
        for draw in range(setup.draws):
            source = replaced(setup, places.hooks, draw)
            swept = sweep(setup.model, setup.pairs.clean, source, places, setup.pairs.metric)
            values.append(swept.values.double().flatten(0, -2) - base)
        effect = torch.stack(values).mean((0, -1))
        frames.append(
            pd.DataFrame(
                {
                    "head": component.label,
                    "order": order,
                    "position": range(setup.pairs.n_pos),
                    "token": setup.pairs.texts,
                    "effect": effect.cpu().numpy(),
                    "ablation": setup.facts["ablation"],
                    "reference": setup.facts["reference"],
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def runs_table(setup: Setup) -> pd.DataFrame:
    """One row: what is measured, and what it is before anything is ablated."""
    row = {
        "quantity": setup.pairs.quantity,
        "prompts": setup.pairs.n_pairs,
        **{f"{n}_before": float(v.mean()) for n, v in setup.base.items() if n != "kl"},
        **setup.facts,
    }
    return pd.DataFrame([row])


def prompts_table(setup: Setup) -> pd.DataFrame:
    """The prompts that components are ablated in, and their logit difference before."""
    values = setup.base["logit_diff"]
    table = pairs_table(setup.model, setup.pairs, values, values)
    return table.drop(columns=["corrupted", "corrupted_value", "told_apart"])
