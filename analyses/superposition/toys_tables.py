"""Toys of a few densities over their training, as tables and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from analyses.superposition.one_toy import written
from interp.charts.spec import Chart
from interp.toys.geometry import recognise_each
from interp.toys.measures import (
    dimensions_per_feature,
    feature_dimensionality,
    feature_norms,
    superposition,
)


@dataclass(frozen=True)
class Toys:
    """Toys by density, falling, then by seed, at some steps of their training.

    Attributes:
        steps: Updates before each snapshot.
        densities: Those of the conditions, each once.
        seeds: Of each toy.
        importance: Of each feature.
        W: In fp64.
        W_out: The way back; None if it is Wᵀ.
        b: Of the output.
        loss: On the same held-out examples at each snapshot, a mean over features.
        tolerance: Degrees by which angles may be off a shape's.
        hidden: Activation of the hidden layer, `linear` or `relu`.
    """

    steps: Sequence[int]
    densities: Sequence[float]
    seeds: Int[Tensor, "instance"]
    importance: Float[Tensor, "feature"]
    W: Float[Tensor, "snapshot instance d_hidden feature"]
    W_out: Float[Tensor, "snapshot instance feature d_hidden"] | None
    b: Float[Tensor, "snapshot instance feature"]
    loss: Float[Tensor, "snapshot instance"]
    tolerance: float
    hidden: str

    @property
    def n_seeds(self) -> int:
        """Toys of each density."""
        return self.W.shape[1] // len(self.densities)

    @property
    def best(self) -> Int[Tensor, "density"]:
        """The toy of each density with the least loss at the last of the steps."""
        first = torch.arange(len(self.densities)) * self.n_seeds
        return first + self.loss[-1].unflatten(0, (-1, self.n_seeds)).argmin(1)


def tables_of(toys: Toys) -> dict[str, pd.DataFrame]:
    """All tables of the analysis."""
    ends = _toys(toys)
    return {
        "by-density": _by_density(ends, toys),
        "features": features_table(toys),
        "gram": _gram(toys),
        "losses": losses_table(toys),
        "weights": weights_table(toys),
        "toys": ends,
    }


def of_density(density: float) -> str:
    """Of the best toy of a density, for a panel."""
    return f"1-S = {density:g}"


def _toys(toys: Toys) -> pd.DataFrame:
    """A row for each toy, as it ended."""
    W = toys.W[-1]
    shapes = recognise_each(W, toys.tolerance)
    best = set(toys.best.tolist())
    return pd.DataFrame(
        {
            "density": [each for each in toys.densities for _ in range(toys.n_seeds)],
            "seed": toys.seeds.tolist(),
            "best": [i in best for i in range(len(W))],
            "loss": toys.loss[-1].tolist(),
            "geometry": [one.summary for one in shapes],
            "represented": [W.shape[-1] - len(one.absent) for one in shapes],
            "dimensions_per_feature": dimensions_per_feature(W).tolist(),
        }
    )


def _by_density(ends: pd.DataFrame, toys: Toys) -> pd.DataFrame:
    """The best toy of each density, and how many of the others have become alike."""
    rows = []
    for i in toys.best.tolist():
        row = ends.iloc[i]
        same = ends[ends["density"] == row["density"]]
        rows.append(
            {
                **{str(name): value for name, value in row.items() if name != "best"},
                "toys": len(same),
                "share": float((same["geometry"] == row["geometry"]).mean()),
                "worst_loss": float(same["loss"].max()),
            }
        )
    return pd.DataFrame(rows)


def features_table(toys: Toys) -> pd.DataFrame:
    """A row for each density, snapshot and feature, of the best toys."""
    best = toys.best
    W = toys.W[:, best]
    snapshots, conditions, _, n_features = W.shape
    measures = {
        "importance": toys.importance.expand(snapshots, conditions, -1),
        "norm": feature_norms(W),
        "superposition": superposition(W),
        "dimensionality": feature_dimensionality(W),
        "bias": toys.b[:, best],
    }
    step, density, feature = _places(toys, n_features)
    return pd.DataFrame(
        {"density": density, "step": step, "feature": feature}
        | {name: values.flatten().tolist() for name, values in measures.items()}
    )


def weights_table(toys: Toys) -> pd.DataFrame:
    """A row for each density, snapshot and weight, of the best toys."""
    best = toys.best
    W = toys.W[:, best]
    back = W if toys.W_out is None else toys.W_out[:, best].mT
    d_hidden, n_features = W.shape[-2:]
    step, density, place = _places(toys, d_hidden * n_features)
    return pd.DataFrame(
        {
            "density": density,
            "step": step,
            "hidden": [k // n_features for k in place],
            "feature": [k % n_features for k in place],
            "weight": W.flatten().tolist(),
            "weight_out": back.flatten().tolist(),
        }
    )


def losses_table(toys: Toys) -> pd.DataFrame:
    """A row for each density and snapshot: the loss of the best toy, and of the worst."""
    by_seed = toys.loss.unflatten(1, (-1, toys.n_seeds))
    step, density, _ = _places(toys, 1)
    return pd.DataFrame(
        {
            "density": density,
            "step": step,
            "condition": [of_density(each) for each in density],
            "loss": toys.loss[:, toys.best].flatten().tolist(),
            "worst_loss": by_seed.amax(-1).flatten().tolist(),
        }
    )


def _gram(toys: Toys) -> pd.DataFrame:
    """What each feature writes onto each output, as the best toys ended: mostly WᵀW."""
    rows = []
    for density, i in zip(toys.densities, toys.best.tolist(), strict=True):
        back = None if toys.W_out is None else toys.W_out[-1, i]
        product = written(toys.W[-1, i], back, toys.hidden)
        rows += [
            {
                "toy": of_density(density),
                "density": density,
                "feature": row,
                "other": column,
                "product": value,
            }
            for row, values in enumerate(product.tolist())
            for column, value in enumerate(values)
        ]
    return pd.DataFrame(rows)


def _places(toys: Toys, count: int) -> tuple[list[int], list[float], list[int]]:
    """Step, density and the number of what is told, for `[snapshot, density, count]` flattened."""
    conditions = len(toys.densities)
    steps = [step for step in toys.steps for _ in range(conditions * count)]
    densities = [each for each in toys.densities for _ in range(count)] * len(toys.steps)
    return steps, densities, list(range(count)) * (conditions * len(toys.steps))


def figures(tables: Mapping[str, pd.DataFrame]) -> dict[str, Chart]:
    """Charts of the tables: how the best toys end, and their losses."""
    last = int(tables["features"]["step"].max())
    made = {
        "norms": Chart(
            kind="heatmap",
            table="features",
            title="Norm of each feature in the best toys",
            alt="A row for each density: about 1 where a feature is represented, 0 where it is "
            "not. With a ReLU at the output, sparser features are represented in larger numbers.",
            x="feature",
            y="density",
            y_label="density 1-S",
            value="norm",
            value_label="‖W_i‖",
            where={"step": last},
        ),
        "dimensionality": Chart(
            kind="heatmap",
            table="features",
            title="Dimensionality of each feature in the best toys",
            alt="A row for each density: 1 where a feature has a dimension to itself, 1/2 where it "
            "shares one with another, less where more features share.",
            x="feature",
            y="density",
            y_label="density 1-S",
            value="dimensionality",
            value_label="D_i",
            probability=True,
            where={"step": last},
        ),
        "gram": Chart(
            kind="heatmap",
            table="gram",
            title="From each feature to each output, in the best toys",
            alt="What each feature, alone and 1, writes before the bias and the output's "
            "activation. Ones along the diagonal where features come back; what stands beside them "
            "is interference.",
            x="other",
            y="feature",
            value="product",
            facet="toy",
            x_label="feature put in",
            y_label="output",
            value_label="written",
            signed=True,
        ),
    }
    if len(tables["losses"]) > tables["losses"]["density"].nunique():
        made["losses"] = Chart(
            kind="line",
            table="losses",
            title="Loss of the best toys over training",
            alt="A line for each density, falling, some in steps.",
            x="step",
            y="loss",
            color="condition",
            y_label="loss on the same examples throughout",
            log_y=True,
        )
    return made
