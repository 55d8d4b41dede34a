"""Toys of any settings, at several densities, and what they look like while they are trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from analyses.base import Analysis
from analyses.registry import register
from analyses.results.checks import SCALED, scaled_error
from analyses.results.result import AnalysisResult, Check
from analyses.superposition.fractions import FromDensest
from analyses.superposition.identities import weight_checks
from analyses.superposition.toys_tables import Toys, figures, tables_of
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
from interp.errors import require
from interp.toys import ReconstructionLoss, SparseFeatures, ToyModel, geometric_importance
from interp.toys.settings import Decay

HELD_OUT = 4096  # examples: the same at every snapshot

Watcher = Callable[[Toys], None]
_watcher: ContextVar[Watcher | None] = ContextVar("watcher of superposition-toys", default=None)


@contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """While this lasts, `superposition-toys` shows its toys as they are trained.

    Args:
        watcher: Called at each snapshot with the best toy of each density so far.
    """
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


class ToysParams(TrainedToys):
    """Which toys are trained, on what, and how often they are looked at."""

    n_features: int = Field(5, ge=2, le=50, description="Features of each toy, n.")
    d_hidden: int = Field(2, ge=1, le=20, description="Hidden dimensions of each toy, m.")
    densities: FromDensest = Field(
        [1.0, 0.5, 0.3, 0.2, 0.1, 0.05, 0.02],
        min_length=1,
        max_length=30,
        description="1 - S: how likely each feature is not zero.",
    )
    importance: float = Field(
        0.9, gt=0, le=1, description="Of each feature, times the one before; 1: all are alike."
    )
    hidden: Literal["linear", "relu"] = Field(
        "linear", description="Activation of the hidden layer: linear is none."
    )
    output: Literal["relu", "linear"] = Field("relu", description="Activation of the output.")
    tied: bool = Field(True, description="Whether the way back is the transpose of the way in.")
    values: Literal["uniform", "signed", "binary"] = Field(
        "uniform", description="A feature that is there is uniform in 0 … 1, in -1 … 1, or is 1."
    )
    target: Literal["identity", "absolute"] = Field(
        "identity", description="What the output should be: the features, or their sizes |x|."
    )
    correlation: float = Field(
        0.0,
        ge=-1,
        le=1,
        description="Of the presence of features of one group; below 0 they exclude one another.",
    )
    group_size: int = Field(
        2, ge=2, le=50, description="Features of a group; of no account at correlation 0."
    )
    n_seeds: int = Field(5, ge=1, le=100, description="Toys of each density; the best is shown.")
    n_snapshots: int = Field(
        40, ge=1, le=200, description="Equally spaced snapshots after the start."
    )
    steps: Steps = 2000
    batch_size: BatchSize = 256
    lr: Rate = 1e-2
    weight_decay: WeightDecay = 0.0
    decay: Decay = Field("cosine", description="How the learning rate falls to 0.")
    init_scale: float = Field(
        1.0, gt=0, le=10, description="Times Xavier's initial weights; small ones show stages."
    )
    tolerance: float = Field(
        7.0, gt=0, lt=30, description="Degrees by which angles may be off a shape's."
    )

    @model_validator(mode="after")
    def _settings_agree(self) -> ToysParams:
        if self.n_snapshots > self.steps:
            raise ValueError(f"n_snapshots must be at most steps, got {self.n_snapshots}")
        if self.correlation and self.n_features % self.group_size:
            raise ValueError(
                f"n_features must be a multiple of group_size, got {self.n_features} and "
                f"{self.group_size}"
            )
        if self.target == "absolute" and self.values != "signed":
            raise ValueError(
                f"the target absolute differs from the input for signed values only, "
                f"got {self.values!r}"
            )
        return self

    @property
    def snapshot_steps(self) -> list[int]:
        """Updates before each snapshot, from 0 to all."""
        parts = range(self.n_snapshots + 1)
        return sorted({round(i * self.steps / self.n_snapshots) for i in parts})


@register
class SuperpositionToys(Analysis[ToysParams]):
    """Toys of the reader's own settings, from dense features to sparse ones.

    Elhage et al. 2022, Toy Models of Superposition, “Demonstrating Superposition”, Setup:
    x' = ReLU(WᵀW x + b) and its variants there, features of importance rⁱ. Toys of all densities
    and seeds are trained at once; the one with the least loss on held-out examples is shown for
    each density, from its start on.

    The default trains 35 toys for 2,000 steps of 256 examples: about 10 seconds on a CPU core.
    """

    name = "superposition-toys"
    question = "How do toys of these settings arrange their features, and how do they get there?"
    needs_model = False
    caveat = (
        "Of each density the best of a few toys is shown, and a toy is one local minimum of many: "
        "other seeds end in other arrangements, and none need be the best there is. The settings "
        "are chosen for speed: a learning rate that is high at first and falls to 0, small "
        "batches, no weight decay; the paper's notebook trains longer at a constant rate. Which "
        "toy is best, and all losses over time, are told by one held-out sample of "
        f"{HELD_OUT:,} examples. A shape's name says that all its angles are within the "
        "tolerance. A feature with less than a quarter of the largest norm counts as absent. "
        "Measures of untied toys are those of the way in."
    )

    def quick(self, params: ToysParams) -> ToysParams:
        """Four densities and few steps of small batches."""
        smaller = {
            "densities": [1.0, 0.3, 0.1, 0.02],
            "n_seeds": 3,
            "steps": 400,
            "batch_size": 128,
            "lr": 3e-2,
            "n_snapshots": 20,
        }
        return params.model_copy(update=smaller)

    def run(self, model: None, params: ToysParams) -> AnalysisResult:
        """Train all toys together and follow the best of each density."""
        toys, checks = _train(params)
        tables = tables_of(toys)
        return self.result(model, params, tables=tables, figures=figures(tables), checks=checks)


def _train(params: ToysParams) -> tuple[Toys, list[Check]]:
    device, n_features = device_of(params), params.n_features
    densities = torch.tensor(params.densities, dtype=torch.float64)
    density = densities.repeat_interleave(params.n_seeds)
    seeds = torch.arange(params.n_seeds).repeat(len(densities)) + params.seed
    count = len(density)
    importance = geometric_importance(n_features, params.importance, device=device)
    models = ToyModel(
        count,
        n_features,
        params.d_hidden,
        hidden=params.hidden,
        output=params.output,
        tied=params.tied,
        init_scale=params.init_scale,
        seeds=seeds,
        device=device,
    )
    data = SparseFeatures.of(
        count,
        n_features,
        density[:, None],
        correlation=params.correlation,
        group_size=params.group_size if params.correlation else 1,
        values=params.values,
        target=params.target,
        seeds=seeds,
        device=device,
    )
    loss = ReconstructionLoss.of(count, n_features, importance, device=device)
    unseen = data.batch(params.steps, HELD_OUT)
    losses: dict[int, Tensor] = {}
    kept: dict[int, dict[str, Tensor]] = {}
    watcher = _watcher.get()

    def snapshot(step: int, found: Any) -> None:
        with torch.no_grad():
            losses[step] = loss(found(unseen.x), unseen).double().cpu()
        names = ("W", "b") if params.tied else ("W", "W_out", "b")
        kept[step] = {name: getattr(found, name).detach().double().cpu() for name in names}
        require(
            bool(losses[step].isfinite().all()),
            f"training must stay finite: give a smaller lr. Received {params.lr}",
        )
        if watcher is not None:
            watcher(toys_of([step]))

    def toys_of(steps: list[int]) -> Toys:
        W = torch.stack([kept[step]["W"] for step in steps])
        back = None if params.tied else torch.stack([kept[step]["W_out"] for step in steps])
        return Toys(
            steps=steps,
            densities=params.densities,
            seeds=seeds,
            importance=importance.double().cpu(),
            W=W,
            W_out=back,
            b=torch.stack([kept[step]["b"] for step in steps]),
            loss=torch.stack([losses[step] for step in steps]),
            tolerance=params.tolerance,
            hidden=params.hidden,
        )

    steps = params.snapshot_steps
    train_toys(models, data, loss, params, snapshots=steps, decay=params.decay, watch=snapshot)
    toys = toys_of(steps)
    return toys, [
        loss_check(models, data, loss),
        *weight_checks(toys.W[-1]),
        Check(
            "the last snapshot is the model",
            scaled_error(toys.W[-1], models.W.detach().cpu()),
            0.0,
            SCALED,
        ),
    ]
