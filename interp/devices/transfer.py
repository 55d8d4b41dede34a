"""Copies from a GPU to main memory that run beside the computation."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import torch
from jaxtyping import Shaped
from torch import Tensor

from interp.devices.memory import free_memory

# So much may wait to be copied. What waits is kept alive on the GPU; beyond this the copies, not
# the computation, are what a run waits for, so holding it up there costs no time.
_MOST_IN_FLIGHT = 1 << 30


class _Copy(NamedTuple):
    done: torch.cuda.Event
    n_bytes: int
    pinned: Tensor
    target: Tensor | None


class PinnedCopies:
    """Copies tensors of a GPU into page-locked memory on a stream of their own.

    A copy is complete once `finish` has returned; until then its contents are undefined. The source
    may be dropped at once: its memory is not used again before it has been copied.

    Each copy has memory of its own, so that dropping it gives back what it took. It comes from
    torch's allocator for page-locked memory, which keeps what was dropped for the next run (locking
    pages is slow) and rounds up to a power of two. Locked pages are lost to all other programs, so
    at most half of the memory that was free at the first copy is taken: further copies are plain
    ones, which wait.
    """

    def __init__(self) -> None:
        self._streams: dict[torch.device, torch.cuda.Stream] = {}
        self._waiting: deque[_Copy] = deque()
        self._in_flight = 0
        self._pinnable: int | None = None

    @staticmethod
    def take(source: torch.device, target: torch.device) -> bool:
        """Whether copies between these devices are made here."""
        return source.type == "cuda" and target.type == "cpu"

    def copy(
        self, source: Shaped[Tensor, "*axes"], dtype: torch.dtype | None = None
    ) -> Shaped[Tensor, "*axes"]:
        """The tensor in main memory, in another dtype if wanted, complete after `finish`."""
        if not self._may_pin(source.nbytes):
            return source.to("cpu", copy=True).to(dtype or source.dtype)
        pinned = torch.empty_like(source, device="cpu", pin_memory=True)
        if source.device not in self._streams:
            self._streams[source.device] = torch.cuda.Stream(source.device)
        stream = self._streams[source.device]
        stream.wait_stream(torch.cuda.current_stream(source.device))
        with torch.cuda.stream(stream):
            pinned.copy_(source, non_blocking=True)
            done = torch.cuda.Event()
            done.record(stream)
        source.record_stream(stream)
        target = None
        if dtype not in (None, source.dtype):
            target = torch.empty_like(pinned, dtype=dtype)
        self._waiting.append(_Copy(done, source.nbytes, pinned, target))
        self._in_flight += source.nbytes
        while self._in_flight > _MOST_IN_FLIGHT:
            self._finish_one()
        return pinned if target is None else target

    def finish(self) -> None:
        """Wait until all copies are complete."""
        while self._waiting:
            self._finish_one()

    def _finish_one(self) -> None:
        copy = self._waiting.popleft()
        copy.done.synchronize()
        if copy.target is not None:
            copy.target.copy_(copy.pinned)
            self._pinnable = (self._pinnable or 0) + _rounded(copy.n_bytes)
        self._in_flight -= copy.n_bytes

    def _may_pin(self, n_bytes: int) -> bool:
        if self._pinnable is None:
            free = free_memory(torch.device("cpu"))
            self._pinnable = 1 << 62 if free is None else free // 2
        if _rounded(n_bytes) > self._pinnable:
            return False
        self._pinnable -= _rounded(n_bytes)
        return True


def _rounded(n_bytes: int) -> int:
    """What torch's allocator for page-locked memory takes."""
    return 1 << max(n_bytes - 1, 0).bit_length()
