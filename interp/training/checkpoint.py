"""A training run on disk, from which it can go on as if it had never stopped.

`model.safetensors` holds the weights, `training.pt` the optimiser's state, the step, the settings
and the history. There is no generator state: see `randomness`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from torch import Tensor, nn

from interp.errors import InputError, is_whole
from interp.files import TensorFile, contained, load_plain, require_finite, short
from interp.files.atomic import replacing_directory
from interp.training.history import History
from interp.training.optimizer_state import require_fit
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
    """Put a saved run's state into a model and its optimiser; all of it is checked before.

    Raises:
        InputError: if it was made with other settings, or if it is damaged or of another model.
    """
    try:
        training = load_plain(contained(directory, directory / _TRAINING))
    except InputError as fault:
        raise InputError(f"{directory} is not a whole checkpoint: {fault}") from fault
    if not _is_training(training):
        raise InputError(f"{directory / _TRAINING} is not a whole checkpoint.")
    _check_same(training["settings"], settings, directory)
    if training["step"] > settings.steps:
        raise InputError(
            f"{directory} is at step {short(training['step'], 40)} of {settings.steps}."
        )
    _check_weights(model, TensorFile(contained(directory, directory / _WEIGHTS)))
    require_fit(optimizer, training["optimizer"], directory)
    for number, kept in training["optimizer"]["state"].items():
        for name, value in kept.items():
            if isinstance(value, Tensor):
                require_finite(f"{name} of parameter {number}", value, directory)
    own = [dict(group) for group in optimizer.param_groups]
    try:
        load_model(model, directory / _WEIGHTS)
        optimizer.load_state_dict(training["optimizer"])
    except (OSError, RuntimeError, ValueError, SafetensorError) as fault:
        raise InputError(f"{directory} does not fit this model: {short(fault)}") from fault
    for group, settings_of in zip(optimizer.param_groups, own, strict=True):
        group.update({name: v for name, v in settings_of.items() if name != "params"})
    return Checkpoint(training["step"], History(training["history"]))


def _is_training(found: Any) -> bool:
    """Whether it is what `save_checkpoint` writes beside the weights."""
    if not isinstance(found, dict) or set(found) != {"step", "history", "settings", "optimizer"}:
        return False
    rows, plain = found["history"], int | float | NoneType
    return (
        is_whole(found["step"], 0)
        and isinstance(found["settings"], dict)
        and isinstance(rows, list)
        and all(isinstance(row, dict) and is_whole(row.get("step"), 0) for row in rows)
        and all(isinstance(k, str) and isinstance(v, plain) for row in rows for k, v in row.items())
    )


def _check_weights(model: nn.Module, file: TensorFile) -> None:
    """Check names, shapes, dtypes and numbers; of tensors that share memory one name is saved."""
    state = model.state_dict()
    by_memory: dict[object, set[str]] = {}
    for name, weight in state.items():
        by_memory.setdefault(_memory(name, weight), set()).add(name)
    foreign = set(file) - set(state)
    missing = [min(names) for names in by_memory.values() if not names & set(file)]
    if foreign or missing:
        raise InputError(
            f"{file.path} does not fit this model: missing {short(sorted(missing), 100)}, "
            f"unexpected {short(sorted(foreign), 100)}."
        )
    for name, outline in file.outlines.items():
        if outline.shape != state[name].shape or outline.dtype != state[name].dtype:
            raise InputError(
                f"{file.path} does not fit this model: {name} must be {state[name].dtype} "
                f"{tuple(state[name].shape)}. It is {outline.dtype} {short(outline.shape, 80)}."
            )
        require_finite(name, file[name], file.path)


def _memory(name: str, weight: Tensor) -> object:
    return (weight.device, weight.data_ptr()) if weight.numel() else name


def _check_same(saved: dict[str, object], settings: TrainSettings, directory: Path) -> None:
    given = settings.what_decides_weights()
    changed = [
        f"{k}: {short(repr(saved.get(k)), 80)} → {given[k]!r}"
        for k in given
        if saved.get(k) != given[k]
    ]
    if changed:
        raise InputError(
            f"a run must go on with the settings it began with. {directory} has other ones: "
            f"{'; '.join(changed)}."
        )
