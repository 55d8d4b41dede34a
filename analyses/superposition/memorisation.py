"""Toys that see few examples memorise these; toys that see many learn features."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from pydantic import Field, field_validator
from torch import Tensor

from analyses.base import Analysis
from analyses.registry import register
from analyses.results.checks import SCALED, TOLERANCES, scaled_error
from analyses.results.result import AnalysisResult, Check
from analyses.superposition.memorisation_findings import findings_of
from analyses.superposition.memorisation_tables import (
    Memorised,
    dimensionality_table,
    figures,
    geometry_table,
    losses_table,
    vectors_table,
)
from analyses.superposition.training import TrainedToys, device_of, loss_check, train_toys
from interp.errors import require
from interp.progress import stage
from interp.toys import FiniteExamples, ReconstructionLoss, SparseFeatures, ToyModel
from interp.toys.measures import example_dimensionality, feature_dimensionality
from interp.toys.memorisation import size_classes

WARM_UP = 0.05  # of all steps
ENDLESS_LR = 0.3  # of the learning rate: fresh batches are noise that a whole set is free of
CHECKED_EXAMPLES = 200


class MemorisationParams(TrainedToys):
    """How many examples toys see, and of what."""

    n_features: int = Field(500, ge=3, description="Features of an example; 10,000 in the paper.")
    density: float = Field(
        0.02,
        gt=0,
        le=1,
        description="How likely a feature is not zero; 0.001 in the paper, which also makes ten at "
        "a time.",
    )
    d_hidden: int = Field(2, ge=1, description="Hidden dimensions; pictures are drawn of 2.")
    sizes: list[int] = Field(
        [3, 4, 5, 6, 8, 12, 20, 40, 80, 150, 300, 600, 1200],
        min_length=1,
        description="Numbers of examples T, each a training of its own.",
    )
    n_seeds: int = Field(3, ge=1, description="Models, and sets of examples, of each number.")
    test_examples: int = Field(2000, ge=1, description="Examples that no model has seen.")
    steps: int = Field(3000, ge=1, description="Updates of every model; 50,000 in the paper.")
    lr: float = Field(
        1e-2,
        gt=0,
        description="AdamW's highest learning rate, after a warm-up; 1e-3 in the paper. With "
        f"endless data {ENDLESS_LR} of it.",
    )
    batch_size: int = Field(
        512, ge=1, description="Of models with endless data; the others see all examples always."
    )

    @field_validator("sizes")
    @classmethod
    def _sizes_are_numbers_of_examples(cls, sizes: list[int]) -> list[int]:
        if min(sizes) < 2 or len(set(sizes)) < len(sizes):
            raise ValueError("sizes must be different numbers of at least 2")
        return sizes


@register
class SuperpositionMemorisation(Analysis[MemorisationParams]):
    """Polygons of examples, then of features, and a peak of the test loss between them.

    Henighan, Carter, Hume, Elhage, Lasenby, Fort, Schiefer and Olah (2023), Superposition,
    Memorization, and Double Descent: the ReLU-output toy on T examples of unit length, all of them
    at every step, AdamW with a weight decay of 0.01, a learning rate that rises and then falls by a
    cosine. The paper has n = 10,000 features of density 0.001 and 50,000 steps; the defaults here
    are n = 500 of density 0.02, which leaves as many features in an example, and 3,000 larger
    steps: three to four CPU minutes. The paper's own size, one for a GPU, with sizes up to 10,000
    and more:

        --set n_features=10000 --set density=0.001 --set steps=50000 --set lr=0.001
    """

    name = "superposition-memorisation"
    question = "When do toys memorise their examples, and when do they learn features?"
    caveat = (
        "The number of examples at which memorising ends and features begin goes up with the "
        "number of features, so that here, with far fewer than in the paper, both it and the peak "
        "of the test loss come earlier; that they come, and in this order, can be compared. Two "
        "examples also share features more often than there, which bends the polygons of "
        "examples. Sets of one seed are nested: T examples are the first of any larger set, so "
        "points of a curve are not independent, and the error bars are over a few seeds. Test "
        "losses are means over examples of the summed squared error; near the peak a few examples "
        "with large outputs carry much of them. Five features of many are little: at the defaults "
        "endless data take the loss from 1 to 0.976, of which biases alone give 0.015, so that "
        "losses within 0.05 of each other say that there is no peak left, not how much is learned. "
        "Models are trained for a fixed number of steps, and memorising beyond a dozen examples in "
        "two dimensions has many local minima. "
        "Dimensionalities of examples and of features both sum to at most d_hidden, whatever is "
        "learned; what tells the two apart is how few share the sum."
    )
    needs_model = False
    lengthy = True

    def quick(self, params: MemorisationParams) -> MemorisationParams:
        """Fewer features, sizes and steps."""
        small = {
            "n_features": 60,
            "density": 0.1,
            "sizes": [3, 5, 20, 40, 400],
            "n_seeds": 2,
            "steps": 400,
            "lr": 3e-2,
            "batch_size": 256,
            "test_examples": 500,
        }
        return params.model_copy(update=small)

    def run(self, model: None, params: MemorisationParams) -> AnalysisResult:
        """Train on each number of examples and on endless ones; look at what is represented."""
        found, checks = [], []
        for one, check in _trained(params):
            found += one
            checks.append(check)
        classes = len(list(size_classes(params.sizes)))
        with stage(classes, classes + 1, "endless examples"):
            endless, check = _endless(params)
        checks.append(check)
        tables = {
            "losses": losses_table(found, endless),
            "dimensionality": dimensionality_table([*found, *endless]),
            "geometry": geometry_table([*found, *endless]),
        }
        if params.d_hidden == 2:
            tables["vectors"] = vectors_table(found, endless)
        tables["findings"] = findings_of(tables, params.d_hidden)
        worst = max(checks, key=lambda each: each.value)
        return self.result(
            model,
            params,
            tables=tables,
            figures=figures(tables),
            checks=[worst, *_checks(found, params)],
        )


def _test(params: MemorisationParams, device: torch.device) -> Tensor:
    """Examples of a seed that no model has."""
    source = SparseFeatures.of(
        1,
        params.n_features,
        params.density,
        unit_norm=True,
        seeds=params.seed + params.n_seeds,
        device=device,
    )
    return source.batch(0, params.test_examples).x


def _trained(params: MemorisationParams) -> Iterator[tuple[list[Memorised], Check]]:
    """Models of all sizes and seeds, a class of sizes in one stack, and the check of their loss."""
    device = device_of(params)
    test = _test(params, device)
    n = params.n_features
    classes = list(size_classes(params.sizes))
    for i, sizes in enumerate(classes):
        each_size = [size for size in sizes for _ in range(params.n_seeds)]
        count = len(each_size)
        seeds = params.seed + torch.arange(params.n_seeds).repeat(len(sizes))
        source = SparseFeatures.of(
            count, n, params.density, unit_norm=True, seeds=seeds, device=device
        )
        data = FiniteExamples.of(source, each_size)
        require(
            bool(data.x.flatten(1).any(1).all()),
            "every training set must hold a feature that is not zero: raise the density "
            f"({params.density}), n_features ({n}) or the sizes ({min(sizes)} …)",
        )
        models = ToyModel(count, n, params.d_hidden, seeds=seeds, device=device)
        loss = ReconstructionLoss.of(count, n, device=device)
        with stage(i, len(classes) + 1, "the same examples again and again"):
            train_toys(
                models,
                data,
                loss,
                params,
                whole_set=True,
                decay="cosine",
                warmup_steps=int(WARM_UP * params.steps),
            )
        found = [
            _memorised(models, i, data.x[i, :size], test, int(seeds[i]))
            for i, size in enumerate(each_size)
        ]
        yield found, loss_check(models, data, loss)


def _endless(params: MemorisationParams) -> tuple[list[Memorised], Check]:
    """Models that never see an example twice."""
    device = device_of(params)
    count, n = params.n_seeds, params.n_features
    seeds = params.seed + torch.arange(count)
    data = SparseFeatures.of(count, n, params.density, unit_norm=True, seeds=seeds, device=device)
    models = ToyModel(count, n, params.d_hidden, seeds=seeds, device=device)
    loss = ReconstructionLoss.of(count, n, device=device)
    slower = params.model_copy(update={"lr": ENDLESS_LR * params.lr})
    train_toys(models, data, loss, slower, decay="cosine", warmup_steps=int(WARM_UP * params.steps))
    test = _test(params, device)
    found = [_memorised(models, i, None, test, int(seeds[i])) for i in range(count)]
    return found, loss_check(models, data, loss)


@torch.no_grad()
def _memorised(
    models: ToyModel, instance: int, examples: Tensor | None, test: Tensor, seed: int
) -> Memorised:
    one = models.select(torch.tensor([instance], device=test.device))

    def loss_of(x: Tensor) -> float:
        return float((one(x[None]) - x).square().sum(-1).mean())

    return Memorised(
        size=None if examples is None else len(examples),
        seed=seed,
        W=one.W[0].double().cpu(),
        hidden=None if examples is None else one.hidden(examples[None])[0].double().cpu(),
        train_loss=math.nan if examples is None else loss_of(examples),
        test_loss=loss_of(test[0]),
    )


def _checks(found: list[Memorised], params: MemorisationParams) -> list[Check]:
    """What holds for all weights, however they were trained."""
    tolerance = TOLERANCES[torch.float64]
    errors, sums = [], []
    for each in found:
        assert each.hidden is not None
        few = each.hidden[:CHECKED_EXAMPLES]
        gram = few @ few.T
        plain = gram.diagonal().square() / gram.square().sum(-1).clamp(min=1e-300)
        errors.append(scaled_error(example_dimensionality(few), plain))
        sums += [example_dimensionality(each.hidden).sum(), feature_dimensionality(each.W).sum()]
    return [
        Check(
            "dimensionalities of examples are those of their Gram matrix",
            max(errors),
            tolerance,
            f"of at most {CHECKED_EXAMPLES} of a set; {SCALED}",
        ),
        Check(
            "dimensionalities sum to no more than there are dimensions",
            max(0.0, float(torch.stack(sums).max()) - params.d_hidden),
            tolerance,
            "of examples and of features; largest sum less d_hidden, or 0",
        ),
    ]
