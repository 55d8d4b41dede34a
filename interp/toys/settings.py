"""How toys are trained, checked before it begins."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import require, require_number, require_one_of, require_whole

Decay = Literal["constant", "linear", "cosine"]


@dataclass(frozen=True, kw_only=True)
class ToySettings:
    """AdamW with the settings of the paper's notebook, and what is kept on the way.

    Attributes:
        steps: Number of updates.
        batch_size: Examples of each instance at a step. None: all, of a finite set.
        lr: The highest learning rate, reached at the end of the warm-up.
        warmup_steps: Updates over which the learning rate rises in a line to `lr`.
        decay: What follows the warm-up: `constant`, in a line to 0, or half a `cosine` to 0.
        weight_decay: Decoupled, on every parameter, biases too.
        betas: AdamW's decay rates of the gradient's mean and mean square.
        eps: AdamW's smallest denominator.
        log_every: Steps between losses that are kept; the first and the last always are.
        snapshots: Numbers of updates after which all parameters are kept; 0 is the start.
        compile: Whether to compile the step: seconds at first, faster steps after. Needs a C++
            compiler on a CPU, Triton on a GPU.
        cuda_graph: Whether to capture the step in a CUDA graph, which takes the launches off
            small steps. Only on a GPU, and ignored nowhere: an error on a CPU.

    Raises:
        InputError: If a value is out of bounds.
    """

    steps: int = 10_000
    batch_size: int | None = 1024
    lr: float = 1e-3
    warmup_steps: int = 0
    decay: Decay = "constant"
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    log_every: int = 100
    snapshots: tuple[int, ...] = ()
    compile: bool = False
    cuda_graph: bool = False

    def __post_init__(self) -> None:
        require_whole("steps", self.steps, 1)
        if self.batch_size is not None:
            require_whole("batch_size", self.batch_size, 1)
        require_number("lr", self.lr)
        require_whole("warmup_steps", self.warmup_steps, 0)
        require(
            self.warmup_steps < self.steps,
            f"warmup_steps must be less than steps ({self.steps}). Received {self.warmup_steps}",
        )
        require_one_of("decay", self.decay, get_args(Decay))
        require_number("weight_decay", self.weight_decay, zero=True)
        require(
            len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas),
            f"betas must be two numbers of at least 0 and below 1. Received {self.betas!r}",
        )
        require_number("eps", self.eps)
        require_whole("log_every", self.log_every, 1)
        for step in self.snapshots:
            require_whole("a snapshot's step", step, 0)
            require(
                step <= self.steps,
                f"a snapshot's step must be at most steps ({self.steps}). Received {step}",
            )
        require(
            list(self.snapshots) == sorted(set(self.snapshots)),
            f"snapshots must rise. Received {self.snapshots}",
        )

    @property
    def logged(self) -> list[int]:
        """The steps, by updates before them, whose loss is kept."""
        return sorted({*range(0, self.steps, self.log_every), self.steps - 1})

    def what_decides_weights(self) -> dict[str, Any]:
        """The settings that a resumed run must share with the run it goes on with."""
        fields = asdict(self)
        del fields["compile"], fields["cuda_graph"]
        return fields


def learning_rate(step: Int[Tensor, ""], settings: ToySettings) -> Float[Tensor, ""]:
    """The learning rate of the update that follows `step` earlier ones, as a tensor in fp64."""
    done = step.to(torch.float64)
    warmup = settings.warmup_steps
    rising = (done + 1) / max(warmup, 1)
    progress = (done - warmup) / (settings.steps - warmup)
    falling = {
        "constant": torch.ones_like(done),
        "linear": 1 - progress,
        "cosine": 0.5 * (1 + (math.pi * progress).cos()),
    }[settings.decay]
    return settings.lr * torch.where(done < warmup, rising, falling)
