"""Training a sparse autoencoder."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
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
from interp.training import History, TrainingDivergedError, learning_rate, make_optimizer
from interp.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from interp.training.progress import progress_bar
from interp.training.randomness import step_generator

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
    Nothing waits for a GPU but logged steps, checkpoints and resampling. All that is drawn is a
    function of `(settings.seed, step)`, so a run that goes on from a checkpoint ends, on the CPU,
    with the same bits. Rows of `W_dec` are scaled to unit length at the beginning and after every
    update (see `unit_norm`).

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
        The SAE and the history, all of a step's own batch: `loss`, `reconstruction`, `sparsity` and
        `auxiliary` (means of its parts), `l0`, `fve` (fraction of variance explained), `dead` (the
        fraction of units silent for `dead_after` samples before it), `resampled` (units so far),
        `lr` and `grad_norm` (None at the last step), and the columns of `evaluate`.

    Raises:
        InputError: as `make_draw` and `samples`; if `resume` has no `run_dir` or the source is a
            stream, which cannot be taken up again; if the checkpoint is of other settings, another
            batch size or another SAE; if `evaluate` gives a column that there is.
        TrainingDivergedError: if the loss is infinite or NaN at a step that is logged or saved.
    """
    require(not resume or run_dir is not None, "resume needs a run_dir. Received None")
    require(
        not resume or not is_stream(source),
        f"a run on a stream cannot be resumed. Received {type(source).__name__}",
    )
    if isinstance(sae, SAEConfig):
        sae = make_sae(sae)
    loop = _Loop(sae, make_draw(source, batch_size), settings)
    folder = None if run_dir is None else Path(run_dir)
    deciding = _RunSettings(
        **vars(settings), sae=sae.cfg, batch_size=batch_size_of(source, batch_size)
    )
    start, history = 0, History()
    if resume and folder is not None and (folder / "checkpoint").exists():
        found = load_checkpoint(folder / "checkpoint", loop.run, loop.optimizer, deciding)
        start, history = found.step, found.history
    with torch.enable_grad(), progress_bar(settings.steps, start, progress) as advance:
        for step in range(start, settings.steps + 1):
            last = step == settings.steps
            logs = last or step % settings.log_every == 0
            saves = folder is not None and step > start and (last or _due(step, settings))
            generator = step_generator(settings.seed, step)
            x = loop.draw(step, generator)
            if step == 0:
                loop.begin(x)
            loss = loop.loss(step, x)
            _check_finite(loss.total, step, logs or saves)
            for callback in callbacks:
                callback(step, sae)
            row = loop.row(x, loss, evaluate) if logs else {}
            if saves and folder is not None:
                state = Checkpoint(step, history)  # without this step, which a resumed run logs
                save_checkpoint(folder / "checkpoint", loop.run, loop.optimizer, deciding, state)
            norm = None if last else loop.update(step, loss, generator, measures_norm=logs)
            if logs:
                row["lr"] = None if last else learning_rate(step, settings)
                row["grad_norm"] = None if norm is None else norm.item()
                history.add(step, **row)
            if saves and folder is not None:
                history.write(folder / "history.parquet")
            advance(step, loss.total)
    sae.zero_grad(set_to_none=True)
    return sae, history


class _Loop:
    """The state of a training and what one step does to it."""

    def __init__(self, sae: SparseAutoencoder, draw: Draw, settings: SAESettings) -> None:
        self.sae, self.settings = sae, settings
        self.run = _Run(sae)
        self.optimizer = make_optimizer(sae, settings)
        self.parameters = [p for p in sae.parameters() if p.requires_grad]
        self._source = draw
        self._resampled_at = settings.resampled_at(sae.cfg.kind)

    @torch.no_grad()
    def draw(self, step: int, generator: torch.Generator) -> Float[Tensor, "batch d_in"]:
        weight = self.sae.W_dec
        batch = self._source(step, generator)
        return samples(batch, self.sae.cfg.d_in, weight.device, weight.dtype)

    @torch.no_grad()
    def begin(self, x: Float[Tensor, "batch d_in"]) -> None:
        self.run.dead_after.fill_(self.settings.samples_until_dead(len(x)))
        normalise_rows_(self.sae.W_dec)
        if self.settings.centre == "mean":
            self.sae.b_dec.copy_(x.mean(0))
        if self.settings.centre == "geometric_median":
            self.sae.b_dec.copy_(geometric_median(x))

    @property
    def dead(self) -> Tensor:
        return self.run.tracker.dead(self.run.dead_after)

    def loss(self, step: int, x: Float[Tensor, "batch d_in"]) -> SAELoss:
        return self.sae.loss(x, l1_scale(step, self.settings), self.dead)

    @torch.no_grad()
    def row(
        self, x: Float[Tensor, "batch d_in"], loss: SAELoss, evaluate: Evaluate | None
    ) -> dict[str, Any]:
        """What is logged of a step."""
        measured = {
            "loss": loss.total,
            "reconstruction": loss.reconstruction.mean(),
            "sparsity": loss.sparsity.mean(),
            "auxiliary": loss.auxiliary.mean(),
            "l0": l0(loss.activations),
            "fve": explained_variance(x, loss.reconstructed),
            "dead": self.dead.double().mean(),
            "resampled": self.run.tracker.resampled,
        }
        numbers = torch.stack([each.double() for each in measured.values()]).tolist()
        more = {} if evaluate is None else dict(evaluate(self.sae))
        taken = sorted({"step", "lr", "grad_norm", *measured} & set(more))
        require(not taken, f"evaluate must give columns with names of their own. Received {taken}")
        return {**dict(zip(measured, numbers, strict=True)), **more}

    def update(
        self, step: int, loss: SAELoss, generator: torch.Generator, measures_norm: bool
    ) -> Tensor | None:
        """One step of the optimiser; gives the gradient's norm before clipping, if asked to."""
        self.run.tracker.update(loss.activations)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(step, self.settings)
        self.optimizer.zero_grad()
        loss.total.backward()
        remove_parallel_gradient_(self.sae.W_dec)
        norm = None
        limit = self.settings.max_grad_norm
        if limit is not None or measures_norm:
            gradients = [p.grad for p in self.parameters if p.grad is not None]
            norm = nn.utils.get_total_norm(gradients)
            if limit is not None:
                nn.utils.clip_grads_with_norm_(self.parameters, limit, norm)
        self.optimizer.step()
        normalise_rows_(self.sae.W_dec)
        if step + 1 in self._resampled_at:
            self._resample(step, generator)
        return norm

    def _resample(self, step: int, generator: torch.Generator) -> None:
        dead = self.dead
        n_dead = int(dead.sum())
        if n_dead:
            drawn = [self.draw(step, generator) for _ in range(self.settings.resample_batches)]
            resample_(self.sae, dead, torch.cat(drawn), generator, self.optimizer)
            self.run.tracker.resampled.add_(n_dead)
            self.run.tracker.silent_for.masked_fill_(dead, 0)


def _due(step: int, settings: SAESettings) -> bool:
    return settings.checkpoint_every is not None and step % settings.checkpoint_every == 0


def _check_finite(loss: Tensor, step: int, looks: bool) -> None:
    if looks and not math.isfinite(loss.item()):
        raise TrainingDivergedError(f"the loss is {loss.item()} at step {step}.")
