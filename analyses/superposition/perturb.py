"""One feature of five made sparser or more important: a pentagon that stretches, then snaps."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from analyses.base import Analysis
from analyses.registry import register
from analyses.results.checks import SCALED, scaled_error
from analyses.results.result import AnalysisResult, Check
from analyses.superposition.perturb_branches import (
    D_HIDDEN,
    N_FEATURES,
    Branches,
    Setting,
    Transition,
    follow,
    kind_of,
    transition,
)
from analyses.superposition.perturb_tables import Trained, figures, tables_of
from analyses.superposition.training import TrainedToys, device_of, loss_check, train_toys
from interp.toys import ReconstructionLoss, SparseFeatures, ToyModel
from interp.toys.evaluation import held_out_losses
from interp.toys.planar import laid_beside
from interp.toys.quadrature import Quadrature, expected_loss

HELD_OUT_BATCHES = 16
STANDARD_ERRORS = 6.0


class PerturbParams(TrainedToys):
    """What is varied, and how many toys are trained."""

    vary: Literal["density", "importance"] = Field(
        "density", description="What of the first feature differs from that of the others."
    )
    density: float = Field(0.05, gt=0, le=1, description="1 - S of the other features.")
    relative: list[float] = Field(
        [0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 4.0],
        min_length=2,
        max_length=200,
        description="The first feature's density, or importance, as a multiple of the others'.",
    )
    n_seeds: int = Field(10, ge=1, le=1000, description="Toys of each value.")
    points: int = Field(
        1024,
        ge=4,
        le=65_536,
        description="About how many points stand for each set of features present together, in "
        "the loss that solutions are compared by.",
    )

    @field_validator("relative")
    @classmethod
    def _values_rise(cls, relative: list[float]) -> list[float]:
        if min(relative) <= 0 or len(set(relative)) < len(relative):
            raise ValueError("relative must be different numbers above 0")
        return sorted(relative)

    @model_validator(mode="after")
    def _is_a_probability(self) -> PerturbParams:
        highest = self.density * max(self.relative)
        if self.vary == "density" and highest > 1:
            raise ValueError(f"density times relative must be at most 1, got {highest}")
        return self


@register
class SuperpositionPerturb(Analysis[PerturbParams]):
    """Toys trained with one feature that differs, beside the losses of both solutions.

    Elhage et al. 2022, Toy Models of Superposition, “Non-Uniform Superposition”, Perturbing a
    single feature: n = 5 features in m = 2 dimensions, importance 1, density 0.05; one feature's
    density is varied. The pentagon stretches, and where that feature is sparse enough two digons
    of the others take its place, with the feature at 0: the loss curves of the two solutions
    cross.

    The solutions are followed by descents from a regular pentagon and from two digons, on the
    expected loss. The default trains 140 toys for 10,000 steps: about three minutes on two
    CPU cores.
    """

    name = "superposition-perturb"
    question = "What does a pentagon of features become as one of them grows sparse or unimportant?"
    needs_model = False
    lengthy = True
    caveat = (
        "Which solution has the lower loss and which one training finds are two things: about the "
        "crossing both are local minima, and a toy keeps the one its start was nearer to. A toy "
        "counts as digons once its varied feature is less than half as long as the longest, though "
        "that may shrink for thousands of steps. A branch is followed from the regular pentagon or "
        "the exact digons at every value, not from its neighbour: close to where it ends, a start "
        "may miss what is left of it. Expected losses are sums over points that stand for the "
        "inputs, good to about one part in a thousand by default. The paper's figure gives no "
        "table: its critical value cannot be compared to the digit."
    )

    def quick(self, params: PerturbParams) -> PerturbParams:
        """Fewer values and toys, trained faster for less long, and fewer points."""
        smaller = {
            "relative": [0.1, 0.2, 0.3, 0.5, 1.0, 3.0],
            "n_seeds": 3,
            "steps": 600,
            "batch_size": 256,
            "lr": 1e-2,
            "points": 64,
        }
        return params.model_copy(update=smaller)

    def run(self, model: None, params: PerturbParams) -> AnalysisResult:
        """Train all toys together, follow both solutions, and compare."""
        device = device_of(params)
        setting = _setting(params)
        trained, checks = _train(params, setting, device)
        branches = follow(setting)
        crossing = transition(setting, branches)
        tables = tables_of(trained, setting, branches, crossing)
        return self.result(
            model,
            params,
            tables=tables,
            figures=figures(tables, params.vary),
            checks=[*checks, *_branch_checks(branches, crossing)],
        )


def _setting(params: PerturbParams) -> Setting:
    return Setting(
        vary=params.vary,
        density=params.density,
        relative=torch.tensor(params.relative, dtype=torch.float64),
        quadrature=Quadrature.of(N_FEATURES, params.points),
    )


def _train(
    params: PerturbParams, setting: Setting, device: torch.device
) -> tuple[Trained, list[Check]]:
    count = len(setting.relative) * params.n_seeds
    density, importance = (
        each.repeat_interleave(params.n_seeds, 0) for each in setting.of_features(setting.relative)
    )
    # Toys of one number see the same examples and begin alike, whatever is varied.
    seeds = (torch.arange(params.n_seeds) + params.seed).repeat(len(setting.relative))
    models = ToyModel(count, N_FEATURES, D_HIDDEN, seeds=seeds, device=device)
    data = SparseFeatures.of(count, N_FEATURES, density, seeds=seeds, device=device)
    loss = ReconstructionLoss.of(count, N_FEATURES, importance, device=device)
    train_toys(models, data, loss, params)
    held_out = held_out_losses(models, data, loss, batches=HELD_OUT_BATCHES).double().cpu()
    W, b = (each.detach().double().cpu() for each in (models.W, models.b))
    weights = setting.quadrature.weights(density)
    losses = expected_loss(W, b, weights, importance, setting.quadrature) / N_FEATURES
    trained = Trained(
        relative=setting.relative.repeat_interleave(params.n_seeds),
        seed=seeds,
        W=W,
        loss=losses,
        kinds=kind_of(W),
    )
    turned = laid_beside(W)
    lengths = (turned.mT @ turned).square().sum((-2, -1))
    return trained, [
        loss_check(models, data, loss),
        Check(
            "turning a model changes no angle",
            scaled_error(lengths, (W.mT @ W).square().sum((-2, -1))),
            1e-10,
            f"sum of the squares of all W_i·W_j, before and after; {SCALED}",
        ),
        _held_out_check(losses, held_out),
    ]


def _held_out_check(
    losses: Float[Tensor, "instance"], held_out: Float[Tensor, "batch instance"]
) -> Check:
    error = held_out.std(0) / len(held_out) ** 0.5
    allowed = STANDARD_ERRORS * error + 0.02 * losses
    return Check(
        "expected losses are those of examples",
        float(((losses - held_out.mean(0)).abs() / allowed).max()),
        1.0,
        f"|difference| over {STANDARD_ERRORS:g} standard errors of {len(held_out)} batches that "
        "no toy was trained on, and 2 % of the loss for the points",
    )


def _branch_checks(branches: Branches, crossing: Transition | None) -> list[Check]:
    checks = [
        Check(
            "solutions are stationary",
            float(branches.gradient.max()),
            1e-5,
            "largest entry of the expected loss's gradient at the end of a descent",
        )
    ]
    if crossing is not None:
        first, second = crossing.branches.loss[0].tolist()
        checks.append(
            Check(
                "losses are equal where they cross",
                abs(first - second) / first,
                1e-6,
                "|difference| over the loss",
            )
        )
    return checks
