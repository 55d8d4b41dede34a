"""The tables of `superposition-recovery`, and its charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from analyses.superposition.findings import Finding, findings_table
from analyses.superposition.recovery_runs import FOUND, Hidden, Recovery
from interp.charts.spec import Chart
from interp.sae import Grown
from interp.sae.config import Kind
from interp.toys.measures import dimensions_per_feature, feature_dimensionality, feature_norms

Dictionaries = Mapping[Kind, Sequence[Grown]]
Recoveries = Mapping[Kind, Sequence[Recovery]]

SHOWN_FEATURES = 40
SLACK = 0.02
"""How far from the best mean max cosine a size may be that counts as enough."""
_BIN = 0.05


def toy_table(hidden: Hidden, loss: float) -> pd.DataFrame:
    """The toy: how many features it represents and how near to one another their directions are.

    `nearest_cosine` is the mean over represented features of the largest cosine to another one,
    `largest_cosine` the largest of all: a dictionary can tell features apart as long as they are
    well below 1. `density` is of the features, `present` how many of them an input has on average.
    """
    W = hidden.model.W[0].detach()
    norms = feature_norms(W)
    kept = W[:, hidden.represented]
    unit = kept / feature_norms(kept)
    between = (unit.T @ unit).fill_diagonal_(-1.0)
    nearest = between.amax(0) if len(between) else between.new_full((1,), float("nan"))
    density = hidden.data.density[0]
    return pd.DataFrame(
        [
            {
                "n_features": W.shape[1],
                "d_hidden": W.shape[0],
                "represented": int(hidden.represented.sum()),
                "density": float(density.mean()),
                "present": float(density.sum()),
                "loss": loss,
                "smallest_norm": float(norms.min()),
                "median_norm": float(norms.median()),
                "largest_norm": float(norms.max()),
                "nearest_cosine": float(nearest.mean()),
                "largest_cosine": float(nearest.max()),
                "dimensions_per_feature": float(dimensions_per_feature(W)),
                "mean_dimensionality": float(feature_dimensionality(W).mean()),
            }
        ]
    )


def growth_table(
    dictionaries: Dictionaries, recoveries: Recoveries, chosen: Mapping[Kind, int], hidden: Hidden
) -> pd.DataFrame:
    """Every dictionary: what can be seen without the truth, and how much of the truth it holds.

    `cosine` is the mean max cosine similarity to the true features: the mean, over those that the
    toy represents, of the largest cosine to a living unit (`cosine_all`: over all features), and
    `chance` what as many random directions give. `own_cosine` gives features units of their own,
    one to one. `found` is the fraction of represented features whose `cosine` is at least 0.9.
    `unit_cosine` is the other direction: the mean over living units of the largest cosine to a
    feature. `precision` and `recall` are those of a feature's own unit, in saying whether it is
    present, averaged over features that have one.
    """
    rows = []
    kept = hidden.represented
    for kind, each in dictionaries.items():
        for i, (dictionary, found) in enumerate(zip(each, recoveries[kind], strict=True)):
            scores = dictionary.scores
            rows.append(
                {
                    "kind": kind,
                    "d_sae": dictionary.d_sae,
                    "chosen": i == chosen[kind],
                    "cosine": _mean(found.nearest[kept]),
                    "cosine_all": _mean(found.nearest),
                    "chance": _mean(found.chance[kept]),
                    "own_cosine": _mean(found.matching.cosine[kept]),
                    "found": _mean((found.nearest[kept] >= FOUND).double()),
                    "unit_cosine": _mean(found.units),
                    "fve": scores.fve,
                    "l0": scores.l0,
                    "dead": scores.dead,
                    "duplicates": scores.duplicates,
                    "precision": float(found.detection.precision[kept].nanmean()),
                    "recall": float(found.detection.recall[kept].nanmean()),
                }
            )
    return pd.DataFrame(rows)


def findings_of(growth: pd.DataFrame) -> pd.DataFrame:
    """What the papers say, beside what is here."""
    rows = []
    for kind, of_kind in growth.groupby("kind", sort=False):
        best = of_kind[of_kind["chosen"]].iloc[0]
        small, large = of_kind.iloc[0], of_kind.iloc[int(of_kind["cosine"].argmax())]
        rows.append(
            Finding(
                f"{kind}: a dictionary finds the features",
                f"nearly all of them (mean max cosine {FOUND} or more)",
                f"{best['cosine']:.3f} with {best['d_sae']} units ({best['chance']:.3f} by chance, "
                f"{best['own_cosine']:.3f} one to one), {best['dead']} of them dead",
                best["cosine"] >= FOUND,
            )
        )
        if len(of_kind) > 1:
            rows.append(
                Finding(
                    f"{kind}: one that is too small does not",
                    f"mean max cosine below {FOUND}",
                    f"{small['cosine']:.3f} with {small['d_sae']} units",
                    small["cosine"] < FOUND,
                )
            )
        if not of_kind["chosen"].iloc[-1]:  # else nothing says that it is enough
            rows.append(
                Finding(
                    f"{kind}: variance explained tells which size is enough",
                    "not a paper's: what one hopes of a model whose features are unknown",
                    f"{best['cosine']:.3f} at the size it tells, {large['cosine']:.3f} at the best "
                    f"size trained ({large['d_sae']})",
                    large["cosine"] - best["cosine"] < SLACK,
                )
            )
    return findings_table(rows)


def features_table(
    dictionaries: Dictionaries, recoveries: Recoveries, chosen: Mapping[Kind, int], hidden: Hidden
) -> pd.DataFrame:
    """Every feature in the chosen dictionary of each kind.

    `unit` is its own, −1 if there were too few; `cosine` is that of the nearest unit, which may be
    another feature's own.
    """
    norms = feature_norms(hidden.model.W[0].detach()).tolist()
    frames = []
    for kind in dictionaries:
        found = recoveries[kind][chosen[kind]]
        frames.append(
            pd.DataFrame(
                {
                    "kind": kind,
                    "feature": range(len(norms)),
                    "norm": norms,
                    "represented": hidden.represented.tolist(),
                    "cosine": found.nearest.tolist(),
                    "unit": found.matching.unit.tolist(),
                    "own_cosine": found.matching.cosine.tolist(),
                    "precision": found.detection.precision.tolist(),
                    "recall": found.detection.recall.tolist(),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def histogram_table(features: pd.DataFrame) -> pd.DataFrame:
    """Represented features by the cosine of their nearest unit, in classes of 0.05."""
    edges = np.arange(0, 1 + _BIN / 2, _BIN)
    frames = []
    for kind, rows in features[features["represented"]].groupby("kind", sort=False):
        counts, _ = np.histogram(rows["cosine"].clip(0, 1), edges)
        texts = [f"{edge:.2f}" for edge in edges[:-1]]
        frames.append(pd.DataFrame({"kind": kind, "from": texts, "features": counts}))
    return pd.concat(frames, ignore_index=True)


def cosines_table(
    dictionaries: Dictionaries, recoveries: Recoveries, chosen: Mapping[Kind, int], hidden: Hidden
) -> pd.DataFrame:
    """Cosines of the first represented features with each other's own units."""
    shown = hidden.represented.nonzero()[:SHOWN_FEATURES, 0]
    frames = []
    for kind, each in dictionaries.items():
        at = chosen[kind]
        own = recoveries[kind][at].matching.unit[shown]
        features = shown[own >= 0]
        rows = each[at].sae.W_dec.detach()[own[own >= 0]]
        true = hidden.true[features]
        table = rows @ (true / true.norm(dim=1, keepdim=True)).T
        n = len(features)
        frames.append(
            pd.DataFrame(
                {
                    "kind": kind,
                    "feature": features.repeat(n).tolist(),
                    "unit_of_feature": features.repeat_interleave(n).tolist(),
                    "cosine": table.flatten().tolist(),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def training_table(dictionaries: Dictionaries) -> pd.DataFrame:
    """What was logged while dictionaries were trained, on each step's own batch."""
    rows: list[dict[str, Any]] = [
        {"kind": kind, "d_sae": dictionary.d_sae, **row}
        for kind, each in dictionaries.items()
        for dictionary in each
        for row in dictionary.history.rows
    ]
    return pd.DataFrame(rows)


def figures(tables: Mapping[str, pd.DataFrame]) -> dict[str, Chart]:
    """The charts of the tables."""
    growth = tables["growth"]
    best = growth[growth["chosen"]]
    told = "; ".join(
        f"{row.kind}: {row.d_sae} units, cosine {row.cosine:.2f}, {row.dead} dead"
        for row in best.itertuples()
    )
    by_size: dict[str, Any] = {
        "kind": "line", "table": "growth", "x": "d_sae", "color": "kind",
        "x_label": "units of the dictionary",
    }  # fmt: skip
    charts = {
        "cosine-by-size": Chart(
            **by_size,
            y="cosine",
            y_label="mean max cosine to the toy's features",
            title="Features found, by size of the dictionary",
            alt=f"Mean max cosine against the number of units. Chosen sizes: {told}.",
        ),
        "fve-by-size": Chart(
            **by_size,
            y="fve",
            y_label="fraction of variance explained",
            title="What can be seen without the truth",
            alt="Fraction of variance explained against the number of units: where it no longer "
            f"rises, the dictionary is large enough. Chosen sizes: {told}.",
        ),
        "dead-by-size": Chart(
            **by_size,
            y="dead",
            y_label="units that never fire",
            title="Dead units, by size of the dictionary",
            alt=f"Units that never fire against the number of units. Chosen sizes: {told}.",
        ),
        "histogram": Chart(
            kind="bars",
            table="histogram",
            x="from",
            value="features",
            facet="kind",
            x_label="cosine of the nearest unit, from",
            title="Features by how near a unit comes, in the chosen dictionaries",
            alt=f"Histogram of the largest cosine of each represented feature to a unit. {told}.",
        ),
    }
    if len(tables["cosines"]):
        charts["cosines"] = Chart(
            kind="heatmap",
            table="cosines",
            x="feature",
            y="unit_of_feature",
            value="cosine",
            facet="kind",
            signed=True,
            y_label="unit of feature",
            title="Units beside the features that they stand for",
            alt="Cosines of the first features with each other's own units. A diagonal of ones "
            "and little beside it means that each has found its feature alone.",
        )
    return charts


def _mean(values: Tensor) -> float:
    return float(values.double().mean())
