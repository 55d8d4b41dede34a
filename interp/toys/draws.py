"""Random numbers that are a pure function of (seed, step, stream, place).

What an instance draws depends on its own seed alone, so it sees the same data trained by itself, in
a stack, in chunks, after a resume, on a CPU or on a GPU. There is no generator state to keep, and
the step may be a tensor, as a captured CUDA graph needs.

Philox4x32-10 of Salmon et al. (2011), Parallel Random Numbers: As Easy as 1, 2, 3, §4.2, in int64
arithmetic. Compiled it costs about what `torch.rand` costs; eager, some ten times that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import IntEnum

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import require

Words = tuple[Int[Tensor, "..."], Int[Tensor, "..."], Int[Tensor, "..."], Int[Tensor, "..."]]

WORDS = 1 << 32  # a draw is one of so many whole numbers
_MASK = WORDS - 1
_MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
_KEY_STEPS = 0x9E3779B9, 0xBB67AE85


class Stream(IntEnum):
    """What numbers are drawn for; two streams of one seed share none."""

    FEATURES = 0
    GROUPS = 1
    MIXTURE = 2
    WEIGHTS = 3
    CHOICE = 5


def philox(
    counter: Words, key: tuple[Int[Tensor, "..."], Int[Tensor, "..."]], rounds: int = 10
) -> Words:
    """Four 32-bit words from a counter of four and a key of two; int64 tensors that broadcast."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(rounds):
        # The products take up to 64 bits: the shift fills with the sign, which the mask removes.
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            ((p1 >> 32) & _MASK) ^ c1 ^ k0,
            p1 & _MASK,
            ((p0 >> 32) & _MASK) ^ c3 ^ k1,
            p0 & _MASK,
        )
        k0, k1 = (k0 + _KEY_STEPS[0]) & _MASK, (k1 + _KEY_STEPS[1]) & _MASK
    return c0, c1, c2, c3


def words(
    seeds: Int[Tensor, "instance"],
    step: Int[Tensor, ""] | int,
    stream: Stream,
    shape: Sequence[int],
) -> Int[Tensor, "instance ..."]:
    """Whole numbers, uniform in 0 … 2³² - 1, of this shape for each seed.

    They depend on the shape: what is to be the same for more rows is drawn row by row.

    Args:
        seeds: int64, not negative, on the device that the numbers are wanted on.
        step: Which of the seed's batches, from 0, below 2³².
        stream: What the numbers are for.
        shape: Of one instance.
    """
    count = math.prod(shape)
    blocks = -(-count // 4)
    device = seeds.device
    zero = torch.zeros((), dtype=torch.int64, device=device)
    block = torch.arange(blocks, device=device)[None]
    key = (seeds & _MASK)[:, None], (seeds >> 32)[:, None]
    drawn = philox((block, zero + step, zero + int(stream), zero), key)
    # All first words, then all second ones: three times as fast as block after block, whose words
    # lie apart in memory.
    flat = torch.cat(drawn, dim=-1)
    return flat[:, :count].reshape(len(seeds), *shape)


def uniform(
    seeds: Int[Tensor, "instance"],
    step: Int[Tensor, ""] | int,
    stream: Stream,
    shape: Sequence[int],
    dtype: torch.dtype,
) -> Float[Tensor, "instance ..."]:
    """Numbers uniform in (0, 1], multiples of 2⁻³² before rounding to `dtype`."""
    return (words(seeds, step, stream, shape) + 1).to(dtype) * (1.0 / WORDS)


def normal(
    seeds: Int[Tensor, "instance"],
    step: Int[Tensor, ""] | int,
    stream: Stream,
    shape: Sequence[int],
    dtype: torch.dtype,
) -> Float[Tensor, "instance ..."]:
    """Standard normal numbers (Box and Muller 1958), the same in each dtype up to rounding."""
    u = uniform(seeds, step, stream, (*shape, 2), torch.float64)
    radius, angle = (-2 * u[..., 0].log()).sqrt(), 2 * math.pi * u[..., 1]
    return (radius * angle.cos()).to(dtype)


def as_seeds(
    seeds: int | Sequence[int] | Int[Tensor, "instance"], n_instances: int, device: torch.device
) -> Int[Tensor, "instance"]:
    """One seed for each instance; from a single number s: s, s + 1, …

    Raises:
        InputError: If they are not that many whole numbers from 0 to 2⁶³ - 1.
    """
    if isinstance(seeds, int) and not isinstance(seeds, bool):
        require(
            0 <= seeds <= (1 << 63) - n_instances,
            f"a seed must lie in 0 … 2⁶³ - n_instances. Received {seeds}",
        )
        return torch.arange(seeds, seeds + n_instances, device=device)
    found = torch.as_tensor(seeds)
    require(
        found.dtype == torch.int64 and found.shape == (n_instances,),
        f"seeds must be one whole number or {n_instances}. Received {found.dtype} of shape "
        f"{list(found.shape)}",
    )
    require(bool((found >= 0).all()), f"a seed must not be negative. Received {int(found.min())}")
    return found.to(device)
