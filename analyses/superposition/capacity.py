"""How training allots capacity to features, beside the exact optimum."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from analyses.base import Analysis
from analyses.registry import register
from analyses.results.checks import SCALED, TOLERANCES, scaled_error
from analyses.results.result import AnalysisResult, Check
from analyses.superposition.capacity_findings import findings_of
from analyses.superposition.capacity_tables import (
    Allotted,
    Phase,
    blocks_table,
    capacities_table,
    figures,
    marginals_table,
    phase_table,
    totals_table,
)
from analyses.superposition.training import (
    FallingRate,
    Steps,
    TrainedToys,
    WeightDecay,
    device_of,
    loss_check,
    train_toys,
)
from interp.progress import stage
from interp.toys import ReconstructionLoss, SparseFeatures, ToyModel, geometric_importance
from interp.toys.allocation import optimal_allocation
from interp.toys.evaluation import held_out_losses
from interp.toys.measures import capacity
from interp.toys.quadratic import QuadraticTask, QuadraticToy, kurtosis_of, quadratic_losses

CHECKED_FEATURES = 8  # all fourth moments of so many are written out
SPARSEST_OF_PHASE = 0.02
IMPORTANCES_OF_PHASE = 10.0  # times, up and down


class CapacityParams(TrainedToys):
    """Which toys share out how much capacity."""

    n_features: int = Field(20, ge=2, description="Features of each toy.")
    d_hidden: int = Field(5, ge=1, description="Hidden dimensions, to be shared by the features.")
    importance_ratio: float = Field(
        0.7, gt=0, le=1, description="Each feature's importance as a part of that before it."
    )
    densities: list[float] = Field(
        [1.0, 0.8, 0.6, 0.4, 0.3, 0.2, 0.1, 0.05, 0.02],
        min_length=1,
        description="How likely a feature is not zero; its kurtosis, about 0, is 9/5 over that.",
    )
    n_seeds: int = Field(4, ge=1, description="Models at each density, of which the best is shown.")
    phase_points: int = Field(
        9,
        ge=3,
        description="Densities, and relative importances, of the phase diagram of two features.",
    )
    steps: Steps = 4000
    lr: FallingRate = 3e-3
    weight_decay: WeightDecay = 0.0

    @field_validator("densities")
    @classmethod
    def _densities_are_shares(cls, densities: list[float]) -> list[float]:
        if not all(0 < each <= 1 for each in densities) or len(set(densities)) < len(densities):
            raise ValueError("densities must be different numbers in 0 … 1, 0 left out")
        return densities

    @model_validator(mode="after")
    def _dimensions_are_short(self) -> CapacityParams:
        if self.d_hidden >= self.n_features:
            raise ValueError(
                f"d_hidden must be less than n_features ({self.n_features}), or all features have "
                f"a dimension each, got {self.d_hidden}"
            )
        return self


@register
class SuperpositionCapacity(Analysis[CapacityParams]):
    """Which features get a whole dimension, a part of one, or none.

    Scherlis, Sachan, Jermyn, Benton and Shlegeris (2022), Polysemanticity and Capacity in Neural
    Networks. Two toys with features of falling importance are trained at several densities: one
    that is quadratic, whose best allocation is known exactly (`interp.toys.allocation`), and that
    of Elhage et al. (2022) with a ReLU at its output, whose is not. A third set, of two features in
    one dimension, draws a phase diagram of capacities and, beside it, the exact one. The sizes are
    chosen here, not the paper's: n = 20, m = 5 and importances 0.7^i are those of Elhage et al.'s
    first figures.

    At its defaults some 400 models are trained for 4,000 steps each: two to four CPU
    minutes.
    """

    name = "superposition-capacity"
    question = "Which features get a whole dimension, a part of one, or none?"
    caveat = (
        "The exact allocation holds for the quadratic toy with independent features of mean zero "
        "and variance 1; the ReLU toy has no such formula, and its losses do not depend on "
        "capacities alone, so its row says what was found and no more. The best of a few seeds is "
        "shown: below a kurtosis of 3 the quadratic toy has local minima, and single seeds often "
        "end there. Sparse features have rare, large squares, so that weights are still moved by "
        "noise at the end and capacities are off by a few hundredths. Features count as ignored "
        "below a capacity of 0.05 and as monosemantic above 0.95, both of which are choices. "
        "Blocks are cut where directions are within 5 degrees of a right angle: what is left of "
        "noise can join two of them."
    )
    needs_model = False
    lengthy = True

    def quick(self, params: CapacityParams) -> CapacityParams:
        """Smaller toys, fewer densities and steps."""
        small = {
            "n_features": 8,
            "d_hidden": 2,
            "densities": [0.8, 0.3, 0.05],
            "n_seeds": 3,
            "phase_points": 5,
            "steps": 400,
            "batch_size": 192,
            "lr": 1e-2,
        }
        return params.model_copy(update=small)

    def run(self, model: None, params: CapacityParams) -> AnalysisResult:
        """Train all three sets of toys, and put them beside the optimum."""
        with stage(0, 3, "quadratic toys"):
            quadratic = _quadratic(params)
        with stage(1, 3, "ReLU toys"):
            relu, relu_check = _relu(params)
        with stage(2, 3, "phase diagram"):
            phase = _phase(params)
        allotted = [quadratic, relu]
        tables = {
            "capacities": capacities_table(allotted),
            "totals": totals_table(allotted),
            "marginals": marginals_table(quadratic),
            "blocks": blocks_table(allotted),
            "phase": phase_table(phase),
        }
        tables["findings"] = findings_of(tables, params.d_hidden)
        return self.result(
            model,
            params,
            tables=tables,
            figures=figures(tables),
            checks=[relu_check, *_checks(quadratic, relu, phase)],
        )


def _sites(params: CapacityParams) -> tuple[Tensor, Tensor]:
    """Density and number of the seed of each instance."""
    densities = torch.tensor(sorted(params.densities, reverse=True), dtype=torch.float64)
    seed = torch.arange(params.n_seeds).repeat(len(densities))
    return densities.repeat_interleave(params.n_seeds), seed


def _trained_quadratic(
    density: Tensor, seed: Tensor, coefficients: Tensor, d_hidden: int, params: CapacityParams
) -> tuple[Tensor, Tensor]:
    """Weights `[instance, d_hidden, feature]` in fp64 on the CPU, and their exact losses."""
    device = device_of(params)
    count, n_features = coefficients.shape
    seeds = params.seed + seed
    models = QuadraticToy(count, n_features, d_hidden, seeds=seeds, device=device)
    source = SparseFeatures.of(
        count, n_features, density[:, None], values="signed", seeds=seeds, device=device
    )
    data = QuadraticTask.of(source, coefficients)
    loss = ReconstructionLoss.of(count, 1, device=device)
    train_toys(models, data, loss, params, decay="cosine")
    W = models.W.detach().double().cpu()
    return W, quadratic_losses(W, coefficients, kurtosis_of(density)).sum(-1)


def _quadratic(params: CapacityParams) -> Allotted:
    density, seed = _sites(params)
    importance = geometric_importance(params.n_features, params.importance_ratio, torch.float64)
    coefficients = importance.sqrt().expand(len(density), -1)
    W, losses = _trained_quadratic(density, seed, coefficients, params.d_hidden, params)
    best = optimal_allocation(coefficients, kurtosis_of(density), params.d_hidden)
    return Allotted("quadratic", density, seed, importance, W, losses, best)


def _relu(params: CapacityParams) -> tuple[Allotted, Check]:
    device = device_of(params)
    density, seed = _sites(params)
    count, n_features = len(density), params.n_features
    importance = geometric_importance(n_features, params.importance_ratio, torch.float64)
    seeds = params.seed + seed
    models = ToyModel(count, n_features, params.d_hidden, seeds=seeds, device=device)
    data = SparseFeatures.of(count, n_features, density[:, None], seeds=seeds, device=device)
    loss = ReconstructionLoss.of(count, n_features, importance, device=device)
    train_toys(models, data, loss, params, decay="cosine")
    # On the same examples at each density, so that seeds are compared closely.
    same = SparseFeatures.of(
        count,
        n_features,
        density[:, None],
        seeds=torch.full_like(seeds, params.seed + params.n_seeds),
        device=device,
    )
    losses = held_out_losses(models, same, loss, batch_size=params.batch_size).mean(0).cpu()
    W = models.W.detach().double().cpu()
    check = loss_check(models, data, loss)
    return Allotted("relu", density, seed, importance, W, losses * n_features, None), check


def _phase(params: CapacityParams) -> Phase:
    """Two features in one dimension, by density and importance of the second."""
    points = torch.linspace(0, 1, params.phase_points, dtype=torch.float64)
    density = SPARSEST_OF_PHASE**points
    relative = IMPORTANCES_OF_PHASE ** (2 * points - 1)
    shape = (len(density), len(relative), params.n_seeds)
    each_density = density[:, None, None].expand(shape).flatten()
    second = relative[None, :, None].expand(shape).flatten().sqrt()
    coefficients = torch.stack([torch.ones_like(second), second], -1)
    seed = torch.arange(params.n_seeds).expand(shape).flatten()
    W, losses = _trained_quadratic(each_density, seed, coefficients, 1, params)
    best = optimal_allocation(coefficients, kurtosis_of(each_density), 1)
    chosen = losses.unflatten(0, shape).argmin(-1, keepdim=True)

    def at_best(values: Tensor) -> Any:
        return values.unflatten(0, shape).gather(-1, chosen).squeeze(-1)

    return Phase(
        density=density,
        relative_importance=relative,
        capacity=at_best(capacity(W)[:, 1]),
        optimal=at_best(best.capacity[:, 1]),
        loss=at_best(losses),
        least_loss=at_best(best.loss),
    )


# --- identities ----------------------------------------------------------------------------------


def _checks(quadratic: Allotted, relu: Allotted, phase: Phase) -> list[Check]:
    """What holds for all weights, however they were trained."""
    best = quadratic.best
    assert best is not None
    few = quadratic.W[..., :CHECKED_FEATURES]
    v = quadratic.importance.sqrt()[:CHECKED_FEATURES].expand(len(few), -1)
    kurtosis = kurtosis_of(quadratic.density)
    found = quadratic_losses(few, v, kurtosis).sum(-1)
    tolerance = TOLERANCES[torch.float64]
    totals = torch.cat([quadratic.capacity.sum(-1), relu.capacity.sum(-1)])
    too_much = float((totals - quadratic.W.shape[1]).clamp(min=0).max())
    missed = torch.cat([best.loss - quadratic.loss, (phase.least_loss - phase.loss).flatten()])
    return [
        Check(
            "losses of the quadratic toy are the variance of its error",
            scaled_error(found, _variance(few, v, kurtosis)),
            tolerance,
            f"from all fourth moments of the first {few.shape[-1]} features; {SCALED}",
        ),
        Check(
            "capacities sum to no more than there are dimensions",
            too_much,
            tolerance,
            "largest sum less d_hidden, or 0; of both toys, all seeds",
        ),
        Check(
            "no weights do better than the optimal allocation",
            float(missed.clamp(min=0).max()),
            tolerance,
            "largest gain on the least loss, or 0; of all quadratic toys, and the phase diagram's",
        ),
    ]


def _variance(W: Tensor, coefficients: Tensor, kurtosis: Tensor) -> Tensor:
    """The variance of xᵀ(WᵀW - diag v) x, from every E x_i x_j x_k x_l."""
    n = W.shape[-1]
    one = torch.eye(n, dtype=W.dtype)
    pairs = (
        torch.einsum("ij,kl->ijkl", one, one)
        + torch.einsum("ik,jl->ijkl", one, one)
        + torch.einsum("il,jk->ijkl", one, one)
    )
    alike = torch.einsum("ij,ik,il->ijkl", one, one, one)
    form = W.mT @ W - torch.diag_embed(coefficients)
    normal = torch.einsum("...ij,...kl,ijkl->...", form, form, pairs)  # a normal feature's
    extra = torch.einsum("...ij,...kl,ijkl->...", form, form, alike) * (kurtosis - 3)
    mean = form.diagonal(dim1=-2, dim2=-1).sum(-1)
    return normal + extra - mean.square()
