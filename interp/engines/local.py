"""One worker in this process: it computes in the caller's thread and writes in another."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from interp.engines.base import OpenWorker, Tell, checked_items


@dataclass(frozen=True)
class LocalEngine:
    """Does items one after another, in order: `make` of one runs beside `finish` of the one before.

    At most one item that was made waits to be finished, so that memory holds two at a time and
    writing that is slower than computing slows it down. Torch's threads stay as they are.
    """

    def run(self, open_worker: OpenWorker, items: Sequence[int], done: Tell) -> None:
        """Have every item done, and tell of each; see `Engine.run`."""
        todo = checked_items(items)
        if not todo:
            return
        worker = open_worker()
        written: tuple[int, Future[Any]] | None = None
        with ThreadPoolExecutor(1, "finish") as writer:
            try:
                for item in todo:
                    made = worker.make(item)
                    before, written = written, None
                    if before is not None:
                        done(before[0], before[1].result())
                    written = item, writer.submit(worker.finish, made)
                    del made  # the writer alone holds it now
            finally:  # after an error of `make`, too: what was made before it is not lost
                if written is not None:
                    done(written[0], written[1].result())
