"""Training a sparse autoencoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from interp.errors import require
from interp.sae.config import SAEConfig
from interp.sae.dead_units import FiringTracker, resample_
from interp.sae.make import make_sae
from interp.sae.sae import SAELoss, SparseAutoencoder
from interp.sae.scores import explained_variance, geometric_median, l0
from interp.sae.settings import SAESettings, l1_scale
from interp.sae.source import Draw, Source, batch_size_of, is_stream, make_draw, samples
from interp.sae.unit_norm import normalise_rows_, remove_parallel_gradient_
from interp.training import History, Task, run_task

Evaluate = Callable[[SparseAutoencoder], Mapping[str, float]]


class _Run(nn.Module):
    """An SAE with what its training knows of it: what a checkpoint holds."""

    dead_after: Int[Tensor, ""]

    def __init__(self, sae: SparseAutoencoder) -> None:
        super().__init__()
        self.sae = sae
        self.tracker = FiringTracker(sae.cfg.d_sae, sae.W_dec.device)
        # A tensor, because the first batch may decide it, which a resumed run does not see.
        self.register_buffer("dead_after", torch.zeros_like(self.tracker.resampled))


@dataclass(frozen=True, kw_only=True)
class _RunSettings(SAESettings):
    """Settings with what else a resumed run must share with the run it goes on with."""

    sae: SAEConfig
    batch_size: int | None

    def what_decides_weights(self) -> dict[str, Any]:
        fields = super().what_decides_weights()
        del fields["sae"]
        of_sae = {f"sae.{name}": value for name, value in self.sae.to_dict().items()}
        del of_sae["sae.device"]
        return {**fields, **of_sae}


@torch.inference_mode(False)
def train_sae(
    sae: SparseAutoencoder | SAEConfig,
    source: Source,
    settings: SAESettings,
    *,
    batch_size: int | None = None,
    evaluate: Evaluate | None = None,
    callbacks: Sequence[Callable[[int, SparseAutoencoder], object]] = (),
    run_dir: str | Path | None = None,
    resume: bool = False,
    progress: bool = False,
) -> tuple[SparseAutoencoder, History]:
    """Train a sparse autoencoder.

    Step k sees weights that have had k updates; one more step, without an update, closes the run.
    Nothing waits for a GPU but logged steps, checkpoints and resampling. Rows of `W_dec` are scaled
    to unit length at the beginning and after every update (see `unit_norm`).

    All that is drawn is a function of `(settings.seed, step)`, so a run that goes on from a
    checkpoint ends, on the CPU, with the same bits. torch's global random state is neither read nor
    moved: a source that draws from it, as a shuffling `DataLoader` does, draws from the step's.

    Args:
        sae: An SAE, which is trained in place, or the config of a new one.
        source: Inputs, see `Source`; moved to the SAE's device and dtype as they come.
        settings: The optimiser, its schedule, how units are revived and how often to look.
        batch_size: Rows of a batch, where rows are drawn from a tensor or a data set. None: 1,024.
        evaluate: `evaluate(sae)` gives more columns of the history, with names of their own; called
            at logged steps, without gradients.
        callbacks: Called as `callback(step, sae)` at every step, before the update; they may read
            the SAE, not change it. `Snapshots` is one.
        run_dir: Where `history.parquet` and the latest `checkpoint/` go. None: nothing is written.
        resume: Go on from the checkpoint in `run_dir`, if there is one.
        progress: Show a progress bar.

    Returns:
        The SAE and the history, all of a step's own batch: `loss`; `lr` and `grad_norm` (None at
        the last step); `reconstruction`, `sparsity` and `auxiliary` (means of the loss's parts),
        `l0`, `fve` (fraction of variance explained), `dead` (the fraction of units silent for
        `dead_after` samples before it), `resampled` (units so far); and the columns of `evaluate`.

    Raises:
        InputError: as `make_draw` and `samples`; if `resume` has no `run_dir` or the source is a
            stream, which cannot be taken up again; if the checkpoint is of other settings, another
            batch size or another SAE; if `evaluate` gives a column that there is.
        TrainingDivergedError: if the loss is infinite or NaN at a step that is logged or saved.
    """
    require(
        not resume or not is_stream(source),
        f"a run on a stream cannot be resumed. Received {type(source).__name__}",
    )
    if isinstance(sae, SAEConfig):
        sae = make_sae(sae)
    draw = make_draw(source, batch_size)
    size = batch_size_of(source, batch_size)
    with torch.enable_grad():
        history = run_task(
            _SAETask(sae, draw, settings),
            _RunSettings(**vars(settings), sae=sae.cfg, batch_size=size),
            evaluate=evaluate,
            callbacks=callbacks,
            run_dir=run_dir,
            resume=resume,
            progress=progress,
        )
    sae.zero_grad(set_to_none=True)
    return sae, history


class _SAETask(Task[SparseAutoencoder]):
    """The state of a training and what is particular to its steps."""

    state: _Run

    def __init__(self, sae: SparseAutoencoder, draw: Draw, settings: SAESettings) -> None:
        self.model, self.state = sae, _Run(sae)
        self._settings = settings
        self._source = draw
        self._resampled_at = settings.resampled_at(sae.cfg.kind)
        self._batch: tuple[Tensor, SAELoss] | None = None

    def loss(self, step: int, generator: torch.Generator) -> Float[Tensor, ""]:
        """The loss of the step's batch; the first one decides where the SAE starts."""
        x = self._draw(step, generator)
        if step == 0:
            self._begin(x)
        found = self.model.loss(x, l1_scale(step, self._settings), self._dead)
        self._batch = x, found
        return found.total

    def columns(self) -> dict[str, float]:
        """What the batch says, with one wait for a GPU."""
        x, loss = self._of_batch
        measured = {
            "reconstruction": loss.reconstruction.mean(),
            "sparsity": loss.sparsity.mean(),
            "auxiliary": loss.auxiliary.mean(),
            "l0": l0(loss.activations),
            "fve": explained_variance(x, loss.reconstructed),
            "dead": self._dead.double().mean(),
            "resampled": self.state.tracker.resampled,
        }
        numbers = torch.stack([each.double() for each in measured.values()]).tolist()
        return dict(zip(measured, numbers, strict=True))

    def change_gradients(self) -> None:
        """Leave out what would change the length of the dictionary's rows."""
        remove_parallel_gradient_(self.model.W_dec)

    @torch.no_grad()
    def after_update(
        self, step: int, generator: torch.Generator, optimizer: torch.optim.Optimizer
    ) -> None:
        """Bring rows back to unit length, and revive units when it is time."""
        self.state.tracker.update(self._of_batch[1].activations)
        normalise_rows_(self.model.W_dec)
        if step + 1 in self._resampled_at:
            self._resample(step, generator, optimizer)

    @torch.no_grad()
    def _draw(self, step: int, generator: torch.Generator) -> Float[Tensor, "batch d_in"]:
        weight = self.model.W_dec
        batch = self._source(step, generator)
        return samples(batch, self.model.cfg.d_in, weight.device, weight.dtype)

    @torch.no_grad()
    def _begin(self, x: Float[Tensor, "batch d_in"]) -> None:
        self.state.dead_after.fill_(self._settings.samples_until_dead(len(x)))
        normalise_rows_(self.model.W_dec)
        if self._settings.centre == "mean":
            self.model.b_dec.copy_(x.mean(0))
        if self._settings.centre == "geometric_median":
            self.model.b_dec.copy_(geometric_median(x))

    def _resample(
        self, step: int, generator: torch.Generator, optimizer: torch.optim.Optimizer
    ) -> None:
        dead = self._dead
        n_dead = int(dead.sum())
        if n_dead:
            drawn = [self._draw(step, generator) for _ in range(self._settings.resample_batches)]
            resample_(self.model, dead, torch.cat(drawn), generator, optimizer)
            self.state.tracker.resampled.add_(n_dead)
            self.state.tracker.silent_for.masked_fill_(dead, 0)

    @property
    def _dead(self) -> Bool[Tensor, "d_sae"]:
        return self.state.tracker.dead(self.state.dead_after)

    @property
    def _of_batch(self) -> tuple[Float[Tensor, "batch d_in"], SAELoss]:
        assert self._batch is not None
        return self._batch
