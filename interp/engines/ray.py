"""A pool of workers on Ray, on this machine or a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from interp.engines.base import OpenWorker, Tell, checked_items
from interp.errors import require, require_extra, require_number, require_whole


@dataclass(frozen=True, kw_only=True)
class RayEngine:
    """Does items in a pool of processes, each with a worker of its own.

    Every process has two items in hand, so that one is written while the next is computed. One that
    dies is replaced, and what it had in hand is given out again; an item that was in hand alone
    when its process died, again and again, ends the work. An error that a worker raises ends the
    work too: it would be raised again. No process outlives the work.

    Attributes:
        workers: How many. None: as many as there are CPUs for, or GPUs where workers take those.
            Never more than items.
        address: None: the Ray that this process is connected to; without one a Ray of its own is
            started on this machine, and ended with the work. Else that of a cluster, as `ray.init`
            takes it (`"auto"`, `"10.0.0.1:6379"`), from which it is disconnected in the end.
        cpus_per_worker: What Ray reserves for a worker, a fraction of a CPU or more. None: at most
            1, and so that a tenth of the CPUs that are free is left to others.
        gpus_per_worker: GPUs of a worker, a fraction or more. With 0 it sees none.
        threads_per_worker: Torch's threads in a worker. None: so that all of them together have no
            more than there are CPUs.
        stall_seconds: After so long without anything being placed, opened or done, it ends with an
            error. An item that takes longer needs more.

    Raises:
        InputError: If a setting breaks its rule.
    """

    workers: int | None = None
    address: str | None = None
    cpus_per_worker: float | None = None
    gpus_per_worker: float = 0.0
    threads_per_worker: int | None = None
    stall_seconds: float = 1800.0

    def __post_init__(self) -> None:
        if self.workers is not None:
            require_whole("workers", self.workers, 1)
        if self.threads_per_worker is not None:
            require_whole("threads_per_worker", self.threads_per_worker, 1)
        if self.cpus_per_worker is not None:
            require_number("cpus_per_worker", self.cpus_per_worker)
        require_number("gpus_per_worker", self.gpus_per_worker, zero=True)
        require_number("stall_seconds", self.stall_seconds)
        for name in ("cpus_per_worker", "gpus_per_worker"):
            amount = getattr(self, name)
            require(
                amount is None or amount <= 1 or float(amount).is_integer(),
                f"Ray reserves parts of 1 or whole numbers: {name} must be one. Received {amount}",
            )
        require(
            self.address is None or bool(self.address.strip()),
            f"address must name a cluster. Received {self.address!r}",
        )

    def run(self, open_worker: OpenWorker, items: Sequence[int], done: Tell) -> None:
        """Have every item done, and tell of each; see `Engine.run`.

        Raises:
            MissingExtraError: If Ray is not installed.
        """
        todo = checked_items(items)
        if not todo:
            return
        require_extra("ray", "scale")
        from interp.engines.ray_cluster import connected, find_share
        from interp.engines.ray_pool import Pool

        with connected(self.address):
            share = find_share(self, len(todo))
            with Pool(open_worker, share, todo, self.stall_seconds) as pool:
                pool.run(done)
