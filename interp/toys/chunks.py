"""How many instances are trained at once."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from interp.errors import InputError, require_whole
from interp.memory import free_memory, readable
from interp.toys.batch import Data
from interp.toys.loss import Loss
from interp.toys.settings import ToySettings
from interp.toys.step import losses_of

# On a CPU a step is quickest while what it works on stays in the cache.
_ELEMENTS_ON_CPU = 1 << 20
_SHARE_OF_FREE_MEMORY = 0.7
_PROBES = 1, 2  # instances: the difference is what one more takes


def chunks_of(
    models: Any, data: Data, loss: Loss, settings: ToySettings, chunk_size: int | None
) -> list[Int[Tensor, "chunk"]]:
    """Which instances are trained together, in order and of sizes as equal as can be.

    Args:
        models: All of them.
        data: Theirs.
        loss: Theirs.
        settings: With the batch size.
        chunk_size: At most so many. None: on a GPU as many as fit into 70 % of what is free, by
            what a forward and backward pass of one and of two were seen to take; on a CPU as many
            as have 2²⁰ inputs and outputs in a batch together.

    Raises:
        InputError: If `chunk_size` is not positive, or not even one instance fits.
    """
    count = models.n_instances
    if chunk_size is None:
        chunk_size = min(count, _fitting(models, data, loss, settings))
    require_whole("chunk_size", chunk_size, 1)
    n_chunks = -(-count // chunk_size)
    return list(torch.arange(count).tensor_split(n_chunks))


def _fitting(models: Any, data: Data, loss: Loss, settings: ToySettings) -> int:
    device = next(models.parameters()).device
    one = torch.zeros(1, dtype=torch.int64, device=device)
    if device.type != "cuda":
        batch = data.select(one).batch(0, settings.batch_size)
        return max(1, _ELEMENTS_ON_CPU // (batch.x.numel() + batch.target.numel()))
    used = [_peak(models, data, loss, settings, torch.arange(k, device=device)) for k in _PROBES]
    each = max(used[1] - used[0], 1)
    free = free_memory(device) or 0
    fitting = int(_SHARE_OF_FREE_MEMORY * free) // each
    if fitting < 1:
        raise InputError(
            f"one instance takes {readable(each)} of {device}, which has {readable(free)} free: "
            "give a smaller batch_size."
        )
    return fitting


def _peak(models: Any, data: Data, loss: Loss, settings: ToySettings, chosen: Tensor) -> int:
    """Bytes that a pass takes on a GPU, with AdamW's state and the gradients."""
    device = chosen.device
    if int(chosen[-1]) >= models.n_instances:
        chosen = chosen.clamp(max=models.n_instances - 1)
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    part = models.select(chosen)
    losses = losses_of(part, data.select(chosen), loss.select(chosen), 0, settings.batch_size)
    losses.sum().backward()
    torch.cuda.synchronize(device)
    moments = 2 * sum(p.numel() * p.element_size() for p in part.parameters())
    return torch.cuda.max_memory_allocated(device) - before + moments
