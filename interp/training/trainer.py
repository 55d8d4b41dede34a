"""Training a model on batches and a loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from interp.training.history import History
from interp.training.loop import Model, Task, run_task
from interp.training.settings import TrainSettings

Batch = TypeVar("Batch")


def train(
    model: Model,
    batch: Callable[[int, torch.Generator], Batch],
    loss: Callable[[Model, Batch], Float[Tensor, ""]],
    settings: TrainSettings,
    *,
    evaluate: Callable[[Model], Mapping[str, float]] | None = None,
    callbacks: Sequence[Callable[[int, Model], object]] = (),
    run_dir: str | Path | None = None,
    resume: bool = False,
    progress: bool = False,
) -> History:
    """Train a model in place.

    Step k sees weights that have had k updates. Each step takes the loss of its batch, logs it if
    it is due, and then updates the weights; one more step, without an update, closes the run. All
    that a step draws at random is a function of `(settings.seed, step)` alone, so a run that goes
    on from a checkpoint ends, on the CPU, with the same bits. torch's global random state is
    neither read nor moved.

    Args:
        model: Any module.
        batch: `batch(step, generator)` gives a step's data, on the model's device. The generator is
            a CPU generator, fresh at every step.
        loss: `loss(model, batch)` gives the scalar to make small.
        settings: The optimiser, its schedule and how often to look.
        evaluate: `evaluate(model)` gives more columns of the history; called at logged steps,
            without gradients and in eval mode.
        callbacks: Called as `callback(step, model)` at every step, before the update; they may
            read the model, not change it. A resumed run calls them again at its first step.
        run_dir: Where `history.parquet` and the latest `checkpoint/` go. None: nothing is written.
        resume: Go on from the checkpoint in `run_dir`, if there is one.
        progress: Show a progress bar.

    Returns:
        The history: `step`, `loss`, `lr` and `grad_norm` (before clipping) of the update that
        followed (None at the last step), and the columns of `evaluate`.

    Raises:
        InputError: if nothing can be trained, if the loss is not a scalar, if `evaluate` gives a
            column that there is, if `resume` has no `run_dir`, or if the checkpoint is of another
            model or of other settings.
        TrainingDivergedError: if the loss is infinite or NaN at a step that is logged or saved.
    """
    return run_task(
        _OfBatches(model, batch, loss),
        settings,
        evaluate=evaluate,
        callbacks=callbacks,
        run_dir=run_dir,
        resume=resume,
        progress=progress,
    )


class _OfBatches(Task[Model], Generic[Model, Batch]):
    def __init__(
        self,
        model: Model,
        batch: Callable[[int, torch.Generator], Batch],
        loss: Callable[[Model, Batch], Tensor],
    ) -> None:
        self.model = self.state = model
        self._batch, self._loss = batch, loss

    def loss(self, step: int, generator: torch.Generator) -> Tensor:
        """The loss of the step's batch."""
        return self._loss(self.model, self._batch(step, generator))
