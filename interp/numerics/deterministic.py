"""Runs that give the same bits each time."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from interp.errors import require, require_whole

_VARIABLE = "CUBLAS_WORKSPACE_CONFIG"
# What cuBLAS computes deterministically with: https://docs.nvidia.com/cuda/cublas/#results-reproducibility
_DETERMINISTIC = (":4096:8", ":16:8")
_SEEDS = 1 << 32  # numpy's legacy generator takes no larger one


@contextmanager
def deterministic(seed: int | None = None) -> Iterator[None]:
    """Let torch compute the same bits each time, for the length of the block; then undo it.

    Only deterministic algorithms are used: an operation that has none raises torch's RuntimeError,
    which names it. TF32 is off, and cuDNN does not choose its algorithms by their speed. With the
    same weights, input, machine and versions, two runs are then equal bit for bit, forward and
    backward.

    Of interp's own operations on CUDA, sums into chosen places (`index_add`, `scatter_add`,
    `index_put` with accumulation: experts, probes, scores by offset) take torch's deterministic
    algorithms. `torch.histc` (`weight_circuits`' histograms) has none there and raises.

    cuBLAS must be told before CUDA starts: where it has not started yet, the environment variable
    CUBLAS_WORKSPACE_CONFIG is set to `:4096:8` here, and stays set if CUDA starts inside.

    Args:
        seed: Seed the generators of torch (CPU and CUDA), numpy and Python. None: they go on from
            where they are. Either way they are put back after the block (not those of a CUDA that
            starts inside: there is nothing to go back to).

    Raises:
        InputError: if CUDA has started without that variable, or for a seed that is no whole
            number from 0 to 2³² - 1.
    """
    if seed is not None:
        require_whole("seed", seed, 0)
        require(seed < _SEEDS, f"seed must be below 2^32. Received {seed}")
    variable = os.environ.get(_VARIABLE)
    starts = torch.cuda.is_available() and variable not in _DETERMINISTIC
    require(
        not (starts and torch.cuda.is_initialized()),
        f"{_VARIABLE} must be {' or '.join(_DETERMINISTIC)} before CUDA starts, and CUDA has "
        f"started: set it in the environment of the process. Received {variable!r}",
    )
    import numpy as np

    before = _State()
    python, numpy = random.getstate(), np.random.get_state()
    gpus = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    try:
        with torch.random.fork_rng(devices=gpus):
            if starts:
                os.environ[_VARIABLE] = _DETERMINISTIC[0]
            _make_deterministic()
            if seed is not None:
                random.seed(seed)
                np.random.seed(seed)
                torch.manual_seed(seed)
            yield
    finally:
        before.restore()
        random.setstate(python)
        np.random.set_state(numpy)
        if starts and not torch.cuda.is_initialized():
            _put_back(variable)


def _put_back(variable: str | None) -> None:
    if variable is None:
        os.environ.pop(_VARIABLE, None)
    else:
        os.environ[_VARIABLE] = variable


def _make_deterministic() -> None:
    torch.set_deterministic_debug_mode("error")
    inductor = _inductor()
    if inductor is not None:
        inductor.deterministic = True
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    # By the older switches too: torch refuses to read one that the newer ones contradict.
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    for part in _precision_parts():
        part.fp32_precision = "ieee"


def _inductor() -> Any:
    """The settings of torch's compiler, where something has loaded it: that takes seconds."""
    found = sys.modules.get("torch._inductor.config")
    return found if hasattr(found, "deterministic") else None


def _precision_parts() -> list[Any]:
    """What has a precision of its own for fp32 (torch ≥ 2.9): products, convolutions, RNNs."""
    found = (
        torch.backends.cuda.matmul,
        *(getattr(torch.backends.cudnn, n, None) for n in ("conv", "rnn")),
        *(getattr(torch.backends.mkldnn, n, None) for n in ("matmul", "conv", "rnn")),
    )
    return [part for part in found if hasattr(part, "fp32_precision")]


def _unless_contradicted(read: Callable[[], Any]) -> Any:
    """What an older switch says; None where torch refuses, as newer ones say something else."""
    try:
        return read()
    except RuntimeError:
        return None


class _State:
    """torch's switches as they are now."""

    def __init__(self) -> None:
        self._mode = torch.get_deterministic_debug_mode()
        self._compiles = getattr(_inductor(), "deterministic", None)
        cudnn = torch.backends.cudnn
        self._cudnn = cudnn.deterministic, cudnn.benchmark
        self._precision = _unless_contradicted(torch.get_float32_matmul_precision)
        self._allow_tf32 = _unless_contradicted(lambda: cudnn.allow_tf32)
        self._parts = [(part, part.fp32_precision) for part in _precision_parts()]

    def restore(self) -> None:
        torch.set_deterministic_debug_mode(self._mode)
        inductor = _inductor()
        if inductor is not None and self._compiles is not None:
            inductor.deterministic = self._compiles
        cudnn = torch.backends.cudnn
        cudnn.deterministic, cudnn.benchmark = self._cudnn
        if self._precision is not None:
            torch.set_float32_matmul_precision(self._precision)
        if self._allow_tf32 is not None:
            cudnn.allow_tf32 = self._allow_tf32
        for part, precision in self._parts:
            part.fp32_precision = precision
