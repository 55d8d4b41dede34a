"""How many bytes tensors keep alive, how many a device has left, and how to write them down."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from jaxtyping import Shaped
from torch import Tensor

_MEMINFO = Path("/proc/meminfo")
_STATM = Path("/proc/self/statm")
# (limit, use, detailed use) of a container, by control groups of version 2 and 1.
_CONTAINER = (
    ("memory.max", "memory.current", "memory.stat"),
    (
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "memory/memory.stat",
    ),
)
_CONTROL_GROUP = Path("/sys/fs/cgroup")


def bytes_kept(tensors: Iterable[Shaped[Tensor, "..."]]) -> int:
    """Bytes of memory that these tensors keep alive, each storage counted once."""
    # By identity: on devices without memory (`meta`) all addresses are the same.
    storages = {s._cdata: s.nbytes() for s in (t.untyped_storage() for t in tensors)}
    return sum(storages.values())


def bytes_by_name(named: Mapping[str, Shaped[Tensor, "..."]]) -> dict[str, int]:
    """The same by name: each storage under the first name that has it."""
    found: dict[str, int] = {}
    seen: set[int] = set()
    for name, tensor in named.items():
        storage = tensor.untyped_storage()
        if storage._cdata not in seen:
            seen.add(storage._cdata)
            found[name] = storage.nbytes()
    return found


def readable(n_bytes: int) -> str:
    """`1536` → `1.5 KiB`."""
    size = float(n_bytes)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def free_memory(device: torch.device) -> int | None:
    """Bytes that new tensors could take on a device; None where nothing tells.

    CUDA: what the driver calls free, and what torch's allocator holds without using it. CPU: what
    Linux calls available (unused, or holding files that can be read again) with free swap, or what
    a container's limit or the process's own (`ulimit -v`) leaves, whichever is less. Other systems
    count as free only what is unused, which says too little, so they are not asked.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type != "cpu" or not _MEMINFO.exists():
        return None
    found = _fields(_MEMINFO)
    free = 1024 * (found.get("MemAvailable", 0) + found.get("SwapFree", 0))
    limits = [free] if "MemAvailable" in found else []
    for names in _CONTAINER:
        left = _left_in_container(*(_CONTROL_GROUP / name for name in names))
        if left is not None:
            limits.append(left)
    own = _left_in_address_space()
    if own is not None:
        limits.append(own)
    return min(limits, default=None)


def _left_in_address_space() -> int | None:
    import resource  # not on every system

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return None
    pages = int(_STATM.read_text().split()[0])
    return max(0, limit - pages * resource.getpagesize())


def _left_in_container(limit: Path, use: Path, detail: Path) -> int | None:
    if not (limit.exists() and use.exists() and detail.exists()):
        return None
    most = limit.read_text().strip()
    if not most.isdigit():
        return None  # `max`: no limit
    files = _fields(detail).get("inactive_file", 0)  # given back before memory runs out
    return int(most) - int(use.read_text()) + files


def _fields(path: Path) -> dict[str, int]:
    """`MemFree:  12 kB` or `anon 12` in every line → name and number."""
    parts = (line.replace(":", " ").split() for line in path.read_text().splitlines())
    return {p[0]: int(p[1]) for p in parts if len(p) > 1 and p[1].isdigit()}
