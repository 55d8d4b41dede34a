"""Superposition over training: jumps between dimensionalities, and turns of a polytope."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from analyses.base import Analysis
from analyses.registry import register
from analyses.results.checks import SCALED, scaled_error
from analyses.results.result import AnalysisResult, Check
from analyses.superposition.dynamics_tables import History, figures, tables_of
from analyses.superposition.training import TrainedToys, device_of, loss_check, train_toys
from interp.errors import require
from interp.toys import ReconstructionLoss, SparseFeatures, ToyModel
from interp.toys.measures import feature_dimensionality

SETS, SET_SIZE, SET_HIDDEN = 2, 3, 3
SMALL_START = 0.1  # of the usual initial weights, so that the stages come one after another
HELD_OUT = 4096  # examples: the same at every snapshot


class DynamicsParams(TrainedToys):
    """Which toys are trained, how often they are looked at, and what a jump is."""

    n_features: int = Field(20, ge=2, le=2000, description="Features of each toy.")
    d_hidden: int = Field(5, ge=1, le=2000, description="Hidden dimensions of each toy.")
    density: float = Field(
        0.35, gt=0, le=1, description="1 - S of each feature; the default makes digons."
    )
    n_seeds: int = Field(24, ge=1, le=1000, description="Toys of either kind.")
    n_snapshots: int = Field(
        100, ge=10, le=10_000, description="Equally spaced snapshots after the start."
    )
    burn_in: float = Field(
        0.15, ge=0, le=0.9, description="Share of the training whose jumps are not counted."
    )
    least_jump: float = Field(
        0.1, gt=0, le=1, description="By how much a feature's dimensionality changes in a jump."
    )
    moving: float = Field(
        0.01,
        gt=0,
        le=1,
        description="By how much it changes at least in each interval of a jump.",
    )
    correlation: float = Field(
        0.9, ge=0, le=1, description="Of the features of a set, in the toys of two sets of three."
    )
    set_density: float = Field(0.1, gt=0, le=1, description="1 - S of the features of sets.")

    @model_validator(mode="after")
    def _snapshots_fit(self) -> DynamicsParams:
        if self.n_snapshots > self.steps:
            raise ValueError(f"n_snapshots must be at most steps, got {self.n_snapshots}")
        return self


@register
class SuperpositionDynamics(Analysis[DynamicsParams]):
    """The dimensionality of each feature over training, beside the loss.

    Elhage et al. 2022, Toy Models of Superposition, “Superposition and Learning Dynamics”.
    Discrete “energy level” jumps: the paper shows one toy of many features that ends in digons.
    Here many small toys are trained (20 features in 5 dimensions, density 0.35, importance 1),
    for in a small one jumps come one at a time. Learning as geometric transformations: 6 features
    in 3 dimensions, two sets of three that are correlated, become a triangular antiprism (an
    octahedron) in stages; their correlation and density are ours.

    Losses are measured on the same examples at every snapshot, so that a drop is no accident of a
    batch. The default trains 24 toys of each kind for 10,000 steps: about three minutes on two
    CPU cores.
    """

    name = "superposition-dynamics"
    question = "Does the loss drop when features jump from one dimensionality to another?"
    needs_model = False
    lengthy = True
    caveat = (
        "A jump is what moves fast between two snapshots: fewer snapshots, or another learning "
        "rate, make other jumps. At the start everything moves and the loss falls for every "
        "reason, so that part is left out; what is left is a few jumps, and some toys have none. "
        "That losses drop within jumps says that they come together, not which causes which. The "
        "toy that is drawn is the one whose loss drops most in late jumps, not a typical one. The "
        "paper's example has more features and one toy; sizes, density and correlation here are "
        "not the paper's."
    )

    def quick(self, params: DynamicsParams) -> DynamicsParams:
        """Fewer toys, trained faster for less long, in smaller batches."""
        smaller = {"n_seeds": 3, "steps": 800, "batch_size": 128, "lr": 1e-2, "n_snapshots": 60}
        return params.model_copy(update=smaller)

    def run(self, model: None, params: DynamicsParams) -> AnalysisResult:
        """Train both kinds of toys, all of a kind together, and look at their snapshots."""
        device = device_of(params)
        data = SparseFeatures.of(
            params.n_seeds, params.n_features, params.density, seeds=params.seed, device=device
        )
        models = ToyModel(
            params.n_seeds, params.n_features, params.d_hidden, seeds=params.seed, device=device
        )
        many, checks = _history(models, data, params, "toys of many features")
        n_features = SETS * SET_SIZE
        of_sets = SparseFeatures.of(
            params.n_seeds,
            n_features,
            params.set_density,
            correlation=params.correlation,
            group_size=SET_SIZE,
            seeds=params.seed,
            device=device,
        )
        models = ToyModel(
            params.n_seeds,
            n_features,
            SET_HIDDEN,
            init_scale=SMALL_START,
            seeds=params.seed,
            device=device,
        )
        sets, more = _history(models, of_sets, params, "toys of two sets")
        tables = tables_of(many, sets, params.burn_in, params.least_jump, params.moving)
        return self.result(
            model, params, tables=tables, figures=figures(tables), checks=[*checks, *more]
        )


def _steps(params: DynamicsParams) -> list[int]:
    return sorted(
        {round(i * params.steps / params.n_snapshots) for i in range(params.n_snapshots + 1)}
    )


def _history(
    models: ToyModel, data: SparseFeatures, params: DynamicsParams, name: str
) -> tuple[History, list[Check]]:
    device = models.W.device
    loss = ReconstructionLoss.of(models.n_instances, models.n_features, device=device)
    steps = _steps(params)
    run = train_toys(models, data, loss, params, snapshots=steps)
    last = models.W.detach().clone()
    losses = _losses(models, data, loss, steps, run.snapshots, params.steps)
    history = History(
        steps=steps,
        seeds=list(range(params.seed, params.seed + params.n_seeds)),
        W=torch.stack([run.snapshots[step]["W"] for step in steps]).double(),
        loss=losses,
    )
    require(
        bool(history.W.isfinite().all()),
        f"training must stay finite: give a smaller lr. Received {params.lr}",
    )
    plain = loss_check(models, data, loss)
    return history, [
        Check(f"{name}: {plain.name}", plain.value, plain.tolerance, plain.note),
        Check(
            f"{name}: the last snapshot is the model",
            scaled_error(history.W[-1], last.cpu()),
            0.0,
            SCALED,
        ),
        Check(
            f"{name}: dimensionalities sum to d_hidden at most",
            float((_totals(history) - models.W.shape[1]).max().clamp(min=0)),
            1e-9,
            "Σ_i D_i less d_hidden at any snapshot, where that is above 0",
        ),
    ]


def _totals(history: History) -> Float[Tensor, "snapshot instance"]:
    return feature_dimensionality(history.W).sum(-1)


@torch.no_grad()
def _losses(
    models: ToyModel,
    data: SparseFeatures,
    loss: ReconstructionLoss,
    steps: Sequence[int],
    snapshots: dict[int, dict[str, Tensor]],
    unseen: int,
) -> Float[Tensor, "snapshot instance"]:
    """At each snapshot, on one batch that comes after the last of training."""
    batch = data.batch(unseen, HELD_OUT)
    rows = []
    for step in steps:
        models.W.copy_(snapshots[step]["W"])
        models.b.copy_(snapshots[step]["b"])
        rows.append(loss(models(batch.x), batch))
    return torch.stack(rows).double().cpu()
