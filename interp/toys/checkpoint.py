"""A chunk of toys on disk, from which its training can go on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from interp.atomic import replacing_file
from interp.errors import InputError
from interp.toys.settings import ToySettings


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
    models: dict[str, Tensor]
    optimizer: dict[str, Any]
    losses: Tensor
    snapshots: dict[int, dict[str, Tensor]]


def digest_of(
    models: nn.Module, data: Any, loss: Any, settings: ToySettings, chunks: Sequence[Tensor]
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
        # weights_only: it can hold tensors and plain values, not code.
        fields = torch.load(path, map_location="cpu", weights_only=True)
        saved = Saved(**fields)
    except Exception as fault:  # damaged bytes can make an unpickler raise anything
        raise InputError(f"{path} is not a whole checkpoint of toys: {fault}") from fault
    differing = [part for part in digest if saved.digest.get(part) != digest[part]]
    if differing:
        raise InputError(
            f"{path} is of another run: its {', '.join(differing)} differ. Give another directory, "
            "or the settings that it was made with."
        )
    return saved
