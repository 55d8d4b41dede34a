"""How a training run goes, checked before it begins."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from interp.errors import InputError

Decay = Literal["constant", "cosine"]


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """AdamW, its schedule, and how often to look.

    Attributes:
        steps: Number of updates.
        lr: The highest learning rate, reached at the end of the warm-up.
        warmup_steps: Updates over which the learning rate rises in a line to `lr`.
        decay: What follows the warm-up: `constant`, or half a `cosine` down to `final_lr_fraction`.
        final_lr_fraction: The learning rate that a cosine ends on, as a fraction of `lr`.
        weight_decay: Decoupled, on parameters with two or more axes (so not on norms).
        betas: AdamW's decay rates of the gradient's mean and mean square.
        max_grad_norm: Gradients are scaled down to at most this L2 norm. None: never.
        seed: Of the data, and of whatever else draws random numbers during training.
        log_every: Steps between rows of the history. The last step always has one.
        checkpoint_every: Steps between checkpoints. None: only at the end.

    Raises:
        InputError: for a value out of bounds.
    """

    steps: int
    lr: float = 1e-3
    warmup_steps: int = 0
    decay: Decay = "cosine"
    final_lr_fraction: float = 0.0
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    max_grad_norm: float | None = 1.0
    seed: int = 0
    log_every: int = 100
    checkpoint_every: int | None = None

    def __post_init__(self) -> None:
        _whole("steps", self.steps, least=1)
        _whole("warmup_steps", self.warmup_steps, least=0)
        _whole("seed", self.seed, least=0)
        _whole("log_every", self.log_every, least=1)
        if self.checkpoint_every is not None:
            _whole("checkpoint_every", self.checkpoint_every, least=1)
        _require(
            self.warmup_steps < self.steps,
            f"warmup_steps must be less than steps ({self.steps})",
            self.warmup_steps,
        )
        _require(self.decay in get_args(Decay), "decay must be 'constant' or 'cosine'", self.decay)
        _require(math.isfinite(self.lr) and self.lr > 0, "lr must be positive", self.lr)
        _require(
            0 <= self.final_lr_fraction <= 1,
            "final_lr_fraction must lie in 0 … 1",
            self.final_lr_fraction,
        )
        _require(
            math.isfinite(self.weight_decay) and self.weight_decay >= 0,
            "weight_decay must not be negative",
            self.weight_decay,
        )
        _require(
            len(self.betas) == 2 and all(0 <= b < 1 for b in self.betas),
            "betas must be two numbers of at least 0 and below 1",
            self.betas,
        )
        _require(
            self.max_grad_norm is None or self.max_grad_norm > 0,
            "max_grad_norm must be positive, or None",
            self.max_grad_norm,
        )

    def what_decides_weights(self) -> dict[str, Any]:
        """The settings that a resumed run must share with the run it goes on with."""
        fields = dataclasses.asdict(self)
        del fields["log_every"], fields["checkpoint_every"]
        return fields


def learning_rate(step: int, settings: TrainSettings) -> float:
    """The learning rate of the update that follows `step` earlier ones."""
    warmup = settings.warmup_steps
    if step < warmup:
        return settings.lr * (step + 1) / warmup
    if settings.decay == "constant":
        return settings.lr
    progress = (step - warmup) / (settings.steps - warmup)
    end = settings.final_lr_fraction
    return settings.lr * (end + (1 - end) * 0.5 * (1 + math.cos(math.pi * progress)))


def _whole(name: str, value: object, least: int) -> None:
    ok = isinstance(value, int) and not isinstance(value, bool) and value >= least
    _require(ok, f"{name} must be a whole number of at least {least}", value)


def _require(condition: bool, rule: str, value: object) -> None:
    if not condition:
        raise InputError(f"{rule}. Received {value!r}.")
