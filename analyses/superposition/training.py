"""What the analyses of toys that are trained for them share: how they are asked, and trained."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from analyses.base import Parameters
from analyses.results.checks import SCALED, TOLERANCES, scaled_error
from analyses.results.result import Check
from interp.errors import require
from interp.toys import ToyModel, ToyRun, ToySettings, train
from interp.toys.batch import Data
from interp.toys.loss import ReconstructionLoss

HELD_OUT_SEED = 1 << 40  # the same examples for all toys of one kind, so that losses compare
COMPILED_FROM = 3000
"""Steps that are worth the seconds that compiling takes."""
CHECKED_INSTANCES = 3


# What analyses ask alike, each with a default of its own.
Steps = Annotated[int, Field(ge=1, description="Updates of every model.")]
BatchSize = Annotated[int, Field(ge=1, description="Examples of a model at each update.")]
Rate = Annotated[float, Field(gt=0, description="AdamW's learning rate, at its highest.")]
FallingRate = Annotated[
    float, Field(gt=0, description="AdamW's highest learning rate; it falls to 0.")
]
WeightDecay = Annotated[float, Field(ge=0, description="AdamW's decoupled weight decay.")]


class TrainedToys(Parameters):
    """How the toys of an analysis are trained; the defaults are the paper's notebook's."""

    steps: Steps = 10_000
    batch_size: BatchSize = 1024
    lr: float = Field(1e-3, gt=0, description="AdamW's learning rate.")
    weight_decay: WeightDecay = 0.01
    seed: int = Field(0, ge=0, description="Of the first model's weights and data; others follow.")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where toys are trained; auto is the GPU if there is one."
    )
    compiled: bool | None = Field(
        None,
        description="Whether the step is compiled, which takes seconds at first; by default from "
        f"{COMPILED_FROM} steps on.",
    )


def device_of(params: TrainedToys) -> torch.device:
    """Where toys are trained.

    Raises:
        InputError: If a GPU is asked for and there is none.
    """
    there = torch.cuda.is_available()
    require(there or params.device != "cuda", "device cuda needs a GPU; torch sees none here")
    return torch.device("cuda" if there and params.device != "cpu" else "cpu")


def train_toys(
    models: ToyModel | Any,
    data: Data,
    loss: ReconstructionLoss | Any,
    params: TrainedToys,
    *,
    snapshots: Sequence[int] = (),
    log_every: int | None = None,
    whole_set: bool = False,
    watch: Callable[[int, Any], None] | None = None,
    **more: Any,
) -> ToyRun:
    """Train models in place as the parameters say; with a bar where a terminal shows it.

    Args:
        models: To be trained.
        data: What on.
        loss: What for.
        params: Of the analysis.
        snapshots: Numbers of updates after which the parameters are kept.
        log_every: Steps between losses; by default a hundredth of all.
        whole_set: Whether every batch is the whole of a finite set.
        watch: Called where a snapshot is kept, as `interp.toys.train` says; all models are then
            trained in a single chunk.
        **more: Other fields of `ToySettings`, such as a decay.
    """
    compiled = params.steps >= COMPILED_FROM if params.compiled is None else params.compiled
    on_gpu = next(models.parameters()).device.type == "cuda"
    settings = ToySettings(
        steps=params.steps,
        batch_size=None if whole_set else params.batch_size,
        lr=params.lr,
        weight_decay=params.weight_decay,
        snapshots=tuple(snapshots),
        log_every=max(1, params.steps // 100) if log_every is None else log_every,
        compile=compiled,
        cuda_graph=on_gpu and params.steps >= COMPILED_FROM,
        **more,
    )
    return train(
        models,
        data,
        loss,
        settings,
        chunk_size=None if watch is None else models.n_instances,
        progress=sys.stdout.isatty(),
        watch=watch,
    )


@torch.no_grad()
def loss_check(models: ToyModel, data: Data, loss: ReconstructionLoss, step: int = 0) -> Check:
    """The losses of a few instances beside the paper's formula, written out for each alone.

    Args:
        models: Trained or not.
        data: Where a batch of 64 examples is taken from.
        loss: Of all instances.
        step: Of the batch.
    """
    chosen = torch.linspace(0, models.n_instances - 1, CHECKED_INSTANCES).long().unique()
    chosen = chosen.to(models.W.device)
    part, some, cost = models.select(chosen), data.select(chosen), loss.select(chosen)
    batch = some.batch(step, 64)
    found = cost(part(batch.x), batch)
    plain = []
    for i in range(len(chosen)):
        hidden = batch.x[i] @ part.W[i].T
        hidden = torch.where(part.hidden_leak[i] > 0, hidden, hidden.clamp(min=0))
        back = part.W[i] if part.W_out is None else part.W_out[i].T
        out = hidden @ back + part.b[i]
        out = torch.where(part.output_leak[i] > 0, out, out.clamp(min=0))
        error = (batch.target[i] - out).abs() ** cost.power[i]
        plain.append((cost.importance[i] * error).mean())
    return Check(
        "losses are those of each model alone",
        scaled_error(found, torch.stack(plain)),
        TOLERANCES[models.W.dtype],
        SCALED,
    )
