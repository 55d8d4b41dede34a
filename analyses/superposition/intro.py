"""Five features in two dimensions: orthogonal, then digons, then a pentagon, by sparsity."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from jaxtyping import Float
from pydantic import Field, field_validator
from torch import Tensor

from analyses.base import Analysis
from analyses.registry import register
from analyses.results.result import AnalysisResult, Check
from analyses.superposition.fractions import FromDensest, fractions
from analyses.superposition.identities import weight_checks
from analyses.superposition.intro_tables import Trained, figures, tables_of
from analyses.superposition.training import TrainedToys, device_of, loss_check, train_toys
from interp.toys import ReconstructionLoss, SparseFeatures, ToyModel
from interp.toys.geometry import Geometry, recognise_each
from interp.toys.quadrature import Quadrature, expected_loss
from interp.toys.settings import Decay

D_HIDDEN = 2
POINTS = 1024  # of each set of features that are present together, about


class IntroParams(TrainedToys):
    """Which toys are trained, and what counts as a shape."""

    n_features: int = Field(5, ge=2, le=8, description="Features of each toy.")
    densities: FromDensest = Field(
        [1.0, 0.5, 0.3, 0.2, 0.15, 0.1, 0.05, 0.02, 0.01],
        min_length=1,
        max_length=100,
        description="1 - S: how likely each feature is not zero.",
    )
    ratios: list[float] = Field(
        [0.9, 1.0],
        min_length=1,
        max_length=20,
        description="Of each feature's importance to the one before; 1: all are alike.",
    )
    n_seeds: int = Field(10, ge=1, le=1000, description="Toys of each density and ratio.")
    decay: Decay = Field(
        "linear",
        description="How the learning rate falls to 0. The paper's notebook keeps it constant, "
        "which leaves noise in the angles.",
    )
    tolerance: float = Field(
        5.0, gt=0, lt=30, description="Degrees by which angles may be off a shape's."
    )

    @field_validator("ratios")
    @classmethod
    def _ratios_rise(cls, ratios: list[float]) -> list[float]:
        return fractions("ratios", ratios)


@register
class SuperpositionIntro(Analysis[IntroParams]):
    """Five features in two hidden dimensions, from dense to sparse.

    Elhage et al. 2022, Toy Models of Superposition, the first figure: a ReLU-output model of n = 5
    features in m = 2 dimensions, of importance 0.9ⁱ, at sparsities of 0, 80 % and 90 %. Beside it
    all features alike, and sparser ones.

    By default 180 toys are trained for 10,000 steps of 1,024 examples, all at once: about three
    minutes on two CPU cores (235 CPU seconds with one thread, compiling included).
    """

    name = "superposition-intro"
    question = "How do five features share two dimensions, as they get sparser?"
    needs_model = False
    lengthy = True
    caveat = (
        "Of each density the best of a few toys is shown, and a toy is one local minimum: of the "
        "sparse ones many end elsewhere (see `share` in the table by-condition), and none need be "
        "the best there is. Which toy is best is told by the expected loss, an integral over a "
        "grid of points that is right to about 0.3 %, not by the batches it was trained on; which "
        "of two toys is the better one by less than 0.05 % says nothing. A shape's name says that "
        "all its angles "
        "are within the tolerance: with unequal importances a pentagon is not quite regular. A "
        "feature with less than a quarter of the largest norm counts as absent. The learning rate "
        "falls to 0 by default, which the paper's does not. Rotations and reflections of a toy "
        "are as good as it is: directions are drawn as they were trained."
    )

    def quick(self, params: IntroParams) -> IntroParams:
        """Four densities and few steps of small batches."""
        smaller = {
            "densities": [1.0, 0.3, 0.1, 0.02],
            "n_seeds": 5,
            "steps": 400,
            "batch_size": 128,
            "lr": 3e-2,
        }
        return params.model_copy(update=smaller)

    def run(self, model: None, params: IntroParams) -> AnalysisResult:
        """Train all toys together, and name what the best of each condition has become."""
        trained, checks = _train(params)
        tables = tables_of(trained)
        return self.result(model, params, tables=tables, figures=figures(tables), checks=checks)


def _train(params: IntroParams) -> tuple[Trained, list[Check]]:
    device = device_of(params)
    n_features, n_seeds = params.n_features, params.n_seeds
    conditions = torch.cartesian_prod(
        torch.tensor(params.ratios, dtype=torch.float64),
        torch.tensor(params.densities, dtype=torch.float64),
        torch.arange(n_seeds, dtype=torch.float64),
    )
    ratio, density, trial = conditions.unbind(-1)
    seeds = trial.long() + params.seed
    importance = ratio[:, None] ** torch.arange(n_features)
    count = len(ratio)
    models = ToyModel(count, n_features, D_HIDDEN, seeds=seeds.to(device), device=device)
    data = SparseFeatures.of(
        count, n_features, density[:, None], seeds=seeds.to(device), device=device
    )
    loss = ReconstructionLoss.of(count, n_features, importance, device=device)
    train_toys(models, data, loss, params, decay=params.decay)
    checks = [loss_check(models, data, loss), *weight_checks(models.W)]
    W, b = models.W.detach().double().cpu(), models.b.detach().double().cpu()
    trained = Trained(
        ratio=ratio,
        density=density,
        seed=seeds,
        importance=importance,
        W=W,
        b=b,
        loss=_expected(W, b, density, importance),
        geometries=recognise_each(W, params.tolerance),
    )
    return trained, [*checks, _parts_check(trained.geometries, n_features)]


def _parts_check(geometries: Sequence[Geometry], n_features: int) -> Check:
    """Parts of a toy share no feature and, with the absent ones, leave none out."""
    misplaced = []
    for one in geometries:
        times = Counter([*one.absent, *(i for part in one.parts for i in part.features)])
        misplaced.append(sum(times[i] != 1 for i in range(n_features)))
    return Check(
        "every feature is in one part or absent",
        float(max(misplaced)),
        0.0,
        "most features of a toy that are in several places or in none",
    )


def _expected(
    W: Tensor, b: Tensor, density: Tensor, importance: Tensor
) -> Float[Tensor, "instance"]:
    """Mean over features, as it was trained; of one model at a time, which is little memory."""
    n_features = W.shape[-1]
    points = Quadrature.of(n_features, POINTS)
    weights = {p: points.weights(torch.full((n_features,), p)) for p in density.unique().tolist()}
    found = [
        expected_loss(W[i], b[i], weights[float(density[i])], importance[i], points)
        for i in range(len(W))
    ]
    return torch.stack(found) / n_features
