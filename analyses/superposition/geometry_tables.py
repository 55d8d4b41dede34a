"""The geometry of uniform superposition as tables and figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.charts.spec import Chart
from interp.toys.geometry import Geometry
from interp.toys.measures import dimensions_per_feature, feature_dimensionality, feature_norms
from interp.toys.plateaus import NAMED_FRACTIONS, plateau

REFERENCE = (
    1.00, 1.00, 0.95, 0.83, 0.60, 0.53, 0.51, 0.51, 0.50, 0.44,
    0.36, 0.34, 0.30, 0.26, 0.24, 0.21, 0.19, 0.17, 0.15, 0.14,
)  # fmt: skip
"""Dimensions per feature that the procedure of the authors' notebook gives: n = 200, m = 20,
densities 20^(-linspace(0, 1, 20)), AdamW with learning rate 1e-3 and weight decay 0.01."""
REFERENCE_SHAPE, REFERENCE_SPARSEST = (20, 200), 0.05
NEAR = 0.03  # of a dimension per feature: as near as two runs of the reference are
LEAST, TIMES = 10, 2.0  # features at a fraction, and as many times as at either flank
REPRESENTED = 0.5  # of norm: about 1 or about 0 in a trained toy
BINS = 40
CURVES = 6
EVERYWHERE = "all toys"
NAN = float("nan")


@dataclass(frozen=True)
class Trained:
    """Toys that were trained, and what they are: instances by falling density, then by repeat.

    Attributes:
        density: Of each.
        repeat: Which of the toys of its density it is.
        seed: Of its weights and data.
        W: Their weights, in fp64.
        loss: On data that they were not trained on.
        geometries: Their parts.
    """

    density: Float[Tensor, "instance"]
    repeat: Int[Tensor, "instance"]
    seed: Int[Tensor, "instance"]
    W: Float[Tensor, "instance d_hidden feature"]
    loss: Float[Tensor, "instance"]
    geometries: Sequence[Geometry]


def tables_of(trained: Trained, half_width: float, flank: float) -> dict[str, pd.DataFrame]:
    """All tables of the analysis."""
    by_density = _by_density(trained)
    plateaus = _plateaus(trained, half_width, flank)
    parts = _parts(trained)
    features = _features(trained)
    return {
        "by-density": by_density,
        "findings": _findings(by_density, plateaus, parts),
        "plateaus": plateaus,
        "features": features,
        "curves": _curves(features),
        "histogram": _histogram(trained),
        "parts": parts,
    }


def _by_density(trained: Trained) -> pd.DataFrame:
    """A row for each toy."""
    W = trained.W
    norms, D = feature_norms(W), feature_dimensionality(W)
    there = norms > REPRESENTED
    d_hidden, n_features = W.shape[-2:]
    densities = trained.density.unique().flip(0)
    at = torch.searchsorted(-densities, -trained.density).tolist()
    expected = torch.logspace(0, 1, len(REFERENCE), REFERENCE_SPARSEST, dtype=torch.float64)
    is_reference = (
        (d_hidden, n_features) == REFERENCE_SHAPE
        and len(densities) == len(REFERENCE)
        and torch.allclose(densities, expected)
    )
    found = dimensions_per_feature(W)
    reference = [REFERENCE[i] if is_reference else NAN for i in at]
    return pd.DataFrame(
        {
            "density": trained.density.tolist(),
            "inverse_density": (1 / trained.density).tolist(),
            "repeat": trained.repeat.tolist(),
            "seed": trained.seed.tolist(),
            "dimensions_per_feature": found.tolist(),
            "reference": reference,
            "difference": (found - torch.tensor(reference, dtype=found.dtype)).tolist(),
            "represented": there.sum(-1).tolist(),
            "mean_dimensionality": _mean(D, there).tolist(),
            "sum_dimensionality": D.sum(-1).tolist(),
            "loss": trained.loss.tolist(),
        }
    )


def _mean(values: Tensor, counts: Tensor) -> Tensor:
    """Over the features that count; NaN where there are none."""
    return (values * counts).sum(-1) / counts.sum(-1)


def _features(trained: Trained) -> pd.DataFrame:
    """A row for each feature, a toy's highest dimensionality first."""
    norms, D = feature_norms(trained.W), feature_dimensionality(trained.W)
    order = D.argsort(-1, descending=True)
    count, n_features = D.shape
    rank = torch.arange(n_features).repeat(count)
    return pd.DataFrame(
        {
            "density": trained.density.repeat_interleave(n_features).tolist(),
            "label": [_label(p) for p in trained.density.tolist() for _ in range(n_features)],
            "repeat": trained.repeat.repeat_interleave(n_features).tolist(),
            "feature": order.flatten().tolist(),
            "rank": rank.tolist(),
            "share": ((rank + 0.5) / n_features).tolist(),
            "norm": norms.gather(-1, order).flatten().tolist(),
            "dimensionality": D.gather(-1, order).flatten().tolist(),
        }
    )


def _label(density: float) -> str:
    return f"{density:.4g}"


def _curves(features: pd.DataFrame) -> pd.DataFrame:
    """Of some densities, of the first toy: what `features` has, ready to be drawn."""
    first = features[features["repeat"] == 0]
    labels = first["label"].drop_duplicates().tolist()
    shown = min(CURVES, len(labels))
    chosen = [labels[round(i * (len(labels) - 1) / (shown - 1))] for i in range(shown)]
    rows = first[first["label"].isin(chosen)]
    return pd.DataFrame(
        {
            "density": rows["label"],
            "share": rows["share"],
            "dimensionality": rows["dimensionality"],
        }
    ).reset_index(drop=True)


def _histogram(trained: Trained) -> pd.DataFrame:
    """How many represented features lie nearest to each multiple of 1/40, highest first."""
    D, there = feature_dimensionality(trained.W), feature_norms(trained.W) > REPRESENTED
    rows = []
    for place, density in enumerate(trained.density.unique().flip(0).tolist()):
        chosen = trained.density == density
        values = D[chosen][there[chosen]]
        counts = (values * BINS).round().long().bincount(minlength=BINS + 1).tolist()
        rows += [
            {
                "density": density,
                "label": _label(density),
                "place": place,
                "dimensionality": k / BINS,
                "text": _bin_text(k),
                "below_highest": BINS - k,
                "features": counts[k],
                "share": counts[k] / max(1, len(values)),
            }
            for k in reversed(range(BINS + 1))
        ]
    return pd.DataFrame(rows)


def _bin_text(k: int) -> str:
    """A bin's middle, and the fraction that lies in it."""
    inside = [str(one.fraction) for one in NAMED_FRACTIONS if round(float(one) * BINS) == k]
    return f"{k / BINS:.3g}" + "".join(f" ({each})" for each in inside if "/" in each)


def _plateaus(trained: Trained, half_width: float, flank: float) -> pd.DataFrame:
    """Features at each named fraction and beside it, of each toy and of all."""
    D = feature_dimensionality(trained.W)
    toys = zip(trained.density.tolist(), trained.seed.tolist(), D, strict=True)
    groups = [(_label(density), density, seed, values) for density, seed, values in toys]
    rows = []
    for label, density, seed, values in [(EVERYWHERE, NAN, -1, D.flatten()), *groups]:
        for named in NAMED_FRACTIONS:
            found = plateau(values, float(named), half_width, flank)
            rows.append(
                {
                    "label": label,
                    "density": density,
                    "seed": seed,
                    "fraction": str(named.fraction),
                    "shape": named.shape,
                    "value": float(named),
                    "within": int(found.within),
                    "below": int(found.below),
                    "above": int(found.above),
                    "stands_out": bool(found.stands_out(LEAST, TIMES)),
                }
            )
    return pd.DataFrame(rows)


def _parts(trained: Trained) -> pd.DataFrame:
    """How many parts of each shape a density's toys have."""
    found: dict[tuple[float, str], list[tuple[int, int, float, float]]] = {}
    for density, one in zip(trained.density.tolist(), trained.geometries, strict=True):
        for part in one.parts:
            about = len(part.features), part.rank, part.dimensionality, part.deviation
            found.setdefault((density, str(part)), []).append(about)
    rows = [
        {
            "density": density,
            "shape": shape,
            "named": not shape.startswith("unnamed"),
            "parts": len(each),
            "features": sum(n for n, *_ in each),
            "rank": each[0][1],
            "mean_dimensionality": sum(n * d for n, _, d, _ in each) / sum(n for n, *_ in each),
            "largest_deviation_degrees": max(deviation for *_, deviation in each),
        }
        for (density, shape), each in sorted(
            found.items(), key=lambda item: (-item[0][0], -sum(n for n, *_ in item[1]), item[0][1])
        )
    ]
    return pd.DataFrame(rows)


def _findings(
    by_density: pd.DataFrame, plateaus: pd.DataFrame, parts: pd.DataFrame
) -> pd.DataFrame:
    """What the paper says of its figures, beside these."""
    D_star = by_density.groupby("density", sort=False)["dimensions_per_feature"].mean()
    at_half = int(((D_star - 0.5).abs() <= NEAR).sum())
    single = plateaus[plateaus["label"] != EVERYWHERE]
    half = single[single["fraction"] == "1/2"]
    best = half.loc[half["within"].idxmax()]
    others = single[~single["fraction"].isin(["1", "1/2"]) & single["stands_out"]]
    named = parts[parts["named"]].groupby("shape", sort=False)["parts"].sum()
    rows = []
    if D_star.index[0] == 1:
        rows.append(
            (
                "without sparsity there are no more features than dimensions",
                "dimensions per feature 1 at density 1",
                f"{D_star.iloc[0]:.2f}",
                abs(D_star.iloc[0] - 1) <= NEAR,
            )
        )
    rows += [
        (
            "dimensions per feature stay at 1/2 over a range of densities",
            "a plateau at 1/2",
            f"within {NEAR} of 1/2 at {at_half} of {len(D_star)} densities",
            at_half >= 3,
        ),
        (
            "features gather at exactly 1/2",
            "a line of points at 1/2: digons",
            f"{best['within']} at density {best['label']}, {best['below']} and {best['above']} "
            "at the flanks",
            bool(half["stands_out"].any()),
        ),
        (
            "features gather at other fractions",
            "lines of points at 3/4, 2/3, 2/5 and 3/8",
            ", ".join(
                f"{row.fraction} ({row.within} at density {row.label})"
                for row in others.itertuples()
            )
            or "none stands out",
            not others.empty,
        ),
        (
            "the sparsest features get less than half a dimension each",
            "dimensions per feature below 1/2 at the right end",
            f"{D_star.iloc[-1]:.2f} at density {D_star.index[-1]:g}",
            D_star.iloc[-1] < 0.5 - NEAR,
        ),
        (
            "the parts of the interference graph are polytopes",
            "digons, triangles, tetrahedra, pentagons, square antiprisms",
            ", ".join(f"{n} {shape}" for shape, n in named.items()) or "none has a name",
            bool(set(named.index) & {"digon", "triangle", "tetrahedron", "pentagon"}),
        ),
    ]
    reference = by_density["difference"].abs()
    if reference.notna().any():
        rows.append(
            (
                "dimensions per feature are those of the authors' procedure",
                " ".join(f"{value:.2f}" for value in REFERENCE),
                " ".join(f"{value:.2f}" for value in D_star)
                + f"; off by {reference.max():.3f} at most",
                reference.max() <= NEAR,
            )
        )
    columns = ["claim", "paper", "here", "agrees"]
    return pd.DataFrame(rows, columns=columns).astype({"agrees": bool})


def figures() -> dict[str, Chart]:
    """Charts of the tables; of several toys of a density the first."""
    return {
        "dimensions-per-feature": Chart(
            kind="line",
            table="by-density",
            title="Dimensions per feature",
            alt="m / ‖W‖²_F falls from 1 as features grow sparse, stays at 1/2 over several "
            "densities, and then falls on.",
            x="inverse_density",
            y="dimensions_per_feature",
            x_label="1 / (1 - S), with density 1 - S",
            y_label="D* = m / ‖W‖²_F",
            log_x=True,
            where={"repeat": 0},
        ),
        "by-rank": Chart(
            kind="line",
            table="curves",
            title="Dimensionality of each feature, in falling order",
            alt="Where features form a polytope, a density's curve runs level at its fraction: at "
            "1/2 for digons. Denser features end at 0 earlier, as fewer are represented.",
            x="share",
            y="dimensionality",
            color="density",
            x_label="share of features, highest first",
            y_label="dimensionality D",
        ),
        "dimensionalities": Chart(
            kind="heatmap",
            table="histogram",
            title="Represented features by dimensionality",
            alt="Features crowd into narrow bands at 1, 1/2 and other fractions of polytopes; the "
            "bands lie lower the sparser features are.",
            x="place",
            y="below_highest",
            value="share",
            x_text="label",
            y_text="text",
            x_label="density 1 - S",
            y_label="dimensionality (fraction)",
            value_label="share of represented features",
        ),
    }
