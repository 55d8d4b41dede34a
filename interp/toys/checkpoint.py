"""A chunk of toys on disk, from which its training can go on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from interp.errors import InputError, is_whole
from interp.files import load_plain
from interp.files.atomic import replacing_file
from interp.toys.settings import ToySettings
from interp.training import optimizer_state


@dataclass(frozen=True)
class Saved:
    """Where the training of a chunk stands: all that its later steps depend on.

    Attributes:
        step: Updates that it has had.
        digest: Of what it is a run of, by part.
        models: The parameters and buffers.
        optimizer: AdamW's state.
        losses: Those kept so far.
        snapshots: Those kept so far.
    """

    step: int
    digest: dict[str, str]
    models: dict[str, Shaped[Tensor, "instance ..."]]
    optimizer: dict[str, Any]
    losses: Float[Tensor, "step instance"]
    snapshots: dict[int, dict[str, Float[Tensor, "instance ..."]]]


def digest_of(
    models: nn.Module,
    data: Any,
    loss: Any,
    settings: ToySettings,
    chunks: Sequence[Int[Tensor, "instance"]],
) -> dict[str, str]:
    """What a run is of, part by part, so that another one can be told which part differs."""
    trained = [name for name, value in models.named_parameters() if value.requires_grad]
    held = {**dict(models.named_parameters()), **dict(models.named_buffers())}
    return {
        "models": _digest({**held, "kind": repr(models), "trained": trained}),
        "data": _digest({**data.fields(), "kind": type(data).__qualname__}),
        "loss": _digest({**loss.fields(), "kind": type(loss).__qualname__}),
        "settings": json.dumps(settings.what_decides_weights(), sort_keys=True),
        "chunks": json.dumps([len(chunk) for chunk in chunks]),
    }


def _digest(fields: dict[str, object]) -> str:
    found = hashlib.sha256()
    for name, value in sorted(fields.items()):
        found.update(name.encode())
        if isinstance(value, Tensor):
            plain = value.detach().cpu().contiguous()
            found.update(f"{plain.dtype}{list(plain.shape)}".encode())
            found.update(plain.view(-1).view(torch.uint8).numpy().data)
        else:
            found.update(repr(value).encode())
    return found.hexdigest()


def _fault_in(fields: Any) -> str:
    """What keeps fields from being those that `save` writes; empty if nothing does."""
    if not isinstance(fields, dict) or set(fields) != set(Saved.__dataclass_fields__):
        return f"it must hold {', '.join(Saved.__dataclass_fields__)}"
    if not is_whole(fields["step"], 0):
        return "its step must be a whole number"
    if not _maps(fields["digest"], str, str):
        return "its digest must hold texts"
    if not _maps(fields["models"], str, Tensor) or not isinstance(fields["losses"], Tensor):
        return "its models and losses must be tensors"
    kept = fields["snapshots"]
    if not _maps(kept, int, dict) or not all(_maps(each, str, Tensor) for each in kept.values()):
        return "its snapshots must be tensors by step"
    optimizer = fields["optimizer"]
    if not _maps(optimizer, str, object) or set(optimizer) != {"state", "param_groups"}:
        return "its optimizer must have a state and groups of parameters"
    return ""


def _maps(value: object, key: type, entry: type) -> bool:
    return isinstance(value, dict) and all(
        isinstance(name, key) and isinstance(each, entry) for name, each in value.items()
    )


def require_fit(
    path: Path,
    saved: Saved,
    models: nn.Module,
    optimizer: torch.optim.Optimizer,
    losses: Float[Tensor, "step instance"],
    settings: ToySettings,
) -> None:
    """Check that a checkpoint's numbers fit this chunk, before any is taken over.

    Raises:
        InputError: If one does not.
    """
    expected = {name: (value.shape, value.dtype) for name, value in models.state_dict().items()}
    named = {name: expected[name] for name, _ in models.named_parameters()}
    fits = {name: (value.shape, value.dtype) for name, value in saved.models.items()} == expected
    fits &= saved.losses.shape == losses.shape and saved.losses.dtype == losses.dtype
    fits &= saved.step <= settings.steps
    fits &= set(saved.snapshots) == {step for step in settings.snapshots if step <= saved.step}
    for kept in saved.snapshots.values():
        fits &= {name: (value.shape, value.dtype) for name, value in kept.items()} == named
    if not fits:
        raise InputError(f"{path} is not a whole checkpoint of toys: its numbers do not fit them.")
    optimizer_state.require_fit(optimizer, saved.optimizer, path)


def save(path: Path, saved: Saved) -> None:
    """Write it; what stood there is replaced when all is written."""
    fields = {name: getattr(saved, name) for name in Saved.__dataclass_fields__}
    with replacing_file(path) as fresh:
        torch.save(fields, fresh)


def load(path: Path, digest: dict[str, str]) -> Saved | None:
    """Read it, onto the CPU; None if there is nothing yet.

    Raises:
        InputError: If it is of another run, naming the parts that differ, or damaged.
    """
    if not path.exists():
        return None
    try:
        fields = load_plain(path)
    except InputError as fault:
        raise InputError(f"{path} is not a whole checkpoint of toys: {fault}") from fault
    lacking = _fault_in(fields)
    if lacking:
        raise InputError(f"{path} is not a whole checkpoint of toys: {lacking}.")
    saved = Saved(**fields)
    differing = [part for part in digest if saved.digest.get(part) != digest[part]]
    if differing:
        raise InputError(
            f"{path} is of another run: its {', '.join(differing)} differ. Give another directory, "
            "or the settings that it was made with."
        )
    return saved
