"""Engines by name."""

from __future__ import annotations

from typing import Any

from interp.engines.base import Engine
from interp.engines.local import LocalEngine
from interp.engines.ray import RayEngine
from interp.errors import InputError, unknown

ENGINES = ("local", "ray")


def make_engine(
    name: str = "local",
    *,
    workers: int | None = None,
    address: str | None = None,
    cpus_per_worker: float | None = None,
    gpus_per_worker: float | None = None,
    threads_per_worker: int | None = None,
    stall_seconds: float | None = None,
) -> Engine:
    """Make an engine.

    Args:
        name: `"local"`: one worker in this process, for which there is nothing to set. `"ray"`: a
            pool on Ray.
        workers, address, cpus_per_worker, gpus_per_worker, threads_per_worker, stall_seconds: As
            for `RayEngine`. None: its default.

    Raises:
        InputError: If there is no such engine, a setting breaks its rule, or one is given for the
            local engine.
    """
    if name not in ENGINES:
        raise unknown("engine", name, ENGINES)
    given: dict[str, Any] = {
        "workers": workers,
        "address": address,
        "cpus_per_worker": cpus_per_worker,
        "gpus_per_worker": gpus_per_worker,
        "threads_per_worker": threads_per_worker,
        "stall_seconds": stall_seconds,
    }
    given = {key: value for key, value in given.items() if value is not None}
    if name == "ray":
        return RayEngine(**given)
    if given:
        raise InputError(
            f"the local engine is one worker with nothing to set; {', '.join(given)} are for "
            f"engine='ray'. Received {given}."
        )
    return LocalEngine()
