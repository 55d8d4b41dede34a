"""Features of falling importance: what linear and ReLU toys represent, by sparsity."""

from __future__ import annotations

import torch
from pydantic import Field, model_validator

from analyses.base import Analysis
from analyses.registry import register
from analyses.results.result import AnalysisResult, Check
from analyses.superposition.fractions import FromDensest
from analyses.superposition.identities import weight_checks
from analyses.superposition.importance_tables import Trained, figures, tables_of
from analyses.superposition.training import TrainedToys, device_of, loss_check, train_toys
from interp.progress import stage
from interp.toys import ReconstructionLoss, SparseFeatures, ToyModel, geometric_importance
from interp.toys.evaluation import held_out_losses
from interp.toys.exact_loss import feature_variance
from interp.toys.linear_loss import linear_loss
from interp.toys.settings import Decay
from interp.toys.theory import linear_minimum

HELD_OUT_BATCHES = 16
BELOW = 1e-9  # as a part of the loss, in fp64


class ImportanceParams(TrainedToys):
    """Which toys are trained."""

    n_features: list[int] = Field(
        [20, 80], min_length=1, max_length=4, description="Features of the toys of each set-up."
    )
    d_hidden: list[int] = Field(
        [5, 20],
        min_length=1,
        max_length=4,
        description="Hidden dimensions of the toys of each set-up.",
    )
    ratio: list[float] = Field(
        [0.7, 0.9],
        min_length=1,
        max_length=4,
        description="Of each feature's importance to the one before, in each set-up.",
    )
    densities: FromDensest = Field(
        [1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001],
        min_length=1,
        max_length=50,
        description="1 - S: how likely each feature is not zero.",
    )
    n_seeds: int = Field(
        1, ge=1, le=1000, description="Toys of each kind and density; the best one is shown."
    )
    decay: Decay = Field(
        "constant", description="How the learning rate falls to 0; the paper's notebook keeps it."
    )

    @model_validator(mode="after")
    def _setups_are_whole(self) -> ImportanceParams:
        lengths = {len(self.n_features), len(self.d_hidden), len(self.ratio)}
        if len(lengths) > 1:
            raise ValueError("n_features, d_hidden and ratio must have as many entries each")
        sizes = list(zip(self.n_features, self.d_hidden, strict=True))
        if len(set(sizes)) < len(sizes):
            raise ValueError("set-ups must differ in n_features or d_hidden")
        if not all(1 <= m < n <= 1000 for n, m in sizes):
            raise ValueError("d_hidden must be at least 1 and below n_features, that at most 1000")
        if not all(0 < ratio < 1 for ratio in self.ratio):
            raise ValueError("ratio must lie between 0 and 1, both left out: importances must fall")
        return self


@register
class SuperpositionImportance(Analysis[ImportanceParams]):
    """Many features of falling importance, in a linear model and beside it in a ReLU one.

    Elhage et al. 2022, Toy Models of Superposition, “Demonstrating Superposition”, Basic Results:
    n = 20 features in m = 5 dimensions with importances 0.7ⁱ, and n = 80 in m = 20 with 0.9ⁱ, at
    densities 1, 0.3, 0.1, … 0.001. The linear model is put beside its exact optimum.

    By default a linear and a ReLU toy for each density and set-up, 28 in all, are trained for
    10,000 steps of 1,024 examples: about four minutes on two CPU cores (308 CPU seconds with one
    thread, compiling included).
    """

    name = "superposition-importance"
    question = "Which features of falling importance are represented, and when do they share?"
    needs_model = False
    lengthy = True
    caveat = (
        "By default one toy of each kind and density, as in the paper: each is one local minimum "
        "at the noise of its last steps, for the learning rate does not fall. The features that "
        "share a dimension differ from seed to seed, the number that is represented hardly. "
        "Features count as represented from half the norm that a lone feature has, 1. Data are "
        "drawn anew for every step, and in the sparsest ones a batch has about one example of "
        "each feature, so that least important features are still on their way when training "
        "ends. The linear toys' loss and optimum are exact; the ReLU toys' loss is a mean over "
        "held-out examples, the same ones for both kinds."
    )

    def quick(self, params: ImportanceParams) -> ImportanceParams:
        """The smaller set-up, fewer densities, and few steps."""
        smaller = {
            "n_features": [20],
            "d_hidden": [5],
            "ratio": [0.7],
            "densities": [1.0, 0.3, 0.1, 0.01],
            "steps": 400,
            "batch_size": 128,
            "lr": 2e-2,
        }
        return params.model_copy(update=smaller)

    def run(self, model: None, params: ImportanceParams) -> AnalysisResult:
        """Train the toys of each set-up together, and measure the best of each kind and density."""
        trained, checks = [], []
        setups = list(zip(params.n_features, params.d_hidden, params.ratio, strict=True))
        for i, setup in enumerate(setups):
            with stage(i, len(setups), "{} features in {}".format(*setup)):
                one, found = _train(params, *setup)
            trained.append(one)
            checks += [
                Check(f"{each.name} ({one.size})", each.value, each.tolerance, each.note)
                for each in found
            ]
        tables = tables_of(trained)
        return self.result(model, params, tables=tables, figures=figures(tables), checks=checks)


def _train(
    params: ImportanceParams, n_features: int, d_hidden: int, ratio: float
) -> tuple[Trained, list[Check]]:
    device = device_of(params)
    conditions = torch.cartesian_prod(
        torch.tensor([0.0, 1.0], dtype=torch.float64),
        torch.tensor(params.densities, dtype=torch.float64),
        torch.arange(params.n_seeds, dtype=torch.float64),
    )
    has_relu, density, trial = conditions.unbind(-1)
    seeds = (trial.long() + params.seed).to(device)
    count = len(density)
    importance = geometric_importance(n_features, ratio, torch.float64, device)
    models = ToyModel(
        count,
        n_features,
        d_hidden,
        output=["relu" if one else "linear" for one in has_relu.tolist()],
        seeds=seeds,
        device=device,
    )
    data = SparseFeatures.of(count, n_features, density[:, None], seeds=seeds, device=device)
    loss = ReconstructionLoss.of(count, n_features, importance, device=device)
    train_toys(models, data, loss, params, decay=params.decay)
    same = SparseFeatures.of(
        count,
        n_features,
        density[:, None],
        seeds=torch.full_like(seeds, params.seed),
        device=device,
    )
    held_out = held_out_losses(models, same, loss, batches=HELD_OUT_BATCHES).double()
    W, b = models.W.detach().double(), models.b.detach().double()
    p = density.to(device)[:, None]
    optimum = linear_minimum(importance, torch.as_tensor(feature_variance(p)), d_hidden)
    exact = linear_loss(W, b, p, importance)
    trained = Trained(
        ratio=ratio,
        is_linear=has_relu == 0,
        density=density,
        seed=seeds.cpu(),
        importance=importance.cpu(),
        W=W.cpu(),
        loss=held_out.mean(0).cpu(),
        stderr=(held_out.std(0) / HELD_OUT_BATCHES**0.5).cpu(),
        linear_loss=(exact / n_features).cpu(),
        linear_optimum=(optimum.loss / n_features).cpu(),
    )
    below = 1 - trained.linear_loss / trained.linear_optimum
    return trained, [
        loss_check(models, data, loss),
        *weight_checks(W),
        Check(
            "no weights have a linear loss below the optimum",
            float(below.max().clamp(min=0.0)),
            BELOW,
            "largest part of the optimum by which a toy's W and b, without a ReLU, go below it",
        ),
    ]
