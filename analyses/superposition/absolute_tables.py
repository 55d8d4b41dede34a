"""Tables and figures of toys that compute absolute values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from analyses.superposition.findings import Finding, findings_table
from analyses.superposition.neurons import (
    SERVED,
    NeuronToys,
    by_density_table,
    falls,
    kinds_chart,
    kinds_table,
    mean_feature,
    neuron_order,
    neurons_table,
)
from interp.charts import Chart
from interp.toys.motifs import AsymmetricMotifs, asymmetric_motifs, neuron_activations

SHOWN = 30  # features of a large toy, the most important ones, in the figure of weights
SLACK = 0.05  # by which a share may rise with sparsity and still count as falling
STRONG = 0.5  # of the interference that inhibition takes away at least


def tables_of(few: NeuronToys, many: NeuronToys, ratio: float) -> dict[str, pd.DataFrame]:
    """All tables: of the small toys and of the large ones, best of each density."""
    by_density = by_density_table(many)
    small = by_density_table(few)
    motifs, counts = _motifs(many, ratio)
    by_density = by_density.merge(counts, on="density")
    neurons = pd.concat(
        [neurons_table(toys).assign(n=toys.W.shape[-1]) for toys in (few, many)],
        ignore_index=True,
    )
    return {
        "findings": _findings(small, by_density, few, many, neurons),
        "by-density": by_density,
        "small-by-density": small,
        "kinds": kinds_table(by_density),
        "motifs": motifs,
        "neurons": neurons,
        "parts": _parts(many),
        "small-weights": _small_weights(few),
    }


def _motifs(toys: NeuronToys, ratio: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The asymmetric motifs of the best toys, and their number beside all shared neurons."""
    best = torch.tensor([toys.best(number) for number in range(len(toys.densities))])
    found = asymmetric_motifs(
        toys.W[best], toys.W_out[best], toys.b[best], ratio=ratio, threshold=SERVED
    )
    table = _as_table(found, toys.densities)
    every, inhibited = _interference(toys, best)
    served = toys.served[best].sum(-1)
    pairs = (served * (served - 1) // 2).sum(-1)
    rows = []
    for number, density in enumerate(toys.densities):
        here = table[table["density"] == density]
        rows.append(
            {
                "density": density,
                "shared_pairs": int(pairs[number]),
                "motifs": len(here),
                "inhibited": int(here["inhibited"].sum()),
                "outweighed": int((here["net"] <= 0).sum()),
                "interferences": int(every[number]),
                "interferences_inhibited": int(inhibited[number]),
            }
        )
    return table, pd.DataFrame(rows)


def _interference(toys: NeuronToys, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """How often one feature alone disturbs another one's output by `SERVED` or more, by a neuron.

    Both among those that come back; and how often it is inhibited as a motif's is.
    """
    loud = neuron_activations(toys.W[chosen])  # [toy sign neuron loud]
    back, n = toys.W_out[chosen], toys.W.shape[-1]
    computed = toys.computed[chosen]
    pairs = computed[:, :, None] & computed[:, None] & ~torch.eye(n, dtype=torch.bool)
    added = loud[..., None] * back.mT[:, None, :, None]  # [toy sign neuron loud quiet]
    disturbs = (added >= SERVED) & pairs[:, None, None]
    inhibition = -added.clamp_max(0.0).sum(2, keepdim=True)
    inhibited = disturbs & (inhibition >= STRONG * added)
    return disturbs.flatten(1).sum(1), inhibited.flatten(1).sum(1)


def _as_table(found: AsymmetricMotifs, densities: list[float]) -> pd.DataFrame:
    columns: dict[str, Any] = {
        field.name: getattr(found, field.name).cpu().numpy() for field in fields(found)
    }
    instances = columns.pop("instance")
    table = pd.DataFrame({"density": [densities[i] for i in instances], **columns})
    table["inhibited"] = -table["inhibition"] >= STRONG * table["interference"]
    return table.astype({"density": float, "inhibited": bool})


def _parts(toys: NeuronToys) -> pd.DataFrame:
    """What each neuron of the best toys adds to features' own outputs, by the sign it is for."""
    rows = []
    for number, density in enumerate(toys.densities):
        best = toys.best(number)
        parts = (toys.W[best] * toys.W_out[best].mT)[:, :SHOWN]
        for place, neuron in enumerate(neuron_order(toys, best)):
            rows += [
                {
                    "density": density,
                    "panel": f"density {density:g}",
                    "place": place,
                    "feature": i,
                    "part": part,
                }
                for i, part in enumerate(parts[neuron].tolist())
            ]
    return pd.DataFrame(rows)


def _small_weights(toys: NeuronToys) -> pd.DataFrame:
    rows = []
    for number, density in enumerate(toys.densities):
        best = toys.best(number)
        for place, neuron in enumerate(neuron_order(toys, best)):
            for name, weights in (
                ("W", toys.W[best, neuron]),
                ("W_out", toys.W_out[best, :, neuron]),
            ):
                rows += [
                    {
                        "density": density,
                        "panel": f"density {density:g}",
                        "neuron": place,
                        "weight_of": f"{name} {i}",
                        "weight": weight,
                    }
                    for i, weight in enumerate(weights.tolist())
                ]
    return pd.DataFrame(rows)


def _findings(
    small: pd.DataFrame,
    by_density: pd.DataFrame,
    few: NeuronToys,
    many: NeuronToys,
    neurons: pd.DataFrame,
) -> pd.DataFrame:
    """What the paper's figures show, beside what is here."""
    n, m = many.W.shape[-1], many.W.shape[-2]
    naive = [number for number in range(len(few.densities)) if _is_naive(few, number)]
    mono, poly = by_density["monosemantic"], by_density["polysemantic"]
    first, most = by_density.iloc[0], by_density.iloc[int(poly.argmax())]
    large = neurons[neurons["n"] == n]
    mixed = large[large["density"].isin(by_density.loc[(mono > 0) & (poly > 0), "density"])]
    ranks = [
        mean_feature(mixed[mixed["kind"] == kind]) for kind in ("monosemantic", "polysemantic")
    ]
    at = [f"{p:g}: {a}/{b}" for p, a, b in zip(by_density["density"], mono, poly, strict=True)]
    motifs, inhibited = int(by_density["motifs"].sum()), int(by_density["inhibited"].sum())
    total, outweighed = int(by_density["shared_pairs"].sum()), int(by_density["outweighed"].sum())
    every, stopped = (
        int(by_density[name].sum()) for name in ("interferences", "interferences_inhibited")
    )
    n_few, m_few = few.W.shape[-1], few.W.shape[-2]
    rows = [
        Finding(
            f"n = {n_few}, m = {m_few}: two neurons for each feature, one a sign",
            "the naive solution",
            f"at density {', '.join(f'{few.densities[i]:g}' for i in naive)}"
            if naive
            else "at no density",
            0 in naive,
        ),
        Finding(
            f"n = {n}, m = {m}: neurons of dense features are monosemantic",
            "all of them",
            f"{int(first['monosemantic'])} monosemantic, {int(first['polysemantic'])} "
            f"polysemantic, {int(first['idle'])} idle at density {first['density']:g}; "
            f"{int(first['features_computed'])} features come back",
            first["polysemantic"] == 0,
        ),
        Finding(
            "the sparser, the smaller the share of monosemantic neurons (or at most "
            f"{SLACK:g} larger)",
            "fewer from panel to panel",
            "monosemantic/polysemantic at density " + ", ".join(at),
            falls((mono / (mono + poly).clip(lower=1)).tolist(), slack=SLACK),
        ),
        Finding(
            "sparser features share neurons",
            "some polysemantic, then all",
            f"up to {int(most['polysemantic'])} of {m}, at density {most['density']:g}",
            most["polysemantic"] > first["polysemantic"],
        ),
        Finding(
            "between, important features have the monosemantic neurons",
            "the first features alone",
            f"mean feature {ranks[0]:.1f} of monosemantic, {ranks[1]:.1f} of polysemantic neurons",
            ranks[0] < ranks[1],
        ),
        Finding(
            "more features come back than have two neurons each",
            "superposition",
            f"up to {int(by_density['features_computed'].max())} of {n}, without it {m // 2}",
            by_density["features_computed"].max() > m // 2,
        ),
        Finding(
            "features share neurons asymmetrically, and what that disturbs is inhibited",
            "the asymmetric superposition motif",
            f"{motifs} motifs among {total} pairs that share a neuron, {inhibited} of them "
            f"inhibited by half or more, {outweighed} to zero or below; by half or more too "
            f"{stopped} of all {every} interferences of {SERVED:g} or more",
            inhibited > 0 and inhibited >= motifs / 2,
        ),
    ]
    return findings_table(rows)


def _is_naive(toys: NeuronToys, number: int) -> bool:
    """Whether the best toy has exactly one neuron for each sign of each feature."""
    best = toys.best(number)
    products = toys.W[best] * toys.W_out[best].mT  # [neuron feature]
    halves = torch.stack([products >= SERVED, products <= -SERVED])
    each = toys.W.shape[-2] == 2 * toys.W.shape[-1]
    return each and bool((halves.sum(1) == 1).all()) and bool((halves.sum((0, 2)) == 1).all())


def figures(tables: Mapping[str, pd.DataFrame], n_neurons: int) -> dict[str, Chart]:
    """Charts of the tables."""
    counts = tables["by-density"]
    found = {
        "kinds": kinds_chart(n_neurons),
        "parts": Chart(
            kind="heatmap",
            table="parts",
            title="What neurons add to features' own outputs (below 0: for negative values)",
            alt="Dense: two neurons for each of the most important features, one for positive and "
            "one for negative values, and nothing for the rest. Sparser: more features, whose "
            "neurons have several.",
            x="feature",
            y="place",
            value="part",
            facet="panel",
            x_label="feature",
            y_label="neuron (in order)",
            value_label="W · W_out",
            signed=True,
        ),
        "small-weights": Chart(
            kind="heatmap",
            table="small-weights",
            title="Weights of the best small toy of each density",
            alt="Each neuron reads one feature, with one sign, and writes to it: two neurons for "
            "each feature.",
            x="weight_of",
            y="neuron",
            value="weight",
            facet="panel",
            x_label="in from, out to feature",
            y_label="neuron (in order)",
            value_label="weight",
            signed=True,
        ),
    }
    if counts["motifs"].sum() > 0:
        found["motifs"] = Chart(
            kind="bars",
            table="by-density",
            title="Asymmetric motifs",
            alt="How many pairs of features share a neuron asymmetrically, by density.",
            x="density",
            value="motifs",
            x_label="density 1 - S",
            value_label="motifs in the best toy",
        )
    return found
