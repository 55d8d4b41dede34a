"""The one loop that trains, and what a task tells it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from interp.errors import InputError, InterpError, require
from interp.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from interp.training.history import History
from interp.training.optimizer import make_optimizer
from interp.training.progress import progress_bar
from interp.training.randomness import global_seed, step_generator, step_seed
from interp.training.settings import TrainSettings, learning_rate

Model = TypeVar("Model", bound=nn.Module)


class TrainingDivergedError(InterpError, ArithmeticError):
    """The loss is no longer a number."""


class Task(ABC, Generic[Model]):
    """What is trained, and what its steps do besides AdamW's update.

    Attributes:
        model: What callbacks and `evaluate` see.
        state: The module whose parameters are trained, and which a checkpoint holds: the model, or
            one that has it beside buffers of what its training knows.
    """

    model: Model
    state: nn.Module

    @abstractmethod
    def loss(self, step: int, generator: torch.Generator) -> Float[Tensor, ""]:
        """The scalar to make small at a step; the generator is a fresh CPU generator."""

    def columns(self) -> Mapping[str, float]:
        """More columns of the history, of the step whose loss was asked for last."""
        return {}

    def change_gradients(self) -> None:
        """Called before gradients are measured and clipped."""
        return

    def after_update(
        self, step: int, generator: torch.Generator, optimizer: torch.optim.Optimizer
    ) -> None:
        """Called after the step's update, with its generator, which has gone on."""
        return


def run_task(
    task: Task[Model],
    settings: TrainSettings,
    *,
    evaluate: Callable[[Model], Mapping[str, float]] | None = None,
    callbacks: Sequence[Callable[[int, Model], object]] = (),
    run_dir: str | Path | None = None,
    resume: bool = False,
    progress: bool = False,
) -> History:
    """Train a task in place; see `train`, which is this for a model, batches and a loss.

    Raises:
        InputError: as `train`; if `evaluate` gives a column that there is.
        TrainingDivergedError: if the loss is infinite or NaN at a step that is logged or saved.
    """
    require(
        not resume or run_dir is not None,
        "resume needs the run_dir that holds the checkpoint. Received None",
    )
    optimizer = make_optimizer(task.state, settings)
    parameters = [p for p in task.state.parameters() if p.requires_grad]
    device = parameters[0].device
    folder = None if run_dir is None else Path(run_dir)
    start, history = 0, History()
    if resume and folder is not None and (folder / "checkpoint").exists():
        found = load_checkpoint(folder / "checkpoint", task.state, optimizer, settings)
        start, history = found.step, found.history

    with _mode(task.state, training=True), progress_bar(settings.steps, start, progress) as advance:
        for step in range(start, settings.steps + 1):
            last = step == settings.steps
            logs = last or step % settings.log_every == 0
            saves = folder is not None and step > start and (last or _due(step, settings))
            generator = step_generator(settings.seed, step)
            with global_seed(step_seed(settings.seed, step), device):
                value = task.loss(step, generator)
                _check(value, step, finite=logs or saves)
                for callback in callbacks:
                    callback(step, task.model)
                measured = _measure(task, evaluate) if logs else {}
                if saves and folder is not None:
                    # The rows before this step: a resumed run logs this one again.
                    state = Checkpoint(step, history.before(step))
                    save_checkpoint(folder / "checkpoint", task.state, optimizer, settings, state)
                norm = None
                if not last:
                    for group in optimizer.param_groups:
                        group["lr"] = learning_rate(step, settings)
                    optimizer.zero_grad()
                    value.backward()
                    task.change_gradients()
                    norm = _clip(parameters, settings.max_grad_norm, measures=logs)
                    optimizer.step()
                    task.after_update(step, generator, optimizer)
            if logs:
                history.add(
                    step,
                    loss=value.item(),
                    lr=None if last else learning_rate(step, settings),
                    grad_norm=None if norm is None else norm.item(),
                    **measured,
                )
            if saves and folder is not None:
                history.write(folder / "history.parquet")
            advance(step, value)
    return history


def _clip(parameters: list[nn.Parameter], limit: float | None, measures: bool) -> Tensor | None:
    """Clip gradients; gives their norm before that, unless nothing needs it."""
    if limit is None and not measures:
        return None
    norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if limit is not None:
        nn.utils.clip_grads_with_norm_(parameters, limit, norm)
    return norm


def _due(step: int, settings: TrainSettings) -> bool:
    return settings.checkpoint_every is not None and step % settings.checkpoint_every == 0


def _check(loss: Tensor, step: int, finite: bool) -> None:
    if loss.ndim != 0:
        raise InputError(f"a loss must be a scalar. Received shape {tuple(loss.shape)}.")
    if finite and not math.isfinite(loss.item()):
        raise TrainingDivergedError(f"the loss is {loss.item()} at step {step}.")


def _measure(
    task: Task[Model], evaluate: Callable[[Model], Mapping[str, float]] | None
) -> dict[str, float]:
    """The columns of a logged step besides the loop's own."""
    with torch.no_grad():
        columns = dict(task.columns())
        if evaluate is None:
            return columns
        with _mode(task.model, training=False):
            more = dict(evaluate(task.model))
    taken = sorted({"step", "loss", "lr", "grad_norm", *columns} & set(more))
    require(not taken, f"evaluate must give columns with names of their own. Received {taken}")
    return columns | more


@contextmanager
def _mode(model: nn.Module, training: bool) -> Iterator[None]:
    before = {module: module.training for module in model.modules()}
    model.train(training)
    try:
        yield
    finally:
        for module, mode in before.items():
            module.training = mode
