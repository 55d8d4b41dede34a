"""Where and with what something was measured."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

_PACKAGES = ("torch", "transformers", "transformer-lens", "nnsight", "triton", "numpy")


def describe(device: str) -> dict[str, str]:
    """Heading → text, for the head of a report."""
    found = {"date": datetime.now(UTC).strftime("%Y-%m-%d"), "device": device}
    if device == "cuda":
        _, whole = torch.cuda.mem_get_info()
        found["GPU"] = f"{torch.cuda.get_device_name()}, {whole / 2**30:.0f} GiB"
        found["CUDA"] = str(torch.version.cuda)
    found["CPU"] = f"{_cpu_model()}, {_n_cores()} cores"
    found["threads"] = str(torch.get_num_threads())
    found["system"] = (
        f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    )
    found["versions"] = ", ".join(f"{p} {_version(p)}" for p in _PACKAGES)
    return found


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _n_cores() -> int | None:
    """Those that this process may use, where the system tells."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
