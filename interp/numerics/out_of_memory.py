"""A run that has run out of memory: what took it, and how many rows would fit."""

from __future__ import annotations

import re
import traceback
from typing import TYPE_CHECKING

import torch

from interp.devices.memory import bytes_by_name, bytes_kept, free_memory, readable
from interp.numerics.errors import OutOfMemoryError
from interp.run.inputs import RunInput
from interp.run.record_size import RecordBudget
from interp.run.recording import WHAT_HELPS, CacheRecorder, largest

if TYPE_CHECKING:
    from torch import Tensor

    from interp.transformer import HookedTransformer

_CPU = "can't allocate memory"  # of torch's DefaultCPUAllocator
_UNITS = {"bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_ASKED = re.compile(r"ried to allocate ([\d.]+) (bytes|KiB|MiB|GiB)")
_GPU = re.compile(r"GPU (\d+)")
# Of the memory that is free, so much may be planned with: allocators lose some between tensors.
_SHARE = 0.9


def is_out_of_memory(fault: RuntimeError) -> bool:
    """Whether an error of torch says that memory has run out."""
    if isinstance(fault, OutOfMemoryError):
        return False  # of a run inside this one, told already
    return isinstance(fault, torch.OutOfMemoryError) or _CPU in str(fault)


def explain(model: HookedTransformer, given: RunInput, fault: RuntimeError) -> OutOfMemoryError:
    """What to raise instead of torch's error, from within its handler.

    The tensors that the failed run still holds are let go first; what that sets free is what the
    run had taken. How many rows would fit follows in proportion from that (with gradients, to which
    every block adds: scaled from the blocks done so far to all), from what was asked for at last,
    and from all that the run was to record.
    """
    first = given.tokens if given.tokens is not None else given.residual
    assert first is not None
    n_rows, n_pos = first.shape[:2]
    device = _device_of(fault, model)
    done, n_blocks = _progress(fault)
    left = free_memory(device)
    traceback.clear_frames(fault.__traceback__)
    free = free_memory(device)
    records, planned = _records(model), _planned(model)
    kept = bytes_kept(x for x in records.values() if x.device == device)
    taken = 0 if free is None or left is None else max(0, free - left)
    asked = _bytes_asked(fault)
    if torch.is_grad_enabled() and _trains(model):
        taken = taken * n_blocks // (done + 1)
    needed = asked + taken + max(kept, sum(planned.values()))
    rows = 0
    if free is not None and needed > 0:
        rows = min(int(_SHARE * (free + kept) * n_rows / needed), n_rows - 1)
    where = f" in block {done} of {n_blocks}" if n_blocks else ""
    told = [
        f"{device} ran out of memory{where}: {readable(asked)} more were asked for, by a run of "
        f"{n_rows} rows of {n_pos} positions"
    ]
    if free is not None:
        told.append(f"Without this run {readable(free + kept)} are free")
        told.append(
            f"About {rows} rows would fit, at most" if rows else "Not even one row would fit"
        )
    sizes = planned or bytes_by_name(records)
    if sizes:
        told.append(f"Records of the whole run: {largest(sizes)}")
        told.append(WHAT_HELPS.rstrip("."))
    elif torch.is_grad_enabled():
        told.append("Nothing is kept for gradients under torch.no_grad()")
    return OutOfMemoryError(". ".join(told) + ".", device=device, n_rows=n_rows, rows_that_fit=rows)


def _bytes_asked(fault: RuntimeError) -> int:
    found = _ASKED.search(str(fault))
    return 0 if found is None else int(float(found[1]) * _UNITS[found[2]])


def _device_of(fault: RuntimeError, model: HookedTransformer) -> torch.device:
    if not isinstance(fault, torch.OutOfMemoryError):
        return torch.device("cpu")
    found = _GPU.search(str(fault))
    return model.W_E.device if found is None else torch.device("cuda", int(found[1]))


def _progress(fault: RuntimeError) -> tuple[int, int]:
    """How many blocks were done when it failed, of how many; zeros outside the blocks."""
    from interp.run.steps import run_blocks

    for frame, _ in traceback.walk_tb(fault.__traceback__):
        if frame.f_code is run_blocks.__code__ and "layer" in frame.f_locals:
            layers: range = frame.f_locals["layers"]
            return layers.index(frame.f_locals["layer"]), len(layers)
    return 0, 0


def _records(model: HookedTransformer) -> dict[str, Tensor]:
    """What the recorders attached to the model hold by now."""
    recorders = {id(point.recorder): point.recorder for point in model.hook_points()}
    found: dict[str, Tensor] = {}
    for recorder in recorders.values():
        recorder = getattr(recorder, "inner", recorder)  # behind `check_finite`
        if isinstance(recorder, CacheRecorder):
            found |= recorder.cache
    return found


def _planned(model: HookedTransformer) -> dict[str, int]:
    """Hook → bytes of all that the run would have recorded, if it is recorded."""
    budget = model._watchers.before_blocks
    return budget.estimate() if isinstance(budget, RecordBudget) else {}


def _trains(model: HookedTransformer) -> bool:
    return any(weight.requires_grad for weight in model.parameters())
