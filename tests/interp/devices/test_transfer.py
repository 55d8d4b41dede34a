"""Copies beside the computation: complete at the end, whatever runs in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from interp.devices import transfer
from interp.devices.transfer import PinnedCopies

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


class Stream:
    """A queue of copies that nobody works off before it has to."""

    current: Stream | None = None
    copied_by: list[Stream]

    def __init__(self, device: object = None) -> None:
        self.queue: list[Callable[[], object]] = []
        self.waited_for: list[object] = []

    def wait_stream(self, other: object) -> None:
        self.waited_for.append(other)


class Event:
    """Everything that was in a queue when it was recorded."""

    def record(self, stream: Stream) -> None:
        self.stream, self.n = stream, len(stream.queue)
        self.jobs = list(stream.queue)

    def synchronize(self) -> None:
        for job in self.jobs:
            if job in self.stream.queue:
                self.stream.queue.remove(job)
                job()


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Stands for CUDA: copies that need not wait are made when their event is waited for."""
    seen: dict[str, Any] = {"kept": [], "pinned": [], "streams": []}
    copy, empty_like = Tensor.copy_, torch.empty_like

    def make_stream(device: object) -> Stream:
        seen["streams"].append(Stream(device))
        return seen["streams"][-1]

    @contextmanager
    def inside(stream: Stream) -> Iterator[None]:
        Stream.current = stream
        yield
        Stream.current = None

    def copy_later(self: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
        if not non_blocking:
            return copy(self, source)
        assert Stream.current is not None
        Stream.current.queue.append(lambda: copy(self, source))
        return self

    def allocate(like: Tensor, pin_memory: bool = False, **kwargs: Any) -> Tensor:
        made = empty_like(like, **kwargs)
        if pin_memory:
            seen["pinned"].append(made.nbytes)
            made.fill_(-77)
        return made

    monkeypatch.setattr(torch.cuda, "Stream", make_stream)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "stream", inside)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: "computation")
    monkeypatch.setattr(torch, "empty_like", allocate)
    monkeypatch.setattr(Tensor, "copy_", copy_later)
    monkeypatch.setattr(
        Tensor, "record_stream", lambda self, stream: seen["kept"].append((self, stream))
    )
    return seen


def test_copies_are_complete_at_the_end(slow: dict[str, Any]) -> None:
    copies = PinnedCopies()
    sources = [torch.randn(3, 4, 5) for _ in range(4)]
    sources[1] = sources[1].transpose(0, 2)
    found = [copies.copy(s) for s in sources]
    assert all((f == -77).all() for f in found)  # not yet: nothing has waited
    copies.finish()
    for copied, source in zip(found, sources, strict=True):
        assert torch.equal(copied, source)
        assert copied.stride() == source.stride()
    (stream,) = slow["streams"]
    assert stream.waited_for == ["computation"] * 4
    assert [(id(t), s) for t, s in slow["kept"]] == [(id(s), stream) for s in sources]
    copies.finish()  # once more does nothing


def test_wider_copies_are_made_after_the_transfer(slow: dict[str, Any]) -> None:
    copies = PinnedCopies()
    source = torch.randn(3, 4).bfloat16()
    wide = copies.copy(source, torch.float32)
    assert slow["pinned"] == [24]
    copies.finish()
    assert wide.dtype == torch.float32
    assert torch.equal(wide, source.float())


def test_not_too_much_waits(slow: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "_MOST_IN_FLIGHT", 100)
    copies = PinnedCopies()
    sources = [torch.randn(10) for _ in range(5)]  # 40 bytes each
    found = [copies.copy(s) for s in sources]
    done = [torch.equal(f, s) for f, s in zip(found, sources, strict=True)]
    assert done == [True, True, True, False, False]


def test_only_half_of_free_memory_is_locked(
    slow: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "free_memory", lambda device: 512)
    copies = PinnedCopies()
    sources = [torch.randn(30) for _ in range(4)]  # 120 bytes each, locked as 128
    found = [copies.copy(s) for s in sources]
    assert slow["pinned"] == [120, 120]
    assert [torch.equal(f, s) for f, s in zip(found, sources, strict=True)] == [
        False, False, True, True,
    ]  # fmt: skip
    copies.finish()
    assert all(torch.equal(f, s) for f, s in zip(found, sources, strict=True))


def test_what_is_only_passed_through_is_given_back(
    slow: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "free_memory", lambda device: 256)
    copies = PinnedCopies()
    for _ in range(3):
        source = torch.randn(60).bfloat16()
        wide = copies.copy(source, torch.float32)
        copies.finish()
        assert torch.equal(wide, source.float())
    assert slow["pinned"] == [120] * 3


@needs_cuda
def test_copies_of_a_gpu_s_tensors() -> None:
    copies = PinnedCopies()
    expected, found = [], []
    for i in range(50):
        source = torch.randn(300, 200, device="cuda") @ torch.randn(200, 200, device="cuda")
        source = source.T if i % 2 else source[:, ::2]
        expected.append(source.clone())
        found.append(copies.copy(source, torch.float64 if i % 3 == 0 else None))
        del source  # its memory is free for the next
    copies.finish()
    for copied, source in zip(found, expected, strict=True):
        assert copied.device.type == "cpu"
        assert torch.equal(copied.to(source.dtype), source.cpu())
