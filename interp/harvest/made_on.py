"""On what a shard was made, and whether that promises the same bits elsewhere."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from interp.devices.parsing import dtype_name

_SURE_DTYPES = ("float32", "float64")


def made_on(model: nn.Module) -> dict[str, Any]:
    """What can change the last bits of what a model computes in this process, as JSON values.

    Returns:
        `torch` (version), `device` (`cpu`, or the names of the GPUs that the model is on),
        `machine` (`x86_64`), `threads` (of torch), `cpu` (which instructions torch uses), `dtype`
        (of the weights), and on a GPU `cuda` (version) and `tf32` (whether float32 products are
        rounded).
    """
    devices = sorted({_name(p.device) for p in model.parameters()})
    found: dict[str, Any] = {
        "torch": str(torch.__version__),
        "device": ", ".join(devices),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "dtype": ", ".join(sorted({dtype_name(p.dtype) for p in model.parameters()})),
    }
    if any(p.is_cuda for p in model.parameters()):
        found["cuda"] = torch.version.cuda
        found["tf32"] = torch.backends.cuda.matmul.allow_tf32
    return found


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def promises_same_bits(makers: Iterable[Mapping[str, Any]]) -> bool:
    """Whether making these shards again on such a machine must give the same bits.

    It is promised where all were made alike, on a CPU, in float32 or float64. Elsewhere the same
    bits are likely but nobody vouches for it.
    """
    kinds = {tuple(sorted((k, str(v)) for k, v in maker.items())) for maker in makers}
    if len(kinds) != 1:
        return False
    (kind,) = kinds
    fields = dict(kind)
    return fields.get("device") == "cpu" and fields.get("dtype") in _SURE_DTYPES
