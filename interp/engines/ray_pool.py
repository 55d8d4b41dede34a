"""The processes of a pool on Ray: each made, given work, and replaced when it dies."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import ray
from ray.exceptions import (
    ActorDiedError,
    ActorUnschedulableError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RayTaskError,
    WorkerCrashedError,
)

from interp.engines.base import EngineError, OpenWorker, Tell, Worker
from interp.engines.handing_out import MOST_DEATHS, HandingOut
from interp.engines.ray_cluster import Share, room

AT_ONCE = (
    2  # items that a process has in hand: one is computed, one written or about to be computed
)
PLACE_SECONDS = 90.0  # for the first process to start
_POLL = 1.0  # seconds between looks at the clock

# What tells that a process, or the machine it was on, is gone. Whether it had done its item is then
# unknown: the item is done again.
_GONE = (RayActorError, WorkerCrashedError, NodeDiedError, ObjectLostError, OutOfMemoryError)


class Process:
    """What runs in a process of the pool; two of its calls may run at once."""

    def __init__(self, threads: int, has_gpu: bool) -> None:
        if not has_gpu:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before CUDA is looked for
        import torch

        torch.set_num_threads(threads)
        threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
        self._worker: Worker[Any, Any] | None = None
        self._making = threading.Lock()
        self._finishing = threading.Lock()

    def placed(self) -> None:
        """Answers when the process is there."""

    def open(self, open_worker: OpenWorker) -> None:
        """Open the worker."""
        self._worker = open_worker()

    def work(self, item: int) -> Any:
        """Do an item."""
        assert self._worker is not None  # `open` has answered before
        with self._making:
            made = self._worker.make(item)
        with self._finishing:
            return self._worker.finish(made)


def _end_with_parent(parent: int) -> None:
    """End this process soon after its raylet, which ends with a driver that was killed.

    Ray ends it too, but on a busy machine only after a minute or more.
    """
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


@dataclass(eq=False)
class _Member:
    """A process as the pool sees it.

    Attributes:
        actor: Ray's handle of it.
        starting: What is awaited before it can work; None: it works.
        is_placed: Whether it has started.
        held: The items that it has in hand, by what is awaited of each.
    """

    actor: Any
    starting: Any
    is_placed: bool = False
    held: dict[Any, int] = field(default_factory=dict)


class Pool:
    """A pool of processes; on leaving they are ended.

    Args:
        open_worker: Opens the worker of a process.
        share: How many processes, and what each takes.
        items: What is to be done.
        stall_seconds: After so long without anything happening it ends with an error.
    """

    def __init__(
        self, open_worker: OpenWorker, share: Share, items: list[int], stall_seconds: float
    ) -> None:
        self._share = share
        self._items = HandingOut(items)
        self._stall_seconds = stall_seconds
        self._open_worker = ray.put(open_worker)
        self._members: list[_Member] = []
        self._deaths_in_opening = 0
        self._place_by = time.monotonic() + PLACE_SECONDS
        self._stall_at = time.monotonic() + stall_seconds

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for member in self._members:
            ray.kill(member.actor)

    def run(self, done: Tell) -> None:
        """Do everything; see `Engine.run`."""
        for _ in range(self._share.workers):
            self._add()
        while not self._items.finished:
            self._hand_out()
            ready, _ = ray.wait(self._awaited(), timeout=_POLL)
            for ref in ready:
                try:
                    found = self._take(ref)
                except Exception:
                    self._tell_finished(done)
                    raise
                if found is not None:
                    done(*found)
            self._watch(happened=bool(ready))

    def _add(self) -> None:
        process: Any = ray.remote(Process)  # Ray's types tell less than there is
        actor = process.options(
            num_cpus=self._share.cpus,
            num_gpus=self._share.gpus,
            max_concurrency=AT_ONCE,
            max_restarts=0,  # a process that died is replaced here, where it is known what it held
            max_task_retries=0,
        ).remote(self._share.threads, self._share.gpus > 0)  # fmt: skip
        self._members.append(_Member(actor, actor.placed.remote()))

    def _hand_out(self) -> None:
        for member in self._members:
            while member.starting is None and len(member.held) < AT_ONCE:
                item = self._items.next(member.held.values())
                if item is None:
                    break
                member.held[member.actor.work.remote(item)] = item

    def _awaited(self) -> list[Any]:
        started = [member.starting for member in self._members if member.starting is not None]
        return started + [ref for member in self._members for ref in member.held]

    def _take(self, ref: Any) -> tuple[int, Any] | None:
        """Look at what was awaited; gives an item that is done, with what its worker tells."""
        member = next((m for m in self._members if ref == m.starting or ref in m.held), None)
        if member is None:
            return None  # of a process that was found dead by another of its items just now
        try:
            result = ray.get(ref)
        except RayTaskError as fault:
            raise _of_worker(fault) from None
        except ActorUnschedulableError as fault:
            raise EngineError(f"Ray cannot place a worker: {fault}") from fault
        except _GONE as fault:
            self._replace(member, fault)
            return None
        except RayError as fault:  # such as a result for which there is no room
            raise EngineError(f"Ray failed: {_in_a_line(fault)}") from fault
        if ref == member.starting:
            self._advance(member)
            return None
        item = member.held.pop(ref)
        self._items.done(item)
        return item, result

    def _advance(self, member: _Member) -> None:
        if member.is_placed:
            member.starting = None
            self._deaths_in_opening = 0
        else:
            member.is_placed = True
            member.starting = member.actor.open.remote(self._open_worker)

    def _replace(self, member: _Member, fault: RayError) -> None:
        """Put another process in the place of one that is dead, or out of reach."""
        if isinstance(fault, ActorDiedError) and fault.actor_init_failed:
            raise EngineError(f"a worker cannot start: {fault}") from fault
        ray.kill(member.actor)  # out of reach is as good as dead: what it does still is not awaited
        self._members.remove(member)
        why = _in_a_line(fault)
        if member.starting is not None:
            self._deaths_in_opening += 1
            if self._deaths_in_opening >= MOST_DEATHS:
                raise EngineError(
                    f"{MOST_DEATHS} workers in a row died before they were open, as where memory "
                    f"does not suffice for what {self._share.workers} of them load; the last one "
                    f"said: {why}"
                ) from fault
        self._items.died(member.held.values(), why)
        self._place_by = time.monotonic() + PLACE_SECONDS
        self._add()

    def _watch(self, happened: bool) -> None:
        """Raise an error if nothing goes on."""
        now = time.monotonic()
        if happened:
            self._stall_at = now + self._stall_seconds
            return
        placed = sum(member.is_placed for member in self._members)
        if not placed and now > self._place_by:
            raise EngineError(
                f"Ray started no worker within {PLACE_SECONDS:g} s: asked for "
                f"{self._share.told()}; {room()}."
            )
        if placed and now > self._stall_at:
            held = sorted(item for member in self._members for item in member.held.values())
            raise EngineError(
                f"nothing was done for {self._stall_seconds:g} s: {placed} of "
                f"{self._share.told()} have started, with items {held or 'none'} in hand; "
                f"{room()}. If an item may take longer, raise stall_seconds."
            )

    def _tell_finished(self, done: Tell) -> None:
        """Tell of all that was finished when an error ended the work."""
        refs = {ref: item for member in self._members for ref, item in member.held.items()}
        if not refs:
            return
        ready, _ = ray.wait(list(refs), num_returns=len(refs), timeout=0)
        for ref in ready:
            try:
                result = ray.get(ref)
            except RayError:  # the error that ended the work came first
                continue
            done(refs[ref], result)


def _of_worker(fault: RayTaskError) -> BaseException:
    """What a worker raised, with where it raised it as a note."""
    cause = fault.cause
    if not isinstance(cause, Exception):
        return fault
    cause.add_note(f"raised in a worker on Ray:\n{fault}")
    return cause


def _in_a_line(fault: RayError, most: int = 300) -> str:
    told = " ".join(str(fault).split())
    return told if len(told) <= most else f"{told[:most]} …"
