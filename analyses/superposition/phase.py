"""When an extra feature is ignored, shares a dimension, or gets its own: the phase diagrams."""

from __future__ import annotations

import torch
from jaxtyping import Float
from pydantic import Field, field_validator
from torch import Tensor

from analyses.base import Analysis
from analyses.registry import register
from analyses.results.result import AnalysisResult, Check
from analyses.superposition.identities import weight_checks
from analyses.superposition.phase_tables import Diagram, figures, tables_of
from analyses.superposition.training import (
    BatchSize,
    Rate,
    Steps,
    TrainedToys,
    WeightDecay,
    device_of,
    loss_check,
    train_toys,
)
from interp.toys import ReconstructionLoss, SparseFeatures, ToyModel
from interp.toys.exact_loss import exact_loss
from interp.toys.settings import Decay
from interp.toys.theory import minimum_loss_regions

MODELS_AT_ONCE = 1 << 14  # in the exact loss
BELOW = 1e-6  # as a part of the loss: what the theory's own descents leave


class PhaseParams(TrainedToys):
    """The grid, how many toys are trained at each of its points, and what is compared."""

    n_features: list[int] = Field(
        [2, 3],
        min_length=1,
        max_length=2,
        description="Features of a toy: 2 (in one dimension), 3 (in two), or both in turn.",
    )
    grid: int = Field(14, ge=2, le=1000, description="Densities, and relative importances.")
    sparsest: float = Field(
        0.01, gt=0, le=0.9, description="The least density; those up to 1 are evenly spaced in log."
    )
    least_important: float = Field(
        0.1,
        gt=0,
        le=0.9,
        description="The extra feature's least importance, times the others'; evenly spaced in "
        "log from here to as many times more important.",
    )
    n_seeds: int = Field(10, ge=1, le=1000, description="Toys at each point; the best one counts.")
    margin: float = Field(
        0.05,
        ge=0,
        le=1,
        description="A point is away from boundaries where the best model with another fate has "
        "a loss so much higher, as a part of it.",
    )
    represented: float = Field(
        0.5,
        gt=0,
        lt=1,
        description="Part of the largest norm from which a feature is represented.",
    )
    steps: Steps = 3000
    batch_size: BatchSize = 128
    lr: Rate = 1e-2
    weight_decay: WeightDecay = 0.0
    decay: Decay = Field("cosine", description="How the learning rate falls to 0.")

    @field_validator("n_features")
    @classmethod
    def _theory_is_there(cls, n_features: list[int]) -> list[int]:
        if not {2, 3} >= set(n_features) or len(set(n_features)) < len(n_features):
            raise ValueError("n_features must be 2, 3 or both")
        return sorted(n_features)


@register
class SuperpositionPhase(Analysis[PhaseParams]):
    """What becomes of one more feature than there are dimensions, in toys and in theory.

    Elhage et al. 2022, Toy Models of Superposition, “Superposition as a Phase Change”: n = 2
    features in m = 1 dimension and n = 3 in m = 2, all of one density, the last one's importance
    relative to that of the others from 0.1 to 10; at each point the best of ten toys. The theory is
    `minimum_loss_regions`: the least exact loss of each fate of that feature.

    By default 14 × 14 points with ten toys each, of both sizes, trained for 3,000 steps: about
    three minutes on two CPU cores (171 CPU seconds with one thread, compiling included). The
    paper's picture has more points, `grid=100`, which is for a GPU.
    """

    name = "superposition-phase"
    question = "When is an extra feature ignored, superposed with others, or given a dimension?"
    needs_model = False
    lengthy = True
    caveat = (
        "The best of several toys by exact loss is shown; most toys that disagree with the theory "
        "are in a worse local minimum, so with fewer toys a point more points disagree, and "
        "`share` in the table points tells how many a single toy would have got right. Near a "
        "boundary two fates cost nearly the same, and what a toy has become there says little: "
        "agreement is counted over points where the next best fate costs more by the margin. "
        "Where the extra feature's importance equals the others' (in three features) fates tie at "
        "any density. A fate is told by thresholds on norms, half by default, while the weights "
        "of the best model change smoothly across the dense boundaries. Steps are fewer, batches "
        "smaller, the learning rate higher and falling to 0, and weights do not decay, unlike in "
        "the paper's notebook: with these the exact losses come as near to the least ones in a "
        "third of the time. Losses here are sums over features."
    )

    def quick(self, params: PhaseParams) -> PhaseParams:
        """Two features, a coarse grid, and few steps."""
        smaller = {"n_features": [2], "grid": 6, "n_seeds": 8, "steps": 300, "batch_size": 32}
        return params.model_copy(update={**smaller, "lr": 3e-2})

    def run(self, model: None, params: PhaseParams) -> AnalysisResult:
        """Train all toys of a size together; put the best of each point beside the theory."""
        diagrams, checks = [], []
        for n_features in params.n_features:
            diagram, found = _diagram(params, n_features)
            diagrams.append(diagram)
            checks += found
        tables = tables_of(diagrams, params.margin)
        return self.result(model, params, tables=tables, figures=figures(tables), checks=checks)


def _diagram(params: PhaseParams, n_features: int) -> tuple[Diagram, list[Check]]:
    device = device_of(params)
    parts = torch.linspace(0, 1, params.grid, dtype=torch.float64)
    densities = params.sparsest**parts
    extra = params.least_important ** (1 - 2 * parts)
    n_seeds, d_hidden = params.n_seeds, n_features - 1
    theory = minimum_loss_regions(
        densities, extra, n_features, d_hidden, params.represented, device
    )
    at_point = torch.cartesian_prod(densities, extra).repeat_interleave(n_seeds, 0)
    density, relative = at_point.unbind(-1)
    count = len(density)
    importance = torch.ones(count, n_features, dtype=torch.float64)
    importance[:, -1] = relative
    models = ToyModel(count, n_features, d_hidden, seeds=params.seed, device=device)
    data = SparseFeatures.of(count, n_features, density[:, None], seeds=params.seed, device=device)
    loss = ReconstructionLoss.of(count, n_features, importance, device=device)
    train_toys(models, data, loss, params, decay=params.decay)
    losses = _exact(models, density.to(device), importance.to(device))
    shape = (params.grid, params.grid, n_seeds)
    diagram = Diagram(
        theory=theory,
        W=models.W.detach().double().unflatten(0, shape),
        losses=losses.unflatten(0, shape),
        represented=params.represented,
    )
    checks = [loss_check(models, data, loss), *weight_checks(models.W)]
    if n_features == 2:
        checks.append(_theory_is_least(diagram))
    size = f"n = {n_features}"
    return diagram, [
        Check(f"{each.name} ({size})", each.value, each.tolerance, each.note) for each in checks
    ]


def _exact(models: ToyModel, density: Tensor, importance: Tensor) -> Float[Tensor, "instance"]:
    """Sum over features."""
    tensors = models.W.detach().double(), models.b.detach().double(), density[:, None], importance
    some = zip(*(tensor.split(MODELS_AT_ONCE) for tensor in tensors), strict=True)
    return torch.cat([exact_loss(*each) for each in some])


def _theory_is_least(diagram: Diagram) -> Check:
    """Of two features the theory's solutions are all there are; of three, those of a kind."""
    least = diagram.theory.losses.amin(0)
    below = (least - diagram.losses.amin(-1)) / least
    return Check(
        "no toy's exact loss is below the theory's least",
        float(below.max().clamp(min=0.0)),
        BELOW,
        "largest part of the least loss by which a toy goes below it",
    )
