"""How many instances are trained at once."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from interp.devices.memory import free_memory, readable
from interp.errors import InputError, require_whole
from interp.toys.batch import Data
from interp.toys.loss import Loss
from interp.toys.settings import ToySettings
from interp.toys.step import losses_of

# On a CPU a step is quickest while what it works on stays in the cache.
_ELEMENTS_ON_CPU = 1 << 20
_SHARE_OF_FREE_MEMORY = 0.7
# Instances: the difference of the last two is what one more takes. The first pass is not counted,
# as it makes cuBLAS take memory of its own that stays.
_PROBES = 1, 1, 2


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
    largest = _largest(data, settings.batch_size, device)
    if device.type != "cuda":
        batch = data.select(largest).batch(0, settings.batch_size)
        return max(1, _ELEMENTS_ON_CPU // (batch.x.numel() + batch.target.numel()))
    return _fitting_on_gpu(models, data, loss, settings, largest)


def _fitting_on_gpu(
    models: Any, data: Data, loss: Loss, settings: ToySettings, largest: Int[Tensor, "one"]
) -> int:
    device = largest.device
    used = [_peak(models, data, loss, settings, largest.expand(k)) for k in _PROBES]
    each = max(used[-1] - used[-2], 1)
    free = free_memory(device) or 0
    fitting = int(_SHARE_OF_FREE_MEMORY * free) // each
    if fitting < 1:
        raise InputError(
            f"one instance takes {readable(each)} of {device}, which has {readable(free)} free: "
            "give a smaller batch_size."
        )
    return fitting


def _largest(data: Data, batch_size: int | None, device: torch.device) -> Int[Tensor, "one"]:
    """An instance whose batch is as large as any's."""
    weight = data.batch(0, None).weight if batch_size is None else None
    if weight is None:  # all are alike
        return torch.zeros(1, dtype=torch.int64, device=device)
    return (weight > 0).sum(1).argmax()[None]


def _peak(models: Any, data: Data, loss: Loss, settings: ToySettings, chosen: Tensor) -> int:
    """Bytes that a pass takes on a GPU, with AdamW's state and the gradients.

    As they were asked for: what the allocator gives is rounded up, by as much as a small model.
    """
    device = chosen.device
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_stats(device)["requested_bytes.all.current"]
    part = models.select(chosen)
    losses = losses_of(part, data.select(chosen), loss.select(chosen), 0, settings.batch_size)
    losses.sum().backward()
    torch.cuda.synchronize(device)
    moments = 2 * sum(p.numel() * p.element_size() for p in part.parameters())
    return torch.cuda.memory_stats(device)["requested_bytes.all.peak"] - before + moments
