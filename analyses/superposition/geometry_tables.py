"""The geometry of uniform superposition as tables and figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from analyses.superposition.findings import Finding, findings_table
from interp.charts.spec import Chart
from interp.toys.geometry import MONOSEMANTIC, Geometry
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
CURVES = 6
EVERYWHERE = "all toys"
DEDICATED = NAMED_FRACTIONS[0].shape
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
    features = _features(trained, half_width)
    return {
        "by-density": by_density,
        "findings": _findings(by_density, plateaus, parts),
        "plateaus": plateaus,
        "features": features,
        "curves": _curves(features),
        "parts": parts,
    }


def _by_density(trained: Trained) -> pd.DataFrame:
    """A row for each toy."""
    W = trained.W
    norms, D = feature_norms(W), feature_dimensionality(W)
    there = norms > REPRESENTED
    d_hidden, n_features = W.shape[-2:]
    expected = torch.logspace(0, 1, len(REFERENCE), REFERENCE_SPARSEST, dtype=torch.float64)
    is_expected = (trained.density[:, None] / expected - 1).abs() < 1e-6
    is_reference = (d_hidden, n_features) == REFERENCE_SHAPE and bool(is_expected.any(0).all())
    found = dimensions_per_feature(W)
    reference = [
        REFERENCE[at] if is_reference and here else NAN
        for at, here in zip(is_expected.int().argmax(1).tolist(), is_expected.any(1), strict=True)
    ]
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


def _features(trained: Trained, half_width: float) -> pd.DataFrame:
    """A row for each feature, a toy's highest dimensionality first."""
    norms, D = feature_norms(trained.W), feature_dimensionality(trained.W)
    order = D.argsort(-1, descending=True)
    count, n_features = D.shape
    rank = torch.arange(n_features).repeat(count)
    norm, falling = norms.gather(-1, order).flatten(), D.gather(-1, order).flatten()
    return pd.DataFrame(
        {
            "density": trained.density.repeat_interleave(n_features).tolist(),
            "inverse_density": (1 / trained.density).repeat_interleave(n_features).tolist(),
            "label": [_label(p) for p in trained.density.tolist() for _ in range(n_features)],
            "repeat": trained.repeat.repeat_interleave(n_features).tolist(),
            "feature": order.flatten().tolist(),
            "rank": rank.tolist(),
            "share": ((rank + 0.5) / n_features).tolist(),
            "norm": norm.tolist(),
            "represented": (norm > REPRESENTED).tolist(),
            "dimensionality": falling.tolist(),
            "at": [_fraction_at(value, half_width) for value in falling.tolist()],
        }
    )


def _fraction_at(dimensionality: float, half_width: float) -> str:
    """The named fraction that this is at, or `none`."""
    near = [one for one in NAMED_FRACTIONS if abs(dimensionality - float(one)) <= half_width]
    return str(near[0].fraction) if near else "none"


def _label(density: float) -> str:
    return f"{density:.4g}"


def _curves(features: pd.DataFrame) -> pd.DataFrame:
    """Of some densities, of the first toy: what `features` has, ready to be drawn."""
    first = features[features["repeat"] == 0]
    labels = first["label"].drop_duplicates().tolist()
    shown = min(CURVES, len(labels))
    chosen = [labels[round(i * (len(labels) - 1) / max(1, shown - 1))] for i in range(shown)]
    rows = first[first["label"].isin(chosen)]
    return pd.DataFrame(
        {
            "density": rows["label"],
            "share": rows["share"],
            "dimensionality": rows["dimensionality"],
        }
    ).reset_index(drop=True)


def _plateaus(trained: Trained, half_width: float, flank: float) -> pd.DataFrame:
    """Features at each named fraction and beside it, of each toy and of all.

    `of_shape` are those within the window that are in a part of the fraction's own shape: others
    are there by accident.
    """
    D = feature_dimensionality(trained.W)
    shapes = [_shapes(one, D.shape[1]) for one in trained.geometries]
    toys = zip(trained.density.tolist(), trained.seed.tolist(), D, shapes, strict=True)
    groups = [(_label(density), density, seed, *rest) for density, seed, *rest in toys]
    every = (EVERYWHERE, NAN, -1, D.flatten(), [shape for each in shapes for shape in each])
    rows = []
    for label, density, seed, values, shape in [every, *groups]:
        for named in NAMED_FRACTIONS:
            is_within = ((values - float(named)).abs() <= half_width).nonzero().flatten().tolist()
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
                    "of_shape": sum(shape[i] == named.shape for i in is_within),
                    "below": int(found.below),
                    "above": int(found.above),
                    "stands_out": bool(found.stands_out(LEAST, TIMES)),
                }
            )
    return pd.DataFrame(rows)


def _shapes(geometry: Geometry, n_features: int) -> list[str]:
    """The shape that each feature is a vertex of, as `NAMED_FRACTIONS` calls it."""
    shapes = [""] * n_features
    for part in geometry.parts:
        for feature in part.features:
            shapes[feature] = DEDICATED if part.name == MONOSEMANTIC else part.name
    return shapes


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
    best = half.sort_values("within", ascending=False, kind="stable").iloc[0]
    others = single[~single["fraction"].isin(["1", "1/2"]) & single["stands_out"]]
    named = parts[parts["named"]].groupby("shape", sort=False)["parts"].sum()
    rows = []
    if D_star.index[0] == 1:
        rows.append(
            Finding(
                "without sparsity there are no more features than dimensions",
                "dimensions per feature 1 at density 1",
                f"{D_star.iloc[0]:.2f}",
                abs(D_star.iloc[0] - 1) <= NEAR,
            )
        )
    rows += [
        Finding(
            "dimensions per feature stay at 1/2 over a range of densities",
            "a plateau at 1/2",
            f"within {NEAR} of 1/2 at {at_half} of {len(D_star)} densities",
            at_half >= 3,
        ),
        Finding(
            "features gather at exactly 1/2",
            "a line of points at 1/2: digons",
            f"{best['within']} at density {best['label']}, {best['below']} and {best['above']} "
            "at the flanks",
            bool(half["stands_out"].any()),
        ),
        Finding(
            "features gather at other fractions",
            "lines of points at 3/4, 2/3, 2/5 and 3/8",
            ", ".join(
                f"{row.fraction} ({row.within} at density {row.label}, {row.of_shape} of them in "
                f"a {row.shape})"
                for row in others.itertuples()
            )
            or "none stands out",
            bool((2 * others["of_shape"] > others["within"]).any()),
        ),
        Finding(
            "the sparsest features get less than half a dimension each",
            "dimensions per feature below 1/2 at the right end",
            f"{D_star.iloc[-1]:.2f} at density {D_star.index[-1]:g}",
            D_star.iloc[-1] < 0.5 - NEAR,
        ),
        Finding(
            "the parts of the interference graph are polytopes",
            "digons, triangles, tetrahedra, pentagons, square antiprisms",
            ", ".join(f"{n} {shape}" for shape, n in named.items()) or "none has a name",
            bool(set(named.index) & {"digon", "triangle", "tetrahedron", "pentagon"}),
        ),
    ]
    compared = by_density[by_density["reference"].notna()]
    if len(compared):
        found = compared.groupby("density", sort=False)["dimensions_per_feature"].mean()
        off = compared["difference"].abs().max()
        rows.append(
            Finding(
                "dimensions per feature are those of the authors' procedure",
                " ".join(f"{value:.2f}" for value in REFERENCE),
                " ".join(f"{value:.2f}" for value in found) + f"; off by {off:.3f} at most",
                off <= NEAR,
            )
        )
    return findings_table(rows)


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
            "1/2 for digons. It falls to 0 where features are not represented.",
            x="share",
            y="dimensionality",
            color="density",
            x_label="share of features, highest first",
            y_label="dimensionality D",
        ),
        "dimensionalities": Chart(
            kind="points",
            table="features",
            title="Dimensionality of each represented feature",
            alt="Points crowd at 1/2 over a range of densities, and in few toys at other fractions "
            "of polytopes; elsewhere they spread. The sparser features are, the lower they lie.",
            x="inverse_density",
            y="dimensionality",
            color="at",
            x_label="1 / (1 - S), with density 1 - S",
            y_label="dimensionality D",
            log_x=True,
            where={"represented": True},
        ),
    }
