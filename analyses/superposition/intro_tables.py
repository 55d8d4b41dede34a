"""Features in two dimensions as tables and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from analyses.superposition.findings import Finding, findings_table
from interp.charts.spec import Chart
from interp.toys.geometry import Geometry
from interp.toys.measures import (
    dimensions_per_feature,
    feature_dimensionality,
    feature_norms,
    superposition,
)
from interp.toys.planar import angular_gaps

PAPER_FEATURES = 5
REGULAR = 360 / PAPER_FEATURES


@dataclass(frozen=True)
class Trained:
    """Toys that were trained: instances by ratio of importances, then density, then seed.

    Attributes:
        ratio, density, seed: Of each.
        importance: Of its features.
        W, b: In fp64.
        loss: Expected, a mean over features.
        geometries: Their parts.
    """

    ratio: Float[Tensor, "instance"]
    density: Float[Tensor, "instance"]
    seed: Int[Tensor, "instance"]
    importance: Float[Tensor, "instance feature"]
    W: Float[Tensor, "instance 2 feature"]
    b: Float[Tensor, "instance feature"]
    loss: Float[Tensor, "instance"]
    geometries: Sequence[Geometry]


def tables_of(trained: Trained) -> dict[str, pd.DataFrame]:
    """All tables of the analysis."""
    toys = _toys(trained)
    # Of each ratio the dense ones first.
    best = sorted(toys.groupby(["ratio", "density"])["loss"].idxmin().tolist())
    by_condition = _by_condition(toys, best)
    return {
        "by-condition": by_condition,
        "findings": _findings(by_condition, trained.W.shape[-1]),
        "features": _features(trained, best),
        "gram": _gram(trained, best),
        "directions": _directions(trained, best),
        "toys": toys,
    }


def named(ratio: float, density: float) -> str:
    """Of a condition, for an axis."""
    return f"{'all alike' if ratio == 1 else f'I={ratio:g}^i'}, {density:g}"


def of_density(density: float) -> str:
    """Of the best toy of a ratio, for a panel."""
    return f"1-S = {density:g}"


def _toys(trained: Trained) -> pd.DataFrame:
    """A row for each toy."""
    gaps = angular_gaps(trained.W)
    absent = gaps.isnan()
    return pd.DataFrame(
        {
            "ratio": trained.ratio.tolist(),
            "density": trained.density.tolist(),
            "seed": trained.seed.tolist(),
            "loss": trained.loss.tolist(),
            "geometry": [one.summary for one in trained.geometries],
            "represented": (~absent).sum(-1).tolist(),
            "features": [" ".join(map(str, one.nonzero().flatten().tolist())) for one in ~absent],
            "least_gap_degrees": gaps.masked_fill(absent, torch.inf).amin(-1).tolist(),
            "largest_gap_degrees": gaps.masked_fill(absent, -torch.inf).amax(-1).tolist(),
            "dimensions_per_feature": dimensions_per_feature(trained.W).tolist(),
        }
    )


def _by_condition(toys: pd.DataFrame, best: Sequence[int]) -> pd.DataFrame:
    """The best toy of each condition, and how many of the others have become alike."""
    rows = []
    for i in best:
        row = toys.iloc[i]
        same = toys[(toys["ratio"] == row["ratio"]) & (toys["density"] == row["density"])]
        alike = same["geometry"] == row["geometry"]
        rows.append(
            {
                "condition": named(float(row["ratio"]), float(row["density"])),
                **{str(name): value for name, value in row.items()},
                "toys": len(same),
                "share": float(alike.mean()),
                "worst_loss": float(same["loss"].max()),
            }
        )
    return pd.DataFrame(rows)


def _features(trained: Trained, best: Sequence[int]) -> pd.DataFrame:
    """A row for each feature of the best toys."""
    W = trained.W
    angle = torch.atan2(W[:, 1], W[:, 0]).rad2deg()
    shared, absent = superposition(W), angular_gaps(W).isnan()
    measures = {
        "importance": trained.importance,
        "norm": feature_norms(W),
        "superposition": shared,
        "shared": shared.masked_fill(absent, torch.nan),
        "dimensionality": feature_dimensionality(W),
        "angle_degrees": angle,
        "bias": trained.b,
    }
    rows = [
        {
            "condition": named(float(trained.ratio[i]), float(trained.density[i])),
            "ratio": float(trained.ratio[i]),
            "density": float(trained.density[i]),
            "feature": feature,
            **{name: float(values[i, feature]) for name, values in measures.items()},
        }
        for i in best
        for feature in range(W.shape[-1])
    ]
    return pd.DataFrame(rows)


def _gram(trained: Trained, best: Sequence[int]) -> pd.DataFrame:
    """WᵀW of the best toys."""
    rows = []
    for i in best:
        ratio, density = float(trained.ratio[i]), float(trained.density[i])
        gram = (trained.W[i].T @ trained.W[i]).tolist()
        rows += [
            {
                "toy": of_density(density),
                "ratio": ratio,
                "density": density,
                "feature": row,
                "other": column,
                "product": value,
            }
            for row, values in enumerate(gram)
            for column, value in enumerate(values)
        ]
    return pd.DataFrame(rows)


def _directions(trained: Trained, best: Sequence[int]) -> pd.DataFrame:
    """The columns of W of the best toys."""
    rows = [
        {
            "toy": of_density(float(trained.density[i])),
            "ratio": float(trained.ratio[i]),
            "feature": str(feature),
            "x": x,
            "y": y,
        }
        for i in best
        for feature, (x, y) in enumerate(trained.W[i].T.tolist())
    ]
    return pd.DataFrame(rows)


def _findings(conditions: pd.DataFrame, n_features: int) -> pd.DataFrame:
    """What the paper says of its figure, beside the best toys here."""
    rows = []
    for ratio in conditions["ratio"].unique().tolist():
        of_ratio = conditions[conditions["ratio"] == ratio]
        dense, sparse = of_ratio.iloc[0], of_ratio.iloc[-1]
        what = "features alike" if ratio == 1 else f"importance {ratio:g}^i"
        # Of features alike any two dimensions are as good as any others.
        if ratio < 1 and dense["density"] == 1:
            is_orthogonal = dense["geometry"] == "2 monosemantic features"
            rows.append(
                Finding(
                    f"{what}: dense features share nothing",
                    "the two most important features, at a right angle (S = 0)",
                    f"{dense['geometry']} ({dense['features']}), least angle "
                    f"{dense['least_gap_degrees']:.1f}° at 1-S = {dense['density']:g}",
                    is_orthogonal and dense["features"] == "0 1",
                )
            )
        if n_features != PAPER_FEATURES:
            continue
        digons = of_ratio[of_ratio["geometry"] == "2 digons"]
        rows.append(
            Finding(
                f"{what}: sparser ones become antipodal pairs",
                "four features as two digons (S = 0.8)",
                _at("2 digons", digons),
                len(digons) > 0,
            )
        )
        pentagons = of_ratio[of_ratio["geometry"] == "pentagon"]
        is_pentagon = sparse["geometry"] == "pentagon"
        off = max(
            REGULAR - sparse["least_gap_degrees"],
            sparse["largest_gap_degrees"] - REGULAR,
        )
        at_last = f"neighbours are within {off:.1f}° of {REGULAR:g}°"
        rows.append(
            Finding(
                f"{what}: sparse ones become a pentagon",
                "all five as a pentagon (S = 0.9)",
                f"{_at('pentagon', pentagons)}; at {sparse['density']:g} "
                f"{at_last if is_pentagon else sparse['geometry']}",
                is_pentagon,
            )
        )
    return findings_table(rows)


def _at(shape: str, rows: pd.DataFrame) -> str:
    densities = ", ".join(f"{density:g}" for density in rows["density"])
    return f"{shape} at 1-S = {densities}" if densities else f"no {shape}"


def figures(tables: Mapping[str, pd.DataFrame]) -> dict[str, Chart]:
    """Charts of the tables: pictures of W by ratio of importances, then the rest."""
    made = {}
    for k, ratio in enumerate(tables["by-condition"]["ratio"].unique().tolist()):
        alike = "all features alike" if ratio == 1 else f"importance {ratio:g}^i"
        made[f"directions-{k}"] = Chart(
            kind="points",
            vectors=True,
            table="directions",
            title=f"Columns of W of the best toys, {alike}",
            alt="Each feature is a line from the centre. As features get sparser, four make a "
            "cross, then all five a star."
            + ("" if ratio == 1 else " Dense, two are at a right angle and the others short."),
            x="x",
            y="y",
            color="feature",
            facet="toy",
            x_label="first hidden dimension",
            y_label="second",
            where={"ratio": ratio},
        )
        made[f"gram-{k}"] = Chart(
            kind="heatmap",
            table="gram",
            title=f"WᵀW of the best toys, {alike}",
            alt="The sparser the features, the more of the diagonal is filled, with negative "
            "places beside it."
            + ("" if ratio == 1 else " In dense toys only two places of it are, and nothing else."),
            x="other",
            y="feature",
            value="product",
            facet="toy",
            value_label="(WᵀW)_ij",
            x_label="feature",
            signed=True,
            where={"ratio": ratio},
        )
    made["norms"] = Chart(
        kind="heatmap",
        table="features",
        title="Norm of each feature in the best toys",
        alt="Dense features of unequal importance: two have norm 1 and the rest 0. Sparse ones: "
        "all have a norm of 1 to 1.2.",
        x="feature",
        y="condition",
        y_label="importance, density 1-S",
        value="norm",
        value_label="‖W_i‖",
    )
    made["superposition"] = Chart(
        kind="heatmap",
        table="features",
        title="Superposition of represented features in the best toys",
        alt="None between dense features of unequal importance; about 1 in digons, and up to 2 in "
        "pentagons.",
        x="feature",
        y="condition",
        y_label="importance, density 1-S",
        value="shared",
        value_label="Σ_{j≠i} (Ŵ_i·W_j)²",
    )
    return made
