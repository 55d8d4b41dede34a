"""The geometry of uniform superposition: features at the fractions of simple polytopes."""

from __future__ import annotations

import torch
from jaxtyping import Float
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from analyses.base import Analysis
from analyses.registry import register
from analyses.results.checks import SCALED, scaled_error
from analyses.results.result import AnalysisResult, Check
from analyses.superposition.geometry_tables import Trained, figures, tables_of
from analyses.superposition.identities import weight_checks
from analyses.superposition.training import (
    Rate,
    Steps,
    TrainedToys,
    device_of,
    loss_check,
    train_toys,
)
from interp.toys import ReconstructionLoss, SparseFeatures, ToyModel
from interp.toys.evaluation import held_out_losses
from interp.toys.geometry import Geometry, recognise_each
from interp.toys.measures import dimensions_per_feature
from interp.toys.settings import Decay

HELD_OUT_BATCHES = 4


class GeometryParams(TrainedToys):
    """Which toys are trained, and what counts as a plateau or a part.

    The learning rate is higher than the notebook's and falls to 0, over fewer steps: as far as
    10,000 steps of 1e-3 come, with less noise at the end.
    """

    steps: Steps = 4000
    lr: Rate = 5e-3
    n_features: int = Field(400, ge=2, le=10_000, description="Features of each toy.")
    d_hidden: int = Field(30, ge=1, le=10_000, description="Hidden dimensions of each toy.")
    n_densities: int = Field(20, ge=2, le=1000, description="Densities, from 1 to the sparsest.")
    sparsest: float = Field(
        0.05, gt=0, le=0.9, description="The least density; those between are evenly spaced in log."
    )
    more_densities: list[float] = Field(
        [0.235, 0.23, 0.225, 0.22],
        max_length=1000,
        description="Densities besides; the default ones are where pentagons are found.",
    )
    densities: list[float] | None = Field(
        None,
        min_length=2,
        max_length=1000,
        description="These densities, rather than n_densities down to the sparsest and the more.",
    )
    n_seeds: int = Field(1, ge=1, le=1000, description="Toys of each density.")
    decay: Decay = Field(
        "linear",
        description="How the learning rate falls to 0. The paper's notebook keeps it constant, "
        "which leaves noise that smears the plateaus.",
    )
    half_width: float = Field(
        0.005, gt=0, le=0.1, description="A feature is at a fraction within this of it."
    )
    flank: float = Field(
        0.0125, gt=0, le=0.25, description="Where features are counted on either side of it."
    )
    tolerance: float = Field(
        10.0, gt=0, lt=30, description="Degrees by which a part's angles may be off its shape's."
    )
    join: float = Field(
        15.0,
        gt=0,
        lt=30,
        description="Degrees off a right angle from which two features hang together.",
    )

    @field_validator("densities", "more_densities")
    @classmethod
    def _densities_fall(cls, densities: list[float] | None) -> list[float] | None:
        if not densities:
            return densities
        if not 0 < min(densities) <= max(densities) <= 1 or len(set(densities)) < len(densities):
            raise ValueError("densities must be different numbers in 0 … 1, 0 left out")
        return sorted(densities, reverse=True)

    @model_validator(mode="after")
    def _windows_are_apart(self) -> GeometryParams:
        if self.flank <= 2 * self.half_width:
            raise ValueError(
                f"flank must be more than twice half_width, got {self.flank} and {self.half_width}"
            )
        return self

    @property
    def all_densities(self) -> Float[Tensor, "density"]:
        """Of the toys, falling; none twice."""
        if self.densities is not None:
            return torch.tensor(self.densities, dtype=torch.float64)
        even = self.sparsest ** torch.linspace(0, 1, self.n_densities, dtype=torch.float64)
        more = torch.tensor(self.more_densities, dtype=torch.float64)
        return torch.cat([even, more]).unique().flip(0)


@register
class SuperpositionGeometry(Analysis[GeometryParams]):
    """Dimensions per feature and the dimensionality of each, by density, of many equal features.

    Elhage et al. 2022, Toy Models of Superposition, “The Geometry of Superposition”, uniform
    superposition: n = 400 features in m = 30 dimensions, all of importance 1.

    The default trains 24 toys for 4,000 steps of 1,024 examples: ten to twenty minutes on two CPU
    cores. Pentagons are found at densities of about 0.22 to 0.24, narrower than even densities are
    apart, so that some are added there. What a run of the authors' own procedure gave as dimensions
    per feature is put beside a run with
    `n_features=200 d_hidden=20 steps=10000 lr=0.001 decay=constant`.
    """

    name = "superposition-geometry"
    question = "At which fractions of a dimension do features in superposition lie?"
    needs_model = False
    lengthy = True
    caveat = (
        "One toy a density by default, and each is one local minimum of very many: another seed "
        "has other numbers of each polytope, and at the same density one toy may have a sharp "
        "plateau at 2/5 or 3/8 and the next none. The authors' notebook trains for 10,000 steps at "
        "a constant learning rate of 1e-3; here it is 5e-3, falls to 0 and takes 4,000. Digons are "
        "sharp with either. A dimensionality near a fraction does not prove the polytope: where "
        "dimensionalities fall with density they pass 2/5 and 3/8 whatever the parts are, and all "
        "features of a toy lie about as near to one another. The "
        "parts, named by their angles, are the better evidence, and hang on how far off a right "
        "angle two features count as joined. In the sparsest toys nearly all features hang "
        "together and parts have no names. At density 1 D* = 1 says that W has the norm of as many "
        "features as there are dimensions, not that any feature has one to itself: without "
        "sparsity all mixtures of equal features serve alike."
    )

    def quick(self, params: GeometryParams) -> GeometryParams:
        """Fewer and smaller toys, trained faster for less long."""
        smaller: dict[str, object] = {
            "n_features": 50,
            "d_hidden": 12,
            "n_densities": 6,
            "sparsest": 0.1,
            "more_densities": [0.35, 0.3],
            "steps": 700,
            "batch_size": 128,
            "lr": 1.5e-2,
        }
        return params.model_copy(update=smaller)

    def run(self, model: None, params: GeometryParams) -> AnalysisResult:
        """Train a toy for each density and seed, all together, and measure them."""
        trained, checks = _train(params)
        tables = tables_of(trained, params.half_width, params.flank)
        return self.result(model, params, tables=tables, figures=figures(), checks=checks)


def _train(params: GeometryParams) -> tuple[Trained, list[Check]]:
    device = device_of(params)
    densities = params.all_densities
    density = densities.repeat_interleave(params.n_seeds)
    count = len(density)
    models = ToyModel(count, params.n_features, params.d_hidden, seeds=params.seed, device=device)
    data = SparseFeatures.of(
        count, params.n_features, density[:, None], seeds=params.seed, device=device
    )
    loss = ReconstructionLoss.of(count, params.n_features, device=device)
    train_toys(models, data, loss, params, decay=params.decay)
    held_out = held_out_losses(
        models, data, loss, batches=HELD_OUT_BATCHES, batch_size=params.batch_size
    )
    W = models.W.detach().double().cpu()
    trained = Trained(
        density=density,
        repeat=torch.arange(params.n_seeds).repeat(len(densities)),
        seed=torch.arange(count) + params.seed,
        W=W,
        loss=held_out.double().mean(0).cpu(),
        geometries=recognise_each(W, params.tolerance, join=params.join),
    )
    return trained, [
        loss_check(models, data, loss),
        *weight_checks(W),
        Check(
            "dimensions per feature are those of the singular values",
            scaled_error(dimensions_per_feature(W), _by_singular_values(W)),
            1e-10,
            f"m over the sum of their squares; {SCALED}",
        ),
        Check(
            "every feature is in one part or absent",
            float(max(abs(_counted(one) - params.n_features) for one in trained.geometries)),
            0.0,
            "features of all parts and absent ones, less all features",
        ),
    ]


def _counted(geometry: Geometry) -> int:
    return sum(len(part.features) for part in geometry.parts) + len(geometry.absent)


def _by_singular_values(W: Tensor) -> Tensor:
    return W.shape[-2] / torch.linalg.svdvals(W).square().sum(-1)
