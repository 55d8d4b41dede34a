"""How a sparse autoencoder is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from interp.errors import require, require_one_of, require_whole
from interp.sae.config import Kind
from interp.training.settings import TrainSettings

Centre = Literal["given", "mean", "geometric_median"]


@dataclass(frozen=True, kw_only=True)
class SAESettings(TrainSettings):
    """`TrainSettings`, and what is particular to sparse autoencoders.

    Gradients are not clipped by default. Bricken et al. 2023 call a unit dead when it is silent for
    12,500 steps, and resample after 25, 50, 75 and 100 thousand; intervals that are not given are
    these, scaled as if they were of a training of 200,000 steps.

    Attributes:
        l1_warmup_steps: Steps over which the L1 coefficient rises in a line from zero.
        centre: Where `b_dec` starts: as the SAE has it (zero, if it is new), or at the `mean` or
            the `geometric_median` of the first batch.
        dead_after: A unit is dead when it has not fired for so many samples. None: those of a
            sixteenth of the steps.
        resample_steps: After how many updates dead units are resampled (see `resample_`). None: at
            1/8, 2/8, 3/8 and 4/8 of the steps for `relu` and `gated`, and never for `topk`, which
            has AuxK.
        resample_batches: Batches that are drawn for a resampling.

    Raises:
        InputError: for a value out of bounds.
    """

    max_grad_norm: float | None = None
    l1_warmup_steps: int = 0
    centre: Centre = "given"
    dead_after: int | None = None
    resample_steps: tuple[int, ...] | None = None
    resample_batches: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        require_whole("l1_warmup_steps", self.l1_warmup_steps, 0)
        require(
            self.l1_warmup_steps <= self.steps,
            f"l1_warmup_steps must be at most steps ({self.steps}). "
            f"Received {self.l1_warmup_steps}",
        )
        require_one_of("centre", self.centre, get_args(Centre))
        require_whole("resample_batches", self.resample_batches, 1)
        if self.dead_after is not None:
            require_whole("dead_after", self.dead_after, 1)
        for step in self.resample_steps or ():
            require_whole("a step of resample_steps", step, 1)
            require(
                step < self.steps,
                f"resample_steps must be less than steps ({self.steps}). Received {step}",
            )

    def what_decides_weights(self) -> dict[str, Any]:
        """The settings that a resumed run must share with the run it goes on with."""
        fields = super().what_decides_weights()
        chosen = fields["resample_steps"]
        return {**fields, "resample_steps": None if chosen is None else list(chosen)}

    def resampled_at(self, kind: Kind) -> frozenset[int]:
        """Numbers of updates after which dead units of such an SAE are resampled."""
        if self.resample_steps is not None:
            return frozenset(self.resample_steps)
        if kind == "topk":
            return frozenset()
        return frozenset(self.steps * i // 8 for i in (1, 2, 3, 4)) - {0}

    def samples_until_dead(self, batch_size: int) -> int:
        """`dead_after`, filled in for batches of this size."""
        if self.dead_after is not None:
            return self.dead_after
        return max(self.steps // 16, 1) * batch_size


def l1_scale(step: int, settings: SAESettings) -> float:
    """What the L1 coefficient is multiplied with at the update that follows `step` earlier ones."""
    if step >= settings.l1_warmup_steps:
        return 1.0
    return (step + 1) / settings.l1_warmup_steps
