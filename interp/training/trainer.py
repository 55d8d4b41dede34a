"""The training loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from interp.errors import InputError, InterpError
from interp.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from interp.training.history import History
from interp.training.progress import progress_bar
from interp.training.randomness import global_seed, step_generator, step_seed
from interp.training.settings import TrainSettings, learning_rate

Batch = TypeVar("Batch")
Model = TypeVar("Model", bound=nn.Module)


class TrainingDivergedError(InterpError, ArithmeticError):
    """The loss is no longer a number."""


def train(
    model: Model,
    batch: Callable[[int, torch.Generator], Batch],
    loss: Callable[[Model, Batch], Tensor],
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
        InputError: if nothing can be trained, if the loss is not a scalar, if `resume` has no
            `run_dir`, or if the checkpoint is of another model or of other settings.
        TrainingDivergedError: if the loss is infinite or NaN at a step that is logged or saved.
    """
    if resume and run_dir is None:
        raise InputError("resume needs the run_dir that holds the checkpoint. Received None.")
    optimizer = make_optimizer(model, settings)
    parameters = [p for p in model.parameters() if p.requires_grad]
    device = parameters[0].device
    folder = None if run_dir is None else Path(run_dir)
    start, history = 0, History()
    if resume and folder is not None and (folder / "checkpoint").exists():
        found = load_checkpoint(folder / "checkpoint", model, optimizer, settings)
        start, history = found.step, found.history

    with _mode(model, training=True), progress_bar(settings.steps, start, progress) as advance:
        for step in range(start, settings.steps + 1):
            last = step == settings.steps
            logs = last or step % settings.log_every == 0
            saves = folder is not None and step > start and (last or _due(step, settings))
            with global_seed(step_seed(settings.seed, step), device):
                value = loss(model, batch(step, step_generator(settings.seed, step)))
                _check(value, step, finite=logs or saves)
                for callback in callbacks:
                    callback(step, model)
                measured = _measure(model, evaluate) if logs else {}
                if saves and folder is not None:
                    # The rows before this step: a resumed run logs this one again.
                    state = Checkpoint(step, history.before(step))
                    save_checkpoint(folder / "checkpoint", model, optimizer, settings, state)
                norm = None if last else _update(value, step, parameters, optimizer, settings)
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


def make_optimizer(model: nn.Module, settings: TrainSettings) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices alone: not on biases, whatever their shape, or norms.

    Raises:
        InputError: without parameters.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    if not named:
        raise InputError("a model must have parameters that require gradients. This one has none.")
    groups = [
        {"params": [p for n, p in named if _decays(n, p)], "weight_decay": settings.weight_decay},
        {"params": [p for n, p in named if not _decays(n, p)], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [g for g in groups if g["params"]], lr=settings.lr, betas=settings.betas
    )


def _decays(name: str, parameter: nn.Parameter) -> bool:
    last = name.rsplit(".", 1)[-1].lstrip("_")
    return parameter.ndim >= 2 and not last.startswith("b_")  # b_Q is [head, d_head]


def _update(
    loss: Tensor,
    step: int,
    parameters: Sequence[nn.Parameter],
    optimizer: torch.optim.Optimizer,
    settings: TrainSettings,
) -> Tensor:
    """One step of the optimiser; gives the gradient's norm before clipping."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step, settings)
    optimizer.zero_grad()
    loss.backward()
    limit = math.inf if settings.max_grad_norm is None else settings.max_grad_norm
    norm = nn.utils.clip_grad_norm_(parameters, limit)
    optimizer.step()
    return norm


def _due(step: int, settings: TrainSettings) -> bool:
    return settings.checkpoint_every is not None and step % settings.checkpoint_every == 0


def _check(loss: Tensor, step: int, finite: bool) -> None:
    if loss.ndim != 0:
        raise InputError(f"a loss must be a scalar. Received shape {tuple(loss.shape)}.")
    if finite and not math.isfinite(loss.item()):
        raise TrainingDivergedError(f"the loss is {loss.item()} at step {step}.")


def _measure(
    model: Model, evaluate: Callable[[Model], Mapping[str, float]] | None
) -> dict[str, float]:
    if evaluate is None:
        return {}
    with torch.no_grad(), _mode(model, training=False):
        return dict(evaluate(model))


@contextmanager
def _mode(model: nn.Module, training: bool) -> Iterator[None]:
    before = {module: module.training for module in model.modules()}
    model.train(training)
    try:
        yield
    finally:
        for module, mode in before.items():
            module.training = mode
