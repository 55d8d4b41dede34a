"""Which tokens of which sequences become rows: a function of the settings and the tokens alone."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from interp.harvest.corpus import TokenBlock
from interp.harvest.settings import HarvestSettings, positions_slice


def chosen_rows(
    block: TokenBlock, first_sequence: int, settings: HarvestSettings
) -> Bool[Tensor, "sequence pos"]:
    """Whether each token of a block becomes a row.

    Args:
        block: Sequences that follow one another.
        first_sequence: The number of the first.
        settings: `positions`, `skip_special`, `sample` and `seed` are used.
    """
    real = torch.ones_like(block.tokens, dtype=torch.bool) if block.real is None else block.real
    chosen = real & _at_positions(real, settings.positions)
    if settings.skip_special:
        chosen &= block.document >= 0
    if settings.sample is None or (isinstance(settings.sample, float) and settings.sample == 1):
        return chosen
    numbers = [
        _random_numbers(settings.seed, first_sequence + row, chosen.shape[1])
        for row in range(len(chosen))
    ]
    return _sampled(chosen, np.stack(numbers), settings.sample)


def _at_positions(
    real: Bool[Tensor, "sequence pos"], positions: str | tuple[int, ...]
) -> Bool[Tensor, "sequence pos"]:
    """Where positions lie that count the real tokens of each sequence."""
    if positions == "all":
        return real
    place = real.cumsum(1) - 1
    wanted = torch.zeros_like(real)
    for n_real in real.sum(1).unique().tolist():
        # Which places of a sequence with so many real tokens.
        of_length = torch.zeros(max(n_real, 1), dtype=torch.bool)
        if isinstance(positions, str):
            of_length[list(range(n_real)[positions_slice(positions)])] = True
        else:
            of_length[[p % n_real for p in positions if -n_real <= p < n_real]] = True
        rows = real.sum(1) == n_real
        wanted[rows] = of_length[place[rows].clamp(min=0)]
    return wanted


def _random_numbers(seed: int, sequence: int, n: int) -> np.ndarray:
    """One 64-bit number per position, from a stream of its own for every seed and sequence."""
    return np.random.Philox(key=np.array([seed, sequence], dtype=np.uint64)).random_raw(n)


def _sampled(
    eligible: Bool[Tensor, "sequence pos"], numbers: np.ndarray, sample: float | int
) -> Bool[Tensor, "sequence pos"]:
    """Those with a number below a fraction of the largest; or so many of those with the least."""
    if isinstance(sample, float):
        return eligible & torch.from_numpy(numbers < np.uint64(sample * 2**64))
    others_last = np.where(eligible.numpy(), numbers, np.iinfo(np.uint64).max)
    least = np.argsort(others_last, axis=1, kind="stable")[:, :sample]
    kept = torch.zeros_like(eligible)
    kept.scatter_(1, torch.from_numpy(least), True)
    return kept & eligible
