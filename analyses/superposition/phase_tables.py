"""Phase diagrams as tables and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from analyses.superposition.findings import Finding, findings_table
from interp.charts.spec import Chart
from interp.toys.measures import feature_norms, superposition
from interp.toys.theory import REGIONS, MinimumLossRegions, classify

THEORY, TRAINED = "theory", "best toy"
ENOUGH = 0.9  # of the points away from boundaries
ROUNDING = 1e-6  # of a loss, and what is left of descents


@dataclass(frozen=True)
class Diagram:
    """Toys over a grid, beside the theory.

    Attributes:
        theory: Of the same grid.
        W: Of all toys, in fp64.
        losses: Their exact ones, sums over features.
        represented: The part of the largest norm from which a feature is represented.
    """

    theory: MinimumLossRegions
    W: Float[Tensor, "density importance seed d_hidden feature"]
    losses: Float[Tensor, "density importance seed"]
    represented: float

    @property
    def size(self) -> str:
        """Features and dimensions."""
        return f"n={self.W.shape[-1]} m={self.W.shape[-2]}"

    @property
    def fates(self) -> Int[Tensor, "density importance seed"]:
        """What became of the extra feature of each toy, an index of `REGIONS`."""
        return classify(self.W, represented=self.represented)

    @property
    def best(self) -> Int[Tensor, "density importance"]:
        """The toy with the least loss."""
        return self.losses.argmin(-1)

    def of_best(
        self, values: Shaped[Tensor, "density importance seed *axes"]
    ) -> Shaped[Tensor, "density importance *axes"]:
        """Values of all toys `[density, importance, seed, …]`: of the best one."""
        i, j = torch.meshgrid(*(torch.arange(n) for n in self.best.shape), indexing="ij")
        return values[i, j, self.best.to(i.device)]


def tables_of(diagrams: Sequence[Diagram], margin: float) -> dict[str, pd.DataFrame]:
    """All tables of the analysis."""
    points = pd.concat([_points(each, margin) for each in diagrams], ignore_index=True)
    regions = pd.concat([_regions(rows) for _, rows in points.groupby("size")], ignore_index=True)
    return {
        "agreement": _agreement(points),
        "findings": _findings(points, margin),
        "regions": regions,
        "maps": pd.concat([_maps(rows) for _, rows in points.groupby("size")], ignore_index=True),
        "points": points,
        "weights": pd.concat([_weights(each) for each in diagrams], ignore_index=True),
    }


def _points(diagram: Diagram, margin: float) -> pd.DataFrame:
    """A row for each point of the grid."""
    theory = diagram.theory
    fates, best = diagram.fates, diagram.of_best(diagram.W)
    fate = diagram.of_best(fates)
    least = theory.losses.amin(0)
    density, extra = torch.meshgrid(theory.densities, theory.relative_importances, indexing="ij")
    row, column = torch.meshgrid(*(torch.arange(n) for n in least.shape), indexing="ij")
    same = (fates == theory.region[..., None]).double().mean(-1)
    columns = {
        "row": row,
        "column": column,
        "density": density,
        "relative_importance": extra,
        "margin": theory.relative_margin,
        "away": theory.relative_margin >= margin,
        "region": theory.region,
        "best_region": fate,
        "agrees": fate == theory.region,
        "share": same,
        "loss": least,
        "best_loss": diagram.losses.amin(-1),
        "excess": diagram.losses.amin(-1) / least - 1,
        "norm": feature_norms(theory.W)[..., -1],
        "best_norm": feature_norms(best)[..., -1],
        "superposition": superposition(theory.W)[..., -1],
        "best_superposition": superposition(best)[..., -1],
    }
    table = pd.DataFrame({name: x.flatten().tolist() for name, x in columns.items()})
    for name in ("region", "best_region"):
        table[f"{name}_name"] = [REGIONS[k] for k in table[name]]
    table.insert(0, "size", diagram.size)
    return table


def _weights(diagram: Diagram) -> pd.DataFrame:
    """A row for each weight of the theory's best solution and of the best toy, at each point."""
    parts = []
    for source, W in ((THEORY, diagram.theory.W), (TRAINED, diagram.of_best(diagram.W))):
        places = torch.meshgrid(*(torch.arange(n) for n in W.shape), indexing="ij")
        names = ("row", "column", "hidden", "feature")
        part = pd.DataFrame(
            {name: at.flatten().tolist() for name, at in zip(names, places, strict=True)}
        )
        part.insert(0, "source", source)
        part["weight"] = W.flatten().tolist()
        parts.append(part)
    table = pd.concat(parts, ignore_index=True)
    table.insert(0, "size", diagram.size)
    return table


def _maps(points: pd.DataFrame) -> pd.DataFrame:
    """Theory and toys one below the other, ready to be drawn."""
    about = ["size", "row", "column", "density", "relative_importance"]
    parts = []
    for source, prefix in ((THEORY, ""), (TRAINED, "best_")):
        part = points[about].copy()
        part["source"] = [f"{size}, {source}" for size in points["size"]]
        for name in ("region", "norm", "superposition"):
            part[name] = points[f"{prefix}{name}"]
        part["shared"] = part["superposition"].where(part["region"] > 0)
        part["density_text"] = [f"{x:.2g}" for x in points["density"]]
        part["importance_text"] = [f"{x:.2g}×" for x in points["relative_importance"]]
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def _regions(points: pd.DataFrame) -> pd.DataFrame:
    """How many points of each region of the theory became what."""
    rows = []
    for k, region in enumerate(REGIONS):
        of_region = points[points["region"] == k]
        for away, some in (("all", of_region), ("away", of_region[of_region["away"]])):
            counts = some["best_region"].value_counts()
            row: dict[str, object] = {
                "size": points["size"].iloc[0],
                "theory": region,
                "points": away,
                "count": len(some),
            }
            row.update({name: int(counts.get(i, 0)) for i, name in enumerate(REGIONS)})
            rows.append(row)
    return pd.DataFrame(rows)


def _agreement(points: pd.DataFrame) -> pd.DataFrame:
    """A row for each size, over all points and over those away from boundaries."""
    rows = []
    for size, of_size in points.groupby("size"):
        for which, some in (("all", of_size), ("away from boundaries", of_size[of_size["away"]])):
            rows.append(
                {
                    "size": size,
                    "points": which,
                    "count": len(some),
                    "agreement": float(some["agrees"].mean()),
                    "single_toy_agreement": float(some["share"].mean()),
                    "median_excess": float(some["excess"].median()),
                    "largest_excess": float(some["excess"].max()),
                }
            )
    return pd.DataFrame(rows)


def _findings(points: pd.DataFrame, margin: float) -> pd.DataFrame:
    """What the paper says of its diagrams, beside these."""
    rows = []
    for size, of_size in points.groupby("size"):
        away = of_size[of_size["away"]]
        share = float(away["agrees"].mean())
        rows.append(
            Finding(
                f"{size}: toys become what the theory says",
                "the diagrams of toys and of theory look alike (at least 90 % asked here)",
                (f"{share:.1%} of {len(away)} points" if len(away) else "no points")
                + f" with a margin of {margin:g}; "
                f"{of_size['agrees'].mean():.1%} of all {len(of_size)}",
                len(away) > 0 and share >= ENOUGH,
            )
        )
        below = max(0.0, -float(of_size["excess"].min()))
        rows.append(
            Finding(
                f"{size}: no toy is better than the theory's solutions",
                "(the theory compares solutions of a few kinds)",
                f"the best toy is at most {below:.2%} below the least loss of the theory"
                if below > ROUNDING
                else "no toy is",
                below <= ROUNDING,
            )
        )
        found = [name for name in REGIONS if (of_size["best_region_name"] == name).any()]
        rows.append(
            Finding(
                f"{size}: there are three phases",
                "not represented, superposed, dedicated",
                ", ".join(found),
                len(found) == len(REGIONS),
            )
        )
        dense = of_size[of_size["row"] == 0]
        superposed = float((dense["best_region_name"] == REGIONS[1]).mean())
        sparse = of_size[of_size["row"] == of_size["row"].max()]
        later = float((sparse["best_region_name"] == REGIONS[1]).mean())
        rows.append(
            Finding(
                f"{size}: superposition is for sparse features",
                "no superposition of dense features; a growing wedge of it as they get sparser",
                f"{superposed:.0%} of importances at 1-S = {dense['density'].iloc[0]:g}, "
                f"{later:.0%} at {sparse['density'].iloc[0]:g}",
                later > superposed,
            )
        )
    return findings_table(rows)


def figures(tables: Mapping[str, pd.DataFrame]) -> dict[str, Chart]:
    """The same map of theory and toys, coloured by three measures."""
    key = ", ".join(f"{k} {name}" for k, name in enumerate(REGIONS))
    shared: dict[str, Any] = {
        "kind": "heatmap",
        "table": "maps",
        "x": "column",
        "y": "row",
        "facet": "source",
        "x_text": "importance_text",
        "y_text": "density_text",
        "x_label": "relative importance",
        "y_label": "density 1-S",
    }
    what = (
        ("regions", "region", f"What becomes of the extra feature: {key}", "fate",
         "An unimportant dense feature is not represented, an important one has a dimension to "
         "itself; between them a wedge of superposition opens as features get sparser."),
        ("norms", "norm", "Norm of the extra feature", "‖W_n‖",
         "Zero where the feature is unimportant and dense, about 1 elsewhere."),
        ("superposition", "shared", "Superposition of the extra feature, where it is represented",
         "Σ_{j≠n} (Ŵ_n·W_j)²",
         "About 1 in the wedge where features are sparse and about equally important, 0 where the "
         "feature has its own dimension."),
    )  # fmt: skip
    return {
        name: Chart(**shared, value=value, title=title, value_label=label, alt=alt)
        for name, value, title, label, alt in what
    }
