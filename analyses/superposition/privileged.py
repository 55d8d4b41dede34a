"""Superposition in a privileged basis: neurons for one feature, and neurons for several."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from analyses.base import Analysis
from analyses.registry import register
from analyses.results.result import AnalysisResult
from analyses.superposition.findings import Finding, findings_table
from analyses.superposition.fractions import FromDensest
from analyses.superposition.neurons import (
    NeuronToys,
    by_density_table,
    falls,
    kinds_chart,
    kinds_table,
    mean_feature,
    neuron_order,
    neurons_table,
    slope_check,
)
from analyses.superposition.training import (
    BatchSize,
    FallingRate,
    Steps,
    TrainedToys,
    WeightDecay,
    device_of,
    loss_check,
    train_toys,
)
from interp.charts import Chart
from interp.toys import ReconstructionLoss, SparseFeatures, ToyModel, geometric_importance
from interp.toys.measures import monosemanticity
from interp.toys.model import Activation

ALIGNED = 0.6  # times the monosemanticity with a ReLU: below it, neurons stand for no feature


class PrivilegedParams(TrainedToys):
    """Which toys are trained."""

    steps: Steps = 3000
    batch_size: BatchSize = 256
    lr: FallingRate = 1e-2
    weight_decay: WeightDecay = 0.0
    n_features: int = Field(10, ge=2, le=1000, description="Features of each toy.")
    d_hidden: int = Field(5, ge=1, le=1000, description="Neurons of each toy.")
    importance: float = Field(
        0.75, gt=0, le=1, description="Of each feature, times that of the one before it."
    )
    densities: FromDensest = Field(
        [1.0, 0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01],
        min_length=2,
        description="Of the features.",
    )
    n_seeds: int = Field(
        16, ge=1, le=10_000, description="Toys of each density, of which the best is shown."
    )
    n_linear: int = Field(
        4, ge=1, le=10_000, description="Toys of each density without an activation beside."
    )


@register
class SuperpositionPrivileged(Analysis[PrivilegedParams]):
    """Neurons of toys with a ReLU on the hidden layer, from dense features to sparse ones.

    Elhage et al. 2022, Toy Models of Superposition, “Superposition in a Privileged Basis”:
    h = ReLU(W x), x' = ReLU(Wᵀ h + b), n = 10 features of importance 0.75^i and m = 5 neurons. Of
    many toys of a density the one with the least loss is shown. A neuron serves a feature if it
    adds a quarter or more of its size to the feature's own output.

    Densities, seeds, training and the quarter are not the paper's, but chosen so that the whole
    range from one kind of neurons to the other is seen. `findings` has words for what the paper's
    pictures of weights show, of which it quotes no numbers, beside counts.

    The default trains 160 toys for 3,000 steps of 256 examples: about 55 seconds of one CPU core.
    """

    name = "superposition-privileged"
    question = "Which neurons of a toy stand for one feature, and which for several?"
    needs_model = False
    lengthy = True
    caveat = (
        "Toys of one density end in many local minima with other neurons, the more of them the "
        "sparser features are: the best of few seeds is not the best there is (raise n_seeds). A "
        "neuron's kind hangs on the quarter from which it counts as "
        "serving a feature: with sparse features neurons do a little for all of them. Monosemantic "
        "here means of this toy's ten features, which are known. With features that are never "
        "zero the ReLUs may never switch off, and then nothing privileges the neurons: a toy of "
        "density 1 may hold the same features in a rotated basis at almost the same loss."
    )

    def quick(self, params: PrivilegedParams) -> PrivilegedParams:
        """Few toys, trained faster."""
        smaller = {
            "steps": 700,
            "batch_size": 64,
            "lr": 0.03,
            "densities": [0.5, 0.1, 0.03],
            "n_seeds": 6,
            "n_linear": 2,
        }
        return params.model_copy(update=smaller)

    def run(self, model: None, params: PrivilegedParams) -> AnalysisResult:
        """Train toys of all densities and seeds, with and without the ReLU, in one stack."""
        device = device_of(params)
        n, each = params.n_features, [params.n_seeds, params.n_linear]
        kinds: list[Activation] = ["relu"] * (params.n_seeds * len(params.densities))
        kinds += ["linear"] * (params.n_linear * len(params.densities))
        densities = torch.tensor(params.densities)
        density = torch.cat([densities.repeat_interleave(count) for count in each])
        seeds = params.seed + torch.cat(
            [torch.arange(count).repeat(len(densities)) for count in each]
        )
        count = len(kinds)
        models = ToyModel(count, n, params.d_hidden, hidden=kinds, seeds=seeds, device=device)
        data = SparseFeatures.of(count, n, density[:, None], seeds=seeds, device=device)
        importance = geometric_importance(n, params.importance, device=device)
        loss = ReconstructionLoss.of(count, n, importance, device=device)
        train_toys(models, data, loss, params, decay="cosine")
        with_relu = torch.arange(params.n_seeds * len(densities), device=device)
        trained = models.select(with_relu)
        toys = NeuronToys.of(
            trained,
            data.select(with_relu),
            loss.select(with_relu),
            params.densities,
            params.n_seeds,
        )
        linear = models.W.detach()[len(with_relu) :].double().cpu()
        tables = _tables(toys, linear, params)
        return self.result(
            model,
            params,
            tables=tables,
            figures=_figures(params),
            checks=[loss_check(models, data, loss), slope_check(trained, toys, f"{n} features")],
        )


def _tables(toys: NeuronToys, linear: Tensor, params: PrivilegedParams) -> dict[str, pd.DataFrame]:
    by_density = by_density_table(toys)
    alignment = monosemanticity(linear).mean(-1).reshape(len(toys.densities), -1)
    by_density["monosemanticity_without_relu"] = alignment.mean(-1).tolist()
    neurons = neurons_table(toys)
    return {
        "findings": _findings(by_density, neurons, params),
        "by-density": by_density,
        "kinds": kinds_table(by_density),
        "neurons": neurons,
        "weights": _weights(toys),
    }


def _weights(toys: NeuronToys) -> pd.DataFrame:
    """W of the best toys, neurons in order of their main features."""
    rows = []
    for number, density in enumerate(toys.densities):
        best = toys.best(number)
        for place, neuron in enumerate(neuron_order(toys, best)):
            rows += [
                {
                    "density": density,
                    "panel": f"density {density:g}",
                    "place": place,
                    "feature": i,
                    "weight": weight,
                }
                for i, weight in enumerate(toys.W[best, neuron].tolist())
            ]
    return pd.DataFrame(rows)


def _findings(
    by_density: pd.DataFrame, neurons: pd.DataFrame, params: PrivilegedParams
) -> pd.DataFrame:
    """What the paper's figure shows, beside what is here."""
    m = params.d_hidden
    mono, poly = by_density["monosemantic"], by_density["polysemantic"]
    at = [f"{p:g}: {a}/{b}" for p, a, b in zip(by_density["density"], mono, poly, strict=True)]
    pure = by_density[mono == m]
    mixed = by_density[(mono > 0) & (poly > 0)]
    sparse = by_density.iloc[-1]
    # With features that are never 0 nothing privileges a neuron: density 1 decides nothing.
    privileged = by_density[by_density["density"] < 1]
    order, dense = privileged["monosemantic"].tolist(), privileged.iloc[0]
    first = neurons.loc[neurons["density"] == dense["density"], "features"].tolist()
    with_relu, without = dense["monosemanticity"], dense["monosemanticity_without_relu"]
    alone = neurons[(neurons["kind"] == "monosemantic") & neurons["density"].isin(mixed["density"])]
    shared = neurons[
        (neurons["kind"] == "polysemantic") & neurons["density"].isin(mixed["density"])
    ]
    ranks = [mean_feature(each) for each in (alone, shared)]
    rows = [
        Finding(
            "dense features: every neuron is monosemantic, for the most important features",
            f"{m} of {m} monosemantic",
            f"neurons of features {', '.join(first)} at density {dense['density']:g}; {m} of {m} "
            f"at density {', '.join(f'{p:g}' for p in pure['density']) or 'none'}",
            sorted(first) == sorted(str(i) for i in range(m)),
        ),
        Finding(
            "between: monosemantic and polysemantic neurons side by side",
            "some of either",
            f"at density {', '.join(f'{p:g}' for p in mixed['density'])}"
            if len(mixed)
            else "at no density",
            len(mixed) > 0,
        ),
        Finding(
            "there, the most important features have the monosemantic neurons",
            "the first features alone",
            f"mean feature {ranks[0]:.1f} of monosemantic, {ranks[1]:.1f} of polysemantic neurons",
            ranks[0] < ranks[1],
        ),
        Finding(
            "sparse features: every neuron is polysemantic",
            f"{m} of {m} polysemantic",
            f"{int(sparse['polysemantic'])} of {m} at density {sparse['density']:g}, "
            f"{sparse['features_per_neuron']:.1f} features each, "
            f"{int(sparse['features_computed'])} of {params.n_features} features come back",
            int(sparse["polysemantic"]) == m,
        ),
        Finding(
            "the sparser, the fewer monosemantic neurons (below density 1)",
            "fewer from panel to panel",
            "monosemantic/polysemantic at density " + ", ".join(at),
            len(order) > 1 and falls(order),
        ),
        Finding(
            "without the ReLU neurons stand for no feature",
            "weights of all features in all neurons",
            f"monosemanticity {without:.2f} without, {with_relu:.2f} with the ReLU at density "
            f"{dense['density']:g} (means of neurons; counts as there below {ALIGNED:g} times)",
            without < ALIGNED * with_relu,
        ),
    ]
    return findings_table(rows)


def _figures(params: PrivilegedParams) -> Mapping[str, Chart]:
    return {
        "kinds": kinds_chart(params.d_hidden),
        "weights": Chart(
            kind="heatmap",
            table="weights",
            title="W of the best toy of each density",
            alt="Dense: each neuron has one large weight, for one of the most important features. "
            "Sparser: first neurons of less important features, then all, have several.",
            x="feature",
            y="place",
            value="weight",
            facet="panel",
            x_label="feature",
            y_label="neuron (in order)",
            value_label="W",
            signed=True,
        ),
    }
