"""A training run on disk, from which it can go on as if it had never stopped.

`model.safetensors` holds the weights, `training.pt` the optimiser's state, the step, the settings
and the history. There is no generator state: see `randomness`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from torch import nn

from interp.atomic import replacing_directory
from interp.errors import InputError
from interp.training.history import History
from interp.training.settings import TrainSettings

_WEIGHTS = "model.safetensors"
_TRAINING = "training.pt"


@dataclass(frozen=True)
class Checkpoint:
    """Where a run stands.

    Attributes:
        step: Number of updates that the weights have had.
        history: The rows of earlier steps.
    """

    step: int
    history: History


def save_checkpoint(
    directory: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    settings: TrainSettings,
    checkpoint: Checkpoint,
) -> None:
    """Write a run's state; the directory is replaced as a whole."""
    with replacing_directory(directory) as fresh:
        save_model(model, str(fresh / _WEIGHTS))
        training = {
            "step": checkpoint.step,
            "history": checkpoint.history.rows,
            "settings": settings.what_decides_weights(),
            "optimizer": optimizer.state_dict(),
        }
        torch.save(training, fresh / _TRAINING)


def load_checkpoint(
    directory: Path, model: nn.Module, optimizer: torch.optim.Optimizer, settings: TrainSettings
) -> Checkpoint:
    """Put a saved run's state into a model and its optimiser.

    Raises:
        InputError: if it was made with other settings, or if it is damaged or of another model.
    """
    try:
        # weights_only: a checkpoint can hold tensors and plain values, not code.
        training = torch.load(directory / _TRAINING, map_location="cpu", weights_only=True)
    except Exception as fault:  # damaged bytes can make an unpickler raise anything
        raise InputError(f"{directory} is not a whole checkpoint: {fault}") from fault
    _check_same(training["settings"], settings, directory)
    try:
        load_model(model, directory / _WEIGHTS)
        optimizer.load_state_dict(training["optimizer"])
    except (OSError, RuntimeError, ValueError, SafetensorError) as fault:
        raise InputError(f"{directory} does not fit this model: {fault}") from fault
    return Checkpoint(training["step"], History(training["history"]))


def _check_same(saved: dict[str, object], settings: TrainSettings, directory: Path) -> None:
    given = settings.what_decides_weights()
    changed = [f"{k}: {saved.get(k)!r} → {given[k]!r}" for k in given if saved.get(k) != given[k]]
    if changed:
        raise InputError(
            f"a run must go on with the settings it began with. {directory} has other ones: "
            f"{'; '.join(changed)}."
        )
