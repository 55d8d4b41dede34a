"""Toys under training, left in a file by the worker and read by the page."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from interp.files import require_stored
from interp.files.atomic import replacing_file

FILE = "toys.npz"


@dataclass(frozen=True)
class Snapshot:
    """The best toy of each density at one step, and losses up to it.

    Attributes:
        step: Updates so far.
        densities: Falling.
        W: The way in.
        W_out: The way back; None where it is Wᵀ.
        steps: Of the losses.
        losses: Of these toys, the best ones at this step.
    """

    step: int
    densities: list[float]
    W: Float[Tensor, "density d_hidden feature"]
    W_out: Float[Tensor, "density feature d_hidden"] | None
    steps: list[int]
    losses: Float[Tensor, "step density"]


def write(folder: Path, snapshot: Snapshot) -> None:
    """Leave it in a directory, so that nobody meets half of it."""
    arrays = {
        "step": np.array(snapshot.step),
        "densities": np.array(snapshot.densities),
        "W": snapshot.W.numpy(),
        "steps": np.array(snapshot.steps),
        "losses": snapshot.losses.numpy(),
    }
    if snapshot.W_out is not None:
        arrays["W_out"] = snapshot.W_out.numpy()
    with replacing_file(folder / FILE) as fresh, fresh.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def read(folder: Path) -> Snapshot | None:
    """What was left last; None where nothing was yet, or nothing that can be read."""
    try:
        require_stored(folder / FILE)
        with np.load(folder / FILE, allow_pickle=False) as found:
            return Snapshot(
                step=int(found["step"]),
                densities=found["densities"].tolist(),
                W=torch.from_numpy(found["W"]),
                W_out=torch.from_numpy(found["W_out"]) if "W_out" in found else None,
                steps=found["steps"].tolist(),
                losses=torch.from_numpy(found["losses"]),
            )
    except (
        OSError, LookupError, ValueError, TypeError, ArithmeticError, MemoryError, EOFError,
        RuntimeError, zipfile.BadZipFile,
    ):  # fmt: skip
        return None
