"""Features that occur together, or never do: orthogonal, antipodal, and merged into their sums."""

from __future__ import annotations

from dataclasses import replace

import torch
from pydantic import Field, field_validator
from torch import Tensor

from analyses.base import Analysis
from analyses.registry import register
from analyses.results.checks import SCALED, TOLERANCES, scaled_error
from analyses.results.result import AnalysisResult, Check
from analyses.superposition.correlated_tables import PAIR, SET, Condition, Toys, figures, tables_of
from analyses.superposition.fractions import fractions
from analyses.superposition.training import (
    HELD_OUT_SEED,
    BatchSize,
    FallingRate,
    Steps,
    TrainedToys,
    WeightDecay,
    device_of,
    loss_check,
    train_toys,
)
from interp.progress import stage
from interp.toys import ReconstructionLoss, SparseFeatures, ToyModel
from interp.toys.evaluation import held_out_losses
from interp.toys.groups import angles_within_groups, group_covariance, group_interference
from interp.toys.measures import superposition

HELD_OUT_BATCHES = 8


class CorrelatedParams(TrainedToys):
    """Which toys are trained, and how near to a right angle or to antipodes counts as there."""

    steps: Steps = 3000
    batch_size: BatchSize = 128
    lr: FallingRate = 5e-2
    weight_decay: WeightDecay = 0.0
    init_scale: float = Field(
        0.5,
        gt=0,
        le=10,
        description="Times Xavier's initial weights. Large ones leave dead features, small ones "
        "features that begin together.",
    )
    n_seeds: int = Field(50, ge=1, le=10_000, description="Toys of two pairs for each condition.")
    n_seeds_of_sweeps: int = Field(
        8, ge=1, le=1000, description="Toys of three pairs for each density, and of two large sets."
    )
    density: float = Field(
        0.1,
        gt=0,
        le=1,
        description="How likely a correlated pair is there, and each independent feature.",
    )
    anticorrelated_density: float = Field(
        1.0,
        gt=0,
        le=1,
        description="How likely one feature of an anticorrelated pair is there.",
    )
    densities: list[float] = Field(
        [0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9],
        min_length=1,
        description="Of the three correlated pairs.",
    )
    set_density: float = Field(
        0.1, gt=0, le=1, description="How likely each of the two large sets is there."
    )
    tolerance: float = Field(
        10.0, gt=0, lt=45, description="Degrees off 90 or 180 that count as there."
    )

    @field_validator("densities")
    @classmethod
    def _from_the_sparsest(cls, densities: list[float]) -> list[float]:
        return fractions("densities", densities)


@register
class SuperpositionCorrelated(Analysis[CorrelatedParams]):
    """Where toys put features that occur together, and features that exclude one another.

    Elhage et al. 2022, Toy Models of Superposition, “The Geometry of Superposition”, Correlated and
    anticorrelated features: two pairs in two dimensions; three correlated pairs where there is no
    room for all; two sets of ten features in ten dimensions, whose bases are each almost
    orthogonal; pairs that merge into their principal components as features grow dense. Sets of
    features occur as there: a correlated one all at once with independent values, an anticorrelated
    one with one of its features.

    Densities, training and initial weights are not the paper's, but chosen so that nearly all toys
    of two pairs end in the least loss. The default trains 336 toys of 4, 6 or 20 features: about 30
    to 70 seconds of one CPU core, compilations included.
    """

    name = "superposition-correlated"
    question = "Where does a toy put features that occur together, or never do?"
    needs_model = False
    lengthy = True
    caveat = (
        "Correlated features are present together, but their values are independent: that is "
        "why both are worth a direction each. An orthogonal pair is likely by chance (two thirds "
        "of arrangements of two digons), so read its share beside that of independent features. "
        "How many toys get there hangs on initial weights, learning rate and density: at larger "
        "initial weights more features die, at smaller ones pairs begin merged and part late, and "
        "features of sparse pairs seldom meet those of others, so that a wrong arrangement costs "
        "next to nothing and stays. The two densities of pairs were chosen for this: in runs of "
        "500 steps at a learning rate of 0.02 and 30 toys anticorrelated pairs were antipodal in "
        "40 % of toys where each feature had density 0.05, in 43 % at 0.1, 67 % at 0.25 and "
        "100 % at 0.5 (one of the two always there), and correlated pairs orthogonal in "
        "83, 90, 87, 30 and 3 % at 0.02, 0.05, 0.1, 0.2 and 0.3, where they begin to merge. "
        "Losses over those of principal components "
        "may come out a hundredth above 1 by the held-out sample alone. Three of the eight toys of "
        "large sets ended in nearly orthogonal bases, the others at a third more loss. The best "
        "toys of a sweep are the best of few seeds. The share of W on sums is one number: a "
        "toy that merges one pair of three lies between. "
        "Correlation of real features is a matter of degree, which is not varied here."
    )

    def quick(self, params: CorrelatedParams) -> CorrelatedParams:
        """Few toys, trained faster."""
        smaller = {
            "steps": 300,
            "batch_size": 48,
            "n_seeds": 10,
            "n_seeds_of_sweeps": 2,
            "densities": [0.05, 0.2, 0.7],
        }
        return params.model_copy(update=smaller)

    def run(self, model: None, params: CorrelatedParams) -> AnalysisResult:
        """Train all toys of one size together."""
        p, a = params.density, params.anticorrelated_density
        kinds = [
            Condition("correlated", p, p, 1.0, 2),
            Condition("independent", p, p, 0.0, 2),
            Condition("anticorrelated", a, a / PAIR, -1.0, 2),
            Condition("independent (as dense)", a / PAIR, a / PAIR, 0.0, 2),
        ]
        sweep = [Condition("correlated", d, d, 1.0, m) for m in (2, 3) for d in params.densities]
        sets = [Condition("correlated", params.set_density, params.set_density, 1.0, SET)]
        with stage(0, 3, "pairs"):
            pairs, checks = _train(params, kinds, params.n_seeds, 4, PAIR)
        with stage(1, 3, "merging"):
            merging, more = _train(params, sweep, params.n_seeds_of_sweeps, 6, PAIR)
        with stage(2, 3, "sets"):
            local, most = _train(params, sets, params.n_seeds_of_sweeps, 2 * SET, SET)
        tables = tables_of(pairs, merging, local, params.tolerance)
        return self.result(
            model,
            params,
            tables=tables,
            figures=figures(tables),
            checks=[*checks, *more, *most, _covariance_check(params.seed)],
        )


def _train(
    params: CorrelatedParams,
    conditions: list[Condition],
    n_seeds: int,
    n_features: int,
    group_size: int,
) -> tuple[Toys, list[Check]]:
    """Toys of one number of features, of all conditions and seeds in one stack."""
    device = device_of(params)
    each = [condition for condition in conditions for _ in range(n_seeds)]
    seeds = torch.arange(n_seeds).repeat(len(conditions)) + params.seed
    models = ToyModel(
        len(each),
        n_features,
        [one.d_hidden for one in each],
        init_scale=params.init_scale,
        seeds=seeds,
        device=device,
    )
    data = SparseFeatures.of(
        len(each),
        n_features,
        torch.tensor([one.of_feature for one in each])[:, None],
        correlation=torch.tensor([one.correlation for one in each]),
        group_size=group_size,
        seeds=seeds,
        device=device,
    )
    loss = ReconstructionLoss.of(len(each), n_features, device=device)
    train_toys(models, data, loss, params, decay="cosine")
    fresh = replace(data, seeds=torch.full_like(data.seeds, HELD_OUT_SEED))
    losses = held_out_losses(models, fresh, loss, batches=HELD_OUT_BATCHES).double().mean(0)
    toys = Toys(
        conditions=conditions,
        n_seeds=n_seeds,
        group_size=group_size,
        W=models.W.detach().double().cpu(),
        loss=losses.cpu(),
        seeds=seeds,
    )
    checks = [
        replace(check, name=f"{check.name} ({n_features} features)")
        for check in (loss_check(models, data, loss), *_identities(toys.W, group_size))
    ]
    return toys, checks


def _identities(W: Tensor, group_size: int) -> list[Check]:
    within, between = group_interference(W, group_size)
    gram = W.mT @ W
    squares = gram.diagonal(dim1=-2, dim2=-1)
    first, second = torch.triu_indices(group_size, group_size, 1)
    blocks = torch.stack(
        [
            gram[:, at + first, at + second]
            / (squares[:, at + first] * squares[:, at + second]).sqrt()
            for at in range(0, W.shape[-1], group_size)
        ],
        1,
    )
    angles = angles_within_groups(W, group_size)
    there = angles.isfinite()
    return [
        Check(
            "interference within and between groups sums to superposition",
            scaled_error(within + between, superposition(W)),
            TOLERANCES[W.dtype],
            SCALED,
        ),
        Check(
            "cosines within groups are those of the Gram matrix",
            scaled_error(angles[there].deg2rad().cos(), blocks[there].clamp(-1, 1)),
            TOLERANCES[W.dtype],
            SCALED,
        ),
    ]


def _covariance_check(seed: int) -> Check:
    """Second moments of drawn pairs beside the formula that the linear optimum is made of."""
    density, n, batch = 0.5, 6, 20_000
    data = SparseFeatures.of(
        1, n, density, correlation=1.0, group_size=PAIR, seeds=seed, dtype=torch.float64
    )
    x = data.batch(0, batch).x[0]
    centred = x - density / 2
    products = centred[:, :, None] * centred[:, None, :]
    stderr = products.std(0) / batch**0.5
    expected = group_covariance(density, 1.0, PAIR, n)
    return Check(
        "covariance of pairs is the formula's",
        float(((products.mean(0) - expected).abs() / stderr).max()),
        6.0,
        f"largest difference in standard errors, of {batch} examples",
    )
