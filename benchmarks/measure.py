"""Timing jobs in turns, and the peak of the memory that they allocate."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass(slots=True)
class Timing:
    """What was measured of one job.

    Attributes:
        milliseconds: Of every call that counts.
        peak_bytes: The most that a call had allocated, above what stood before it. None: not
            measured.
    """

    milliseconds: list[float] = field(default_factory=list)
    peak_bytes: int | None = None

    @property
    def median(self) -> float:
        """Of the calls, in milliseconds."""
        return statistics.median(self.milliseconds)

    @property
    def quartiles(self) -> tuple[float, float]:
        """Between which half of the calls lie."""
        if len(self.milliseconds) < 2:
            return self.median, self.median
        low, _, high = statistics.quantiles(self.milliseconds, n=4, method="inclusive")
        return low, high


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure.

    Attributes:
        seconds: To spend on a set of jobs that are timed in turns.
        at_least: Rounds, however long they take.
        at_most: Rounds.
        warmups: Calls of each job before; the first one is the one whose numbers are checked.
    """

    seconds: float
    at_least: int = 3
    at_most: int = 40
    warmups: int = 2


def synchronise(device: str) -> None:
    """Wait for the device, so that the clock reads finished work."""
    if device == "cuda":
        torch.cuda.synchronize()


def call(run: Callable[[], Any], device: str, timing: Timing | None = None) -> tuple[Any, float]:
    """What a job returns, and its seconds; on CUDA its peak memory is noted as well."""
    synchronise(device)
    before = 0
    if device == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    kept = run()
    synchronise(device)
    seconds = time.perf_counter() - start
    if timing is not None:
        timing.milliseconds.append(seconds * 1e3)
        if device == "cuda":
            peak = torch.cuda.max_memory_allocated() - before
            timing.peak_bytes = max(timing.peak_bytes or 0, peak)
    return kept, seconds


def in_turns(
    runs: dict[str, Callable[[], Any]],
    first: dict[str, float | None],
    device: str,
    effort: Effort,
) -> dict[str, Timing]:
    """Time jobs in turns, so that what disturbs the machine disturbs all of them alike.

    Args:
        runs: Name → job.
        first: Seconds of each job's first call; None: it compiled. Where a round takes longer than
            half of `effort.seconds` these count as a round: what a first call does once weighs
            nothing then.
        device: `cpu` or `cuda`.
        effort: How long.
    """
    found = {name: Timing() for name in runs}
    plain = {name: seconds for name, seconds in first.items() if seconds is not None}
    whole = sum(plain.values())
    is_long = len(plain) == len(runs) and whole > effort.seconds / 2
    if is_long:
        for name, seconds in plain.items():
            found[name].milliseconds.append(seconds * 1e3)
    else:
        for _ in range(effort.warmups - 1):
            whole = sum(call(run, device)[1] for run in runs.values())
    rounds = round(effort.seconds / max(whole, 1e-9))
    rounds = max(effort.at_least, min(effort.at_most, rounds)) - is_long
    names = list(runs)
    for i in range(rounds):
        gc.collect()
        # Each begins a round in its turn: nobody always follows the same neighbour from cold.
        shift = i % len(names)
        for name in names[shift:] + names[:shift]:
            call(runs[name], device, found[name])
    return found


def peak_on_cpu(run: Callable[[], Any]) -> int:
    """The most bytes that one call had allocated through PyTorch, above what stood before it.

    Every allocation and release is an event of the profiler; the peak of their running sum is
    exact, other than the process's own memory, which also holds what its allocator keeps.
    """
    from torch.profiler import ProfilerActivity, profile

    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as traced:
        kept = run()
    events = traced.profiler.kineto_results.events()
    changes = [(e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]"]
    del kept
    peak = held = 0
    for _, change in sorted(changes, key=lambda c: c[0]):
        held += change
        peak = max(peak, held)
    return peak


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Bytes of the memory behind tensors, what they share counted once."""
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage() for t in tensors}
    return sum(storage.nbytes() for storage in storages.values())


def difference(found: Tensor, expected: Tensor) -> float:
    """max |found - expected| / max(1, max |expected|).

    Raises:
        ValueError: for other shapes, or a NaN in one of them.
    """
    if found.shape != expected.shape:
        raise ValueError(f"shapes differ: {tuple(found.shape)} and {tuple(expected.shape)}")
    found = found.to(expected.device)
    if not expected.numel():
        return 0.0
    worst, scale = 0.0, 1.0
    # A part at a time: a second copy of the largest recordings in fp64 would not fit.
    parts = (x.detach().reshape(-1).split(2**26) for x in (found, expected))
    for ours, theirs in zip(*parts, strict=True):
        error = float((ours.double() - theirs.double()).abs().max())
        if math.isnan(error):
            raise ValueError("a NaN where a number is expected")
        worst, scale = max(worst, error), max(scale, float(theirs.abs().max()))
    return worst / scale
