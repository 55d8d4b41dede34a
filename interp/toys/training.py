"""Training many toys at once."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from interp.errors import require, require_whole
from interp.toys.batch import Data, require_dtype
from interp.toys.checkpoint import Saved, digest_of, load, require_fit, save
from interp.toys.choice import put_back
from interp.toys.chunks import chunks_of
from interp.toys.loss import Loss
from interp.toys.settings import ToySettings
from interp.toys.step import LossFunction, Update, compiled_losses, losses_of
from interp.training.progress import progress_bar


@dataclass(frozen=True)
class ToyRun:
    """What was kept while toys were trained.

    Attributes:
        steps: Updates before each of the losses.
        losses: Each instance's loss on the batch of that step.
        snapshots: By number of updates, every parameter by name, on the CPU.
        seconds: Of training, compilation included; of a resumed run, since it was taken up.
    """

    steps: list[int]
    losses: Float[Tensor, "step instance"]
    snapshots: dict[int, dict[str, Float[Tensor, "instance ..."]]]
    seconds: float


def train(
    models: Any,
    data: Data,
    loss: Loss,
    settings: ToySettings,
    *,
    chunk_size: int | None = None,
    directory: str | Path | None = None,
    checkpoint_every: int | None = None,
    progress: bool = False,
    watch: Callable[[int, Any], None] | None = None,
) -> ToyRun:
    """Train all instances in place, with one AdamW.

    Instances share nothing: each is trained as it would be alone, on the data of its own seed.
    Every parameter has an instance axis and AdamW's rule is by element, so one update of the stack
    is one update of each.

    Args:
        models: `ToyModel`, `ModuleToy`, or another module with an instance axis in front of every
            parameter and buffer.
        data: What they are trained on, on the same device.
        loss: What they are punished for.
        settings: AdamW, its schedule, and what is kept.
        chunk_size: Instances trained at once. By default as many as memory allows on a GPU, and
            on a CPU about as many as its cache holds; see `chunks_of`.
        directory: Where finished chunks, and the one under way, are saved. If it holds a run of
            the same models, data and settings, that goes on; if of others, it is an error.
        checkpoint_every: Steps between saves of the chunk under way; needs a directory. None: a
            chunk is saved when it is finished.
        progress: Whether to show a bar.
        watch: Called where a snapshot is kept, with the number of updates and the models, to be
            looked at and left as they are. All must be trained at once, in a single chunk.

    Returns:
        Losses and snapshots, of all instances.

    Raises:
        InputError: If a value breaks its rule, the data or loss is for another number of
            instances, a parameter is not in fp32 or fp64, the directory holds another run, or
            models that are watched are trained in several chunks.
    """
    device = next(models.parameters()).device
    n_instances = models.n_instances
    for name, each in (("data", data), ("loss", loss)):
        require(
            each.n_instances == n_instances,
            f"{name} must be for as many instances as there are models ({n_instances}). "
            f"Received {each.n_instances}",
        )
    for value in models.parameters():
        require_dtype(value.dtype)
    if checkpoint_every is not None:
        require_whole("checkpoint_every", checkpoint_every, 1)
        require(directory is not None, "checkpoint_every needs a directory")
    chunks = chunks_of(models, data, loss, settings, chunk_size)
    require(
        watch is None or len(chunks) == 1,
        "models that are watched are trained in a single chunk: give a larger chunk_size. "
        f"Received {len(chunks)} chunks",
    )
    digest = digest_of(models, data, loss, settings, chunks) if directory is not None else {}
    programs: dict[Any, LossFunction] = {}
    start = time.perf_counter()
    losses, snapshots = [], []
    with progress_bar(settings.steps * len(chunks), 0, progress) as show:
        for number, chunk in enumerate(chunks):
            path = None if directory is None else Path(directory) / f"chunk-{number:05d}.pt"
            whole = len(chunks) == 1
            chosen = chunk.to(device)
            some = data if whole else data.select(chosen)
            part = _Part(
                models if whole else models.select(chosen),
                some,
                loss if whole else loss.select(chosen),
                settings,
                _program(programs, len(chunk), some) if settings.compile else losses_of,
                watch,
            )
            if path is not None:
                part.go_on(path, digest)
            part.train(path, digest, checkpoint_every, show, number * settings.steps)
            if not whole:
                put_back(models, chosen, part.models)
            losses.append(part.losses.cpu())
            snapshots.append(part.snapshots)
            del part  # with its optimiser and its graph, before the next one takes memory
    return ToyRun(
        steps=settings.logged,
        losses=torch.cat(losses, 1),
        snapshots={
            step: {
                name: torch.cat([kept[step][name] for kept in snapshots])
                for name in snapshots[0][step]
            }
            for step in settings.snapshots
        },
        seconds=time.perf_counter() - start,
    )


def _program(programs: dict[Any, LossFunction], n_instances: int, data: Data) -> LossFunction:
    """The compiled program for data of these shapes: torch allows one function only a few."""
    shapes = (v.shape for v in data.fields().values() if isinstance(v, Tensor))
    return programs.setdefault((n_instances, *shapes), compiled_losses())


class _Part:
    """The training of one chunk."""

    def __init__(
        self,
        models: Any,
        data: Data,
        loss: Loss,
        settings: ToySettings,
        run: LossFunction,
        watch: Callable[[int, Any], None] | None,
    ) -> None:
        self.models: nn.Module = models
        self._settings = settings
        self._watch = watch
        self._update = Update(models, data, loss, settings, run)
        self._row = {step: row for row, step in enumerate(settings.logged)}
        first = next(models.parameters())
        self.losses = torch.zeros(
            len(self._row), models.n_instances, dtype=first.dtype, device=first.device
        )
        self.snapshots: dict[int, dict[str, Tensor]] = {}
        self.done = 0

    def train(
        self,
        path: Path | None,
        digest: dict[str, str],
        every: int | None,
        show: Callable[[int, Tensor], None],
        before: int,
    ) -> None:
        steps = self._settings.steps
        if self.done == 0:
            self._keep()
        else:
            latest = bisect_left(self._settings.logged, self.done) - 1
            show(before + self.done, self.losses[latest])
        while self.done < steps:
            self._update()
            row = self._row.get(self.done)
            if row is not None:
                self.losses[row] = self._update.losses
            self.done += 1
            self._keep()
            show(before + self.done, self._update.losses)
            due = self.done == steps or (every is not None and self.done % every == 0)
            if path is not None and due:
                self._save(path, digest)
        self._update.optimizer.zero_grad(set_to_none=True)

    def _keep(self) -> None:
        if self.done in self._settings.snapshots:
            self.snapshots[self.done] = {
                name: value.detach().cpu().clone() for name, value in self.models.named_parameters()
            }
            if self._watch is not None:
                self._watch(self.done, self.models)

    def _save(self, path: Path, digest: dict[str, str]) -> None:
        save(
            path,
            Saved(
                step=self.done,
                digest=digest,
                models=self.models.state_dict(),
                optimizer=self._update.optimizer.state_dict(),
                losses=self.losses,
                snapshots=self.snapshots,
            ),
        )

    def go_on(self, path: Path, digest: dict[str, str]) -> None:
        saved = load(path, digest)
        if saved is None:
            return
        optimizer = self._update.optimizer
        require_fit(path, saved, self.models, optimizer, self.losses, self._settings)
        self.models.load_state_dict(saved.models)
        self._update.load(saved.optimizer, saved.step)
        self.losses.copy_(saved.losses)
        self.snapshots = saved.snapshots
        self.done = saved.step
