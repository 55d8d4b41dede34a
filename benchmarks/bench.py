"""Running a suite: contenders are checked against one another, then timed in turns."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from benchmarks import contenders
from benchmarks.contenders import Contenders, Job
from benchmarks.contenders.base import Reading
from benchmarks.given import Given
from benchmarks.measure import Timing, bytes_of, call, difference, in_turns, peak_on_cpu
from benchmarks.suites import Entry

# Scaled as in `measure.difference`. Half precision rounds at every step, differently in each.
LIMITS = {torch.float64: 1e-10, torch.float32: 1e-5, torch.bfloat16: 0.1, torch.float16: 0.02}


@dataclass(slots=True)
class Row:
    """What was found of one contender in one task.

    Attributes:
        task, contender, shape, dtype: What was measured.
        note: From the job.
        milliseconds: Of every call that counts.
        peak_bytes: The most that a call had allocated. None: not measured.
        recorded_bytes: Of a recording: its tensors, logits included, what they share counted once.
        compile_seconds: What the first call took, of a contender that compiles in it.
        difference: The largest scaled difference to the task's first contender.
        problem: Why there is no result, or why it must not be trusted.
    """

    task: str
    contender: str
    shape: str
    dtype: str
    note: str = ""
    milliseconds: list[float] = field(default_factory=list)
    peak_bytes: int | None = None
    recorded_bytes: int | None = None
    compile_seconds: float | None = None
    difference: float | None = None
    problem: str = ""


@dataclass(slots=True)
class _Checked:
    """A job that ran once and agreed."""

    job: Job
    row: Row
    seconds: float


def run_entry(
    entry: Entry,
    device: str,
    compile_mode: str = "default",
    packages: Sequence[type[Contenders]] = contenders.ALL,
) -> Iterator[list[Row]]:
    """Rows, a set at a time: those of jobs that were timed in turns."""
    for name in entry.dtypes:
        dtype = getattr(torch, name)
        given = Given(entry.shape, device, dtype, compile_mode)
        built = [p(given, entry.compiles) for p in packages if p.is_installed()]
        sets = [(task,) for task in entry.tasks] if entry.apart else [entry.tasks]
        for tasks in sets:
            with torch.no_grad():
                yield _run_set(entry, tasks, given, built)
        del given, built
        _forget(device)


def _run_set(
    entry: Entry, tasks: Iterable[str], given: Given, built: list[Contenders]
) -> list[Row]:
    rows: list[Row] = []
    ready: dict[str, _Checked] = {}
    for task in tasks:
        for checked in check(task, given, built, rows):
            ready[f"{task} | {checked.row.contender}"] = checked
    if not ready:
        return rows
    runs = {name: c.job.run for name, c in ready.items()}
    first = {name: None if c.job.compiles else c.seconds for name, c in ready.items()}
    timings: dict[str, Timing] = in_turns(runs, first, given.device, entry.effort)
    for name, checked in ready.items():
        row, timing = checked.row, timings[name]
        row.milliseconds, row.peak_bytes = timing.milliseconds, timing.peak_bytes
        if given.device == "cpu" and entry.memory:
            row.peak_bytes = peak_on_cpu(checked.job.run)
    return rows


def check(task: str, given: Given, built: Iterable[Contenders], rows: list[Row]) -> list[_Checked]:
    """Run every contender of a task once and compare what they found.

    A contender that fails or disagrees gets a row that says so, and is not timed: one package's
    fault must not cost the figures of the others.
    """
    found: list[_Checked] = []
    expected: Reading | None = None
    limit = LIMITS[given.dtype]

    def fresh(contender: str) -> Row:
        row = Row(task, contender, given.shape.name, str(given.dtype).removeprefix("torch."))
        rows.append(row)
        return row

    for package in built:
        jobs, problem = _attempt(partial(package.jobs, task))
        if problem:
            fresh(package.package).problem = problem
            continue
        for name, job in jobs.items():
            row = fresh(name)
            row.note = job.note
            result, row.problem = _attempt(partial(call, job.run, given.device))
            if row.problem:
                continue
            output, seconds = result
            reading = job.read(output)
            row.compile_seconds = seconds if job.compiles else None
            if job.recorded is not None:
                row.recorded_bytes = bytes_of(job.recorded(output))
            if not reading:
                pass  # nothing to agree on: timed for scale
            elif expected is None:
                expected = {n: t.clone() for n, t in reading.items()}
            else:
                row.difference, row.problem = _attempt(partial(_distance, reading, expected))
                if not row.problem and row.difference > limit:
                    row.problem = f"disagrees by {row.difference:.1e} (limit {limit:.0e})"
            del output, result, reading
            if not row.problem:
                found.append(_Checked(job, row, seconds))
    return found


def _distance(reading: Reading, expected: Reading) -> float:
    shared = reading.keys() & expected.keys()
    if not shared:
        raise ValueError(f"nothing to compare: {sorted(reading)} and {sorted(expected)}")
    return max(difference(reading[name], expected[name]) for name in shared)


def _attempt(run: Callable[[], Any]) -> tuple[Any, str]:
    """What it returns, and what went wrong."""
    try:
        return run(), ""
    except torch.OutOfMemoryError:
        return None, "out of memory"
    except Exception as fault:
        return None, f"{type(fault).__name__}: {str(fault).splitlines()[0] if str(fault) else ''}"


def _forget(device: str) -> None:
    """Give back what compiled programs and models of one shape held."""
    torch.compiler.reset()
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
