"""The Ray that a pool runs on: started or joined, and how much of it the pool takes."""

from __future__ import annotations

import logging
import math
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from interp.engines.base import EngineError
from interp.errors import InputError

if TYPE_CHECKING:
    from interp.engines.ray import RayEngine

OBJECT_STORE = 128 * 2**20  # bytes: what a pool passes through it is small
LEFT_TO_OTHERS = 0.1  # of the CPUs that are free
ROOM_SECONDS = 20.0  # for what workers of an earlier run held to become free again
_GRAIN = 10_000  # Ray counts in ten-thousandths


@dataclass(frozen=True)
class Share:
    """What a pool takes of a Ray.

    Attributes:
        workers: How many processes.
        cpus, gpus: What is reserved for each.
        threads: Torch's threads in each.
    """

    workers: int
    cpus: float
    gpus: float
    threads: int

    def told(self) -> str:
        """For an error: what is reserved."""
        gpus = f" and {self.gpus:g} GPU" if self.gpus else ""
        return f"{self.workers} workers that reserve {self.cpus:g} CPU{gpus} each"


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Be connected to a Ray inside; see `RayEngine.address`.

    Raises:
        InputError: If this process is connected to another Ray.
        EngineError: If there is no Ray at the address, or none can be started.
    """
    import ray

    if ray.is_initialized():
        _require_same(address)
        yield
        return
    of_terminate = signal.getsignal(signal.SIGTERM)
    with _without_messages():
        try:
            with _quiet_start():
                _join(address)
            _restore(of_terminate)  # Ray puts its own in its place
            yield
        finally:
            ray.shutdown()  # ends a Ray of our own, leaves any other
            _restore(of_terminate)


def find_share(engine: RayEngine, n_items: int) -> Share:
    """How many workers there are to be, and what each takes.

    Raises:
        EngineError: If the cluster has no room for what was asked for, or will not have it soon.
    """
    import ray

    nodes = _nodes()
    cpus, gpus = (sum(node.get(kind, 0.0) for node in nodes) for kind in ("CPU", "GPU"))
    workers = engine.workers
    if workers is None:
        each = engine.cpus_per_worker or 1.0
        workers = int(gpus / engine.gpus_per_worker if engine.gpus_per_worker else cpus / each)
    workers = max(1, min(workers, n_items))
    reserved = engine.cpus_per_worker
    if reserved is None:
        free = max(ray.available_resources().get("CPU", 0.0), 1.0)
        reserved = largest_that_fits(
            nodes, workers, min(1.0, free * (1 - LEFT_TO_OTHERS) / workers)
        )
    # A worker's threads run on one node, however many there are.
    most_threads = max((node.get("CPU", 0.0) for node in nodes), default=1.0)
    threads = engine.threads_per_worker or max(1, int(min(cpus / workers, most_threads)))
    share = Share(workers, reserved, engine.gpus_per_worker, threads)
    if (found := places(nodes, share.cpus, share.gpus)) < share.workers:
        raise EngineError(
            f"there is room for {found} workers, not for {share.told()}: {room()}. Ask for fewer "
            "workers, or less for each."
        )
    _await_room(share)
    return share


def places(nodes: Sequence[Mapping[str, float]], cpus: float, gpus: float) -> int:
    """How many workers fit on nodes with these resources, while nobody else is there."""
    found = 0
    for has in nodes:
        fits = [has.get("CPU", 0.0) / cpus]
        fits += [has.get("GPU", 0.0) / gpus] if gpus else []
        found += int(min(fits) + 1e-9)
    return found


def largest_that_fits(nodes: Sequence[Mapping[str, float]], workers: int, most: float) -> float:
    """What to reserve for each of so many workers, so that a node's last one is not cut off."""
    # A node with c CPUs holds k workers of c / k: no other sizes need be looked at.
    sizes = {node.get("CPU", 0.0) / k for node in nodes for k in range(1, workers + 1)}
    for size in sorted({most, *(size for size in sizes if size < most)}, reverse=True):
        reserved = math.floor(size * _GRAIN) / _GRAIN
        if reserved > 0 and places(nodes, reserved, 0) >= workers:
            return reserved
    return max(math.floor(most * _GRAIN), 1) / _GRAIN


def room() -> str:
    """For an error: what there is on each node, and what of it is free in all."""
    import ray

    free = ray.available_resources()
    nodes = [f"{has.get('CPU', 0):g} CPU and {has.get('GPU', 0):g} GPU" for has in _nodes()]
    return (
        f"Ray has {len(nodes)} nodes ({'; '.join(nodes)}), of which {free.get('CPU', 0.0):g} CPU "
        f"and {free.get('GPU', 0.0):g} GPU are free"
    )


def _join(address: str | None) -> None:
    import ray

    try:
        if address is not None:
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
            return
        ray.init(
            "local",
            num_cpus=_cpus(),
            object_store_memory=OBJECT_STORE,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, RuntimeError, ValueError, OSError, ray.exceptions.RayError) as fault:
        if address is None:
            raise EngineError(f"no Ray could be started: {fault}") from fault
        if _is_refusal(fault):
            raise EngineError(
                f"the Ray at {address!r} takes those alone who have its token: set "
                "RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN where ~/.ray/auth_token is another one."
            ) from fault
        raise EngineError(f"there is no Ray at {address!r}: {fault}") from fault


def _is_refusal(fault: BaseException) -> bool:
    """Whether a Ray was there, but took no token or another one; Ray tells it deep inside."""
    found: BaseException | None = fault
    while found is not None:
        if "InvalidAuthToken" in str(found):
            return True
        found = found.__cause__ or found.__context__
    return False


def _cpus() -> int:
    """The CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def _without_messages() -> Iterator[None]:
    """Keep what Ray tells of dead processes off stdout, where results go: errors here tell it."""
    from ray._private import worker

    # `log_to_driver=False` does not reach these messages, and there is no public way.
    before, worker._worker_logs_enabled = worker._worker_logs_enabled, False
    try:
        yield
    finally:
        worker._worker_logs_enabled = before


@contextmanager
def _quiet_start() -> Iterator[None]:
    """Start a Ray that sends nothing home, and gives no hints of its own."""
    wanted = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _restore(handler: object) -> None:
    if threading.current_thread() is threading.main_thread() and callable(handler):
        signal.signal(signal.SIGTERM, handler)


def _require_same(address: str | None) -> None:
    import ray

    own = ray.get_runtime_context().gcs_address
    if address not in (None, "auto", own):
        raise InputError(
            f"this process is connected to the Ray at {own}; address must be None or that one. "
            f"Received {address!r}."
        )


def _nodes() -> list[dict[str, float]]:
    """The resources of each node."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _await_room(share: Share) -> None:
    """Wait until what is free suffices, for a short while."""
    import ray

    need = {"CPU": share.cpus * share.workers, "GPU": share.gpus * share.workers}
    until = time.monotonic() + ROOM_SECONDS
    while True:
        free = ray.available_resources()
        if all(free.get(kind, 0.0) + 1e-6 >= amount for kind, amount in need.items()):
            return
        if time.monotonic() > until:
            raise EngineError(
                f"others hold the room for {share.told()}: {room()}. Ask for fewer workers, or "
                "wait until it is free."
            )
        time.sleep(0.25)
