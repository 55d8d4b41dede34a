"""Random numbers that are a pure function of (seed, step).

Nothing that a step draws depends on what was drawn before it, so a run that goes on from a
checkpoint needs no generator state, and sees the numbers that it would have seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def step_seed(seed: int, step: int) -> int:
    """A well-mixed 64-bit seed for one step of one run."""
    return int(np.random.SeedSequence((seed, step)).generate_state(1, np.uint64)[0])


def step_generator(seed: int, step: int) -> torch.Generator:
    """A fresh CPU generator for one step of one run."""
    return torch.Generator().manual_seed(step_seed(seed, step))


@contextmanager
def global_seed(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators for the length of the block; then put them back.

    Some modules (dropout) can only draw from them.
    """
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        # `torch.manual_seed` would reach devices that are not put back.
        torch.default_generator.manual_seed(seed)
        for gpu in cuda:
            with torch.cuda.device(gpu):
                torch.cuda.manual_seed(seed)
        yield
