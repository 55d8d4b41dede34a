"""Weights at chosen steps of a run, in half precision, to look back at how a model learned."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from interp.errors import InputError
from interp.files.atomic import replacing_file


class Snapshots:
    """A callback of `train` that writes `step_00000.safetensors`, … .

    Args:
        directory: Where the files go.
        steps: Which steps to keep (numbers of updates).

    Raises:
        InputError: if a step is negative.
    """

    def __init__(self, directory: str | Path, steps: Iterable[int]) -> None:
        self.directory = Path(directory)
        self.steps = frozenset(steps)
        if self.steps and min(self.steps) < 0:
            raise InputError(f"steps must not be negative. Received {min(self.steps)}.")

    def __call__(self, step: int, model: nn.Module) -> None:
        """Write the model's weights, if this is one of the steps."""
        if step not in self.steps:
            return
        weights = {
            name: weight.detach().to("cpu", torch.float16 if weight.is_floating_point() else None)
            for name, weight in model.state_dict().items()
        }
        with replacing_file(snapshot_path(self.directory, step)) as fresh:
            # Clones, because safetensors refuses tensors that share memory.
            save_file({n: w.clone().contiguous() for n, w in weights.items()}, fresh)


def snapshot_path(directory: str | Path, step: int) -> Path:
    """The file of one step's weights."""
    return Path(directory) / f"step_{step:05d}.safetensors"


def snapshot_steps(directory: str | Path) -> list[int]:
    """The steps that there are snapshots of, in order."""
    files = Path(directory).glob("step_*.safetensors")
    return sorted(int(file.stem.removeprefix("step_")) for file in files)
