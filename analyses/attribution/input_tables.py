"""The tables of input attribution: what is explained, and each method's numbers by token."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd
from jaxtyping import Float, Int
from torch import Tensor

from analyses.heads.attention_maps import visible_sources
from interp.attribution.inputs import Baseline, InputGradients, IntegratedGradients, Rule
from interp.attribution.rollout import mixing_matrices, rollout
from interp.patching.metrics import Metric

if TYPE_CHECKING:
    from interp.cache import ActivationCache


@dataclass(frozen=True)
class Setting:
    """What is asked, resolved for one model.

    Attributes:
        destination: The position that attention is followed back from.
        quantity, unit: The metric in words.
    """

    tokens: Int[Tensor, "1 pos"]
    texts: list[str]
    destination: int
    metric: Metric
    quantity: str
    unit: str
    baseline: Baseline


def explained_table(
    steps: int, rule: Rule, baseline: str, setting: Setting, found: IntegratedGradients
) -> pd.DataFrame:
    """One row: what is explained, and how far integrated gradients add up to it.

    The error relative to no difference is no number.
    """
    value, base = float(found.value[0]), float(found.baseline_value[0])
    error = float(found.error[0])
    row = {
        "quantity": setting.quantity,
        "unit": setting.unit,
        "destination": setting.destination,
        "value": value,
        "baseline": baseline,
        "baseline_value": base,
        "difference": value - base,
        "sum_of_attributions": float(found.attributions[0].sum()),
        "error": error,
        "relative_error": abs(error / (value - base)) if value != base else math.nan,
        "steps": steps,
        "rule": rule,
    }
    return pd.DataFrame([row])


def by_token_table(
    setting: Setting,
    gradients: InputGradients,
    integrated: IntegratedGradients,
    rolled: Float[Tensor, "pos key_pos"],
    weighted: list[Float[Tensor, "head pos key_pos"]],
) -> pd.DataFrame:
    """A row for each method and token, with its share of the sum of sizes."""
    methods = {
        "integrated gradients": (integrated.attributions[0], setting.unit),
        "gradient × input": (gradients.times_input[0], setting.unit),
        "gradient norm": (gradients.norm[0], f"{setting.unit} per unit of embedding"),
        "attention rollout": (rolled[setting.destination], "share"),
        "value-weighted rollout": (_weighted_rollout(weighted)[setting.destination], "share"),
    }
    frames = []
    for name, (values, unit) in methods.items():
        size = values.abs().sum()
        shares = values / size if float(size) else values
        frames.append(
            pd.DataFrame(
                {
                    "method": name,
                    "source": range(len(setting.texts)),
                    "token": setting.texts,
                    "value": values.double().cpu().numpy(),
                    "unit": unit,
                    "share": shares.double().cpu().numpy(),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def _weighted_rollout(
    weighted: list[Float[Tensor, "head pos key_pos"]],
) -> Float[Tensor, "pos key_pos"]:
    """Rollout with each layer's sizes, summed over heads and scaled to sum to 1, as attention."""
    layers = []
    for sizes in weighted:
        total = sizes.sum(0)
        whole = total.sum(-1, keepdim=True)
        layers.append((total / whole.masked_fill(whole == 0, 1.0))[None, None])
    return rollout(mixing_matrices(layers))[-1, 0]


def completeness_table(
    rule: Rule,
    found: IntegratedGradients,
    steps: list[int],
    errors: Float[Tensor, "steps"],
) -> pd.DataFrame:
    """How far the parts are from the difference that they explain, by number of steps."""
    difference = float(found.value[0] - found.baseline_value[0])
    signed = errors.double().cpu().numpy()
    return pd.DataFrame(
        {
            "steps": steps,
            "rule": rule,
            "sum_of_attributions": signed + difference,
            "difference": difference,
            "error": signed,
            "size_of_error": abs(signed),
        }
    )


def value_weighted_table(
    setting: Setting, cache: ActivationCache, weighted: list[Float[Tensor, "head pos key_pos"]]
) -> pd.DataFrame:
    """A row for each head and source: attention and value-weighted attention of the destination.

    Sources that a layer lets it not see have no row.
    """
    n = len(setting.texts)
    frames = []
    for layer, sizes in enumerate(weighted):
        seen = visible_sources(cache.model, layer, n, n)[setting.destination].nonzero().flatten()
        sources = seen.tolist()
        at = sizes[:, setting.destination].double().cpu()[:, seen]
        pattern = cache["pattern", layer][0, :, setting.destination].double().cpu()[:, seen]
        whole = at.sum(-1, keepdim=True)
        shares = at / whole.masked_fill(whole == 0, 1.0)
        frames.append(
            pd.DataFrame(
                {
                    "head": [f"L{layer}H{head}" for head in range(len(at)) for _ in sources],
                    "order": [layer * len(at) + head for head in range(len(at)) for _ in sources],
                    "source": sources * len(at),
                    "token": [setting.texts[source] for source in sources] * len(at),
                    "attention": pattern.flatten().numpy(),
                    "size_written": at.flatten().numpy(),
                    "share_written": shares.flatten().numpy(),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)
