"""Features of falling importance as tables and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from analyses.superposition.findings import Finding, findings_table
from interp.charts.spec import Chart
from interp.toys.measures import (
    dimensions_per_feature,
    feature_dimensionality,
    feature_norms,
    superposition,
)

REPRESENTED = 0.5  # of norm: about 1 or about 0 in a trained toy
ALONE = 0.5  # of superposition, likewise
NEAR_OPTIMUM = 0.02  # as a part of the loss: what training with noise leaves
LINEAR, RELU = "linear", "ReLU"


@dataclass(frozen=True)
class Trained:
    """Toys of one set-up: instances by kind, then density, then seed.

    Attributes:
        ratio: Of each feature's importance to the one before.
        is_linear, density, seed: Of each toy.
        importance: Of the features.
        W: In fp64.
        loss, stderr: On data that they were not trained on, a mean over features.
        linear_loss: What W and b would cost without a ReLU, likewise.
        linear_optimum: The least of that.
    """

    ratio: float
    is_linear: Bool[Tensor, "instance"]
    density: Float[Tensor, "instance"]
    seed: Int[Tensor, "instance"]
    importance: Float[Tensor, "feature"]
    W: Float[Tensor, "instance d_hidden feature"]
    loss: Float[Tensor, "instance"]
    stderr: Float[Tensor, "instance"]
    linear_loss: Float[Tensor, "instance"]
    linear_optimum: Float[Tensor, "instance"]

    @property
    def size(self) -> str:
        """Features and dimensions."""
        return f"n={self.W.shape[-1]} m={self.W.shape[-2]}"


def tables_of(trained: Sequence[Trained]) -> dict[str, pd.DataFrame]:
    """All tables of the analysis."""
    toys = pd.concat([_toys(each) for each in trained], ignore_index=True)
    best = toys.loc[sorted(toys.groupby(["size", "model", "density"])["loss"].idxmin())]
    best = best.reset_index(drop=True)
    of_best = [(each, best[best["size"] == each.size]["instance"].tolist()) for each in trained]
    features = pd.concat([_features(*each) for each in of_best], ignore_index=True)
    return {
        "by-density": best,
        "findings": _findings(best, features),
        "features": features,
        "gram": pd.concat([_gram(*each) for each in of_best], ignore_index=True),
        "toys": toys,
    }


def _toys(trained: Trained) -> pd.DataFrame:
    """A row for each toy."""
    W = trained.W
    norms, shared = feature_norms(W), superposition(W)
    there = norms > REPRESENTED
    alone = there & (shared < ALONE)
    d_hidden = W.shape[-2]
    is_top = (there == (torch.arange(W.shape[-1]) < d_hidden)).all(-1)
    nan = trained.loss.new_full((), torch.nan)
    columns = {
        "density": trained.density,
        "seed": trained.seed,
        "loss": trained.loss,
        "stderr": trained.stderr,
        "exact_loss": torch.where(trained.is_linear, trained.linear_loss, nan),
        "linear_optimum": trained.linear_optimum,
        "represented": there.sum(-1),
        "alone": alone.sum(-1),
        "is_top": is_top,
        "mean_superposition": (shared * there).sum(-1) / there.sum(-1).clamp(min=1),
        "dimensions_per_feature": dimensions_per_feature(W),
        "instance": torch.arange(len(W)),
    }
    table = pd.DataFrame({name: x.tolist() for name, x in columns.items()})
    table.insert(0, "size", trained.size)
    table.insert(1, "model", [LINEAR if one else RELU for one in trained.is_linear.tolist()])
    table.insert(
        2, "toy", [_named(*row) for row in zip(table["model"], table["density"], strict=True)]
    )
    return table


def _named(model: str, density: float) -> str:
    return f"{model}, 1-S = {density:g}"


def _features(trained: Trained, best: Sequence[int]) -> pd.DataFrame:
    """A row for each feature of the best toys."""
    W = trained.W[best]
    norms, shared = feature_norms(W), superposition(W)
    n_features = W.shape[-1]
    is_linear = trained.is_linear[best].repeat_interleave(n_features).tolist()
    density = trained.density[best].repeat_interleave(n_features).tolist()
    models = [LINEAR if one else RELU for one in is_linear]
    return pd.DataFrame(
        {
            "size": trained.size,
            "model": models,
            "toy": [_named(*row) for row in zip(models, density, strict=True)],
            "row": [f"{model}, {p:g}" for model, p in zip(models, density, strict=True)],
            "density": density,
            "feature": torch.arange(n_features).repeat(len(W)).tolist(),
            "importance": trained.importance.repeat(len(W)).tolist(),
            "norm": norms.flatten().tolist(),
            "superposition": shared.flatten().tolist(),
            "shared": shared.where(norms > REPRESENTED, torch.nan).flatten().tolist(),
            "dimensionality": feature_dimensionality(W).flatten().tolist(),
        }
    )


def _gram(trained: Trained, best: Sequence[int]) -> pd.DataFrame:
    """WᵀW of the best toys: of linear ones, which are alike, the densest alone."""
    shown = [i for i in best if not trained.is_linear[i]]
    shown = [i for i in best if trained.is_linear[i]][:1] + shown
    W = trained.W[shown]
    n_features = W.shape[-1]
    place = torch.arange(n_features)
    toys = [
        _named(LINEAR if trained.is_linear[i] else RELU, float(trained.density[i])) for i in shown
    ]
    return pd.DataFrame(
        {
            "size": trained.size,
            "toy": [toy for toy in toys for _ in range(n_features**2)],
            "feature": place.repeat_interleave(n_features).repeat(len(W)).tolist(),
            "other": place.repeat(n_features * len(W)).tolist(),
            "product": (W.mT @ W).flatten().tolist(),
        }
    )


def _findings(best: pd.DataFrame, features: pd.DataFrame) -> pd.DataFrame:
    """What the paper says of its figures, beside this."""
    rows = []
    for size, of_size in best.groupby("size", sort=False):
        linear = of_size[of_size["model"] == LINEAR]
        relu = of_size[of_size["model"] == RELU].sort_values("density", ascending=False)
        of_features = features[(features["size"] == size) & (features["model"] == RELU)]
        m = int(str(size).rsplit("=", 1)[1])
        excess = (linear["exact_loss"] / linear["linear_optimum"] - 1).max()
        dense, sparse = relu.iloc[0], relu.iloc[-1]
        counts = relu["represented"].tolist()
        mixed = relu[(relu["alone"] > 0) & (relu["alone"] < relu["represented"])]
        rows += [
            Finding(
                f"{size}: the linear model represents the {m} most important features, at any "
                "density",
                "the top features, as PCA does, whatever the sparsity",
                f"exactly these in {linear['is_top'].sum()} of {len(linear)} densities, none with "
                f"superposition above {linear['mean_superposition'].max():.2g} on average",
                bool(linear["is_top"].all()),
            ),
            Finding(
                f"{size}: its loss is that of the best linear model",
                "(the solution is known: PCA)",
                f"at most {excess:.2%} above the exact optimum",
                bool(excess <= NEAR_OPTIMUM),
            ),
        ]
        if dense["density"] == 1:
            rows.append(
                Finding(
                    f"{size}: dense, the ReLU model is like the linear one",
                    f"the {m} most important features, without superposition",
                    f"{dense['represented']} represented, {dense['alone']} of them alone, at "
                    "1-S = 1",
                    bool(dense["is_top"] and dense["alone"] == m),
                )
            )
        rows += [
            Finding(
                f"{size}: the sparser, the more features the ReLU model represents",
                "ever more features, in superposition",
                f"{', '.join(map(str, counts))} at 1-S = "
                f"{', '.join(f'{p:g}' for p in relu['density'])}",
                bool(counts == sorted(counts) and sparse["represented"] > m),
            ),
            _first_to_share(str(size), mixed, of_features),
        ]
    return findings_table(rows)


def _first_to_share(size: str, mixed: pd.DataFrame, features: pd.DataFrame) -> Finding:
    """Where some features have a dimension each and others share: which are which."""
    told, right = [], []
    for toy, density in zip(mixed["toy"], mixed["density"], strict=True):
        there = features[(features["toy"] == toy) & (features["norm"] > REPRESENTED)]
        is_alone = there["superposition"] < ALONE
        alone, shared = (there[some]["feature"].mean() for some in (is_alone, ~is_alone))
        told.append(f"{alone:.1f} and {shared:.1f} at 1-S = {density:g}")
        right.append(alone < shared)
    return Finding(
        f"{size}: less important features share first",
        "the most important ones keep a dimension of their own for longer",
        f"mean index of those alone and of those that share: {'; '.join(told)}"
        if told
        else "at no density are there both",
        bool(right and all(right)),
    )


def figures(tables: Mapping[str, pd.DataFrame]) -> dict[str, Chart]:
    """Charts of the tables."""
    made = {}
    for size in tables["by-density"]["size"].unique().tolist():
        name = size.replace("=", "").replace(" ", "-")
        where = {"size": size}
        made[f"gram-{name}"] = Chart(
            kind="heatmap",
            table="gram",
            title=f"WᵀW, {size}",
            alt="A linear model and a dense ReLU model have the first places of the diagonal "
            "filled and nothing else; the sparser the features, the longer the diagonal and the "
            "more places beside it are filled.",
            x="other",
            y="feature",
            value="product",
            facet="toy",
            x_label="feature",
            value_label="(WᵀW)_ij",
            signed=True,
            where=where,
        )
        made[f"norms-{name}"] = Chart(
            kind="heatmap",
            table="features",
            title=f"Norm of each feature, most important first, {size}",
            alt="Linear models: the first features have norm 1 and the others 0 at every density. "
            "ReLU models: the sparser, the further to the right norms are about 1.",
            x="feature",
            y="row",
            y_label="model, density 1-S",
            value="norm",
            value_label="‖W_i‖",
            where=where,
        )
        made[f"superposition-{name}"] = Chart(
            kind="heatmap",
            table="features",
            title=f"Superposition of represented features, most important first, {size}",
            alt="Linear models have none; in ReLU models it spreads from the less important "
            "features to all of them as they get sparser.",
            x="feature",
            y="row",
            y_label="model, density 1-S",
            value="shared",
            value_label="Σ_{j≠i} (Ŵ_i·W_j)²",
            where=where,
        )
    made["represented"] = Chart(
        kind="line",
        table="by-density",
        title="Features with a norm above one half",
        alt="The linear models' number stays at that of dimensions; the ReLU models' rises as "
        "features get sparser.",
        x="density",
        y="represented",
        color="model",
        facet="size",
        x_label="density 1-S",
        y_label="features",
        log_x=True,
    )
    return made
