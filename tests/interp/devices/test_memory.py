"""How many bytes are kept, how many are left, and how they are written down."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from interp.devices import memory
from interp.devices.memory import bytes_by_name, bytes_kept, free_memory, readable


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_each_storage_counts_once(device: str) -> None:
    one, other = torch.zeros(3, 4, device=device), torch.zeros(5, device=device)
    named = {"a": one, "view": one[1:].T, "b": other, "repeated": other.expand(7, 5)}
    assert bytes_kept(named.values()) == 12 * 4 + 5 * 4
    assert bytes_by_name(named) == {"a": 48, "b": 20}
    assert bytes_kept([]) == 0


def test_readable() -> None:
    sizes = (0, 1023, 1024, 1536, 5 << 20, 3 << 29, 3 << 40)
    assert [readable(n) for n in sizes] == [
        "0 B", "1023 B", "1.0 KiB", "1.5 KiB", "5.0 MiB", "1.5 GiB", "3072.0 GiB",
    ]  # fmt: skip


def test_free_memory_of_this_machine() -> None:
    free = free_memory(torch.device("cpu"))
    if not Path("/proc/meminfo").exists():
        assert free is None
    else:
        assert free is not None
        assert 0 < free < 1 << 50
    assert free_memory(torch.device("meta")) is None


@pytest.mark.parametrize(
    ("limit", "names", "expected"),
    [
        (None, 2, 1024 * 300),
        ("90000", 2, 90000 - 60000 + 7000),
        ("90000", 1, 90000 - 60000 + 7000),
        ("max", 2, 1024 * 300),
        (str(1 << 60), 1, 1024 * 300),
    ],
)
def test_free_memory_is_the_machine_s_or_the_container_s(
    limit: str | None,
    names: int,
    expected: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 900 kB\nMemAvailable:  250 kB\nSwapFree: 50 kB\nHugePages: 0\n")
    monkeypatch.setattr(memory, "_MEMINFO", meminfo)
    monkeypatch.setattr(memory, "_CONTROL_GROUP", tmp_path)
    if limit is not None:
        files = {
            2: ("memory.max", "memory.current", "memory.stat"),
            1: (
                "memory/memory.limit_in_bytes",
                "memory/memory.usage_in_bytes",
                "memory/memory.stat",
            ),
        }[names]
        (tmp_path / "memory").mkdir()
        for name, text in zip(files, (limit, "60000", "anon 3\ninactive_file 7000\n"), strict=True):
            (tmp_path / name).write_text(text)
    assert free_memory(torch.device("cpu")) == expected


def test_where_nothing_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "nothing")
    assert free_memory(torch.device("cpu")) is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_what_the_allocator_holds_counts_as_free() -> None:
    device = torch.device("cuda")
    held = torch.empty(1 << 28, dtype=torch.uint8, device=device)
    before = free_memory(device)
    del held
    after = free_memory(device)
    assert before is not None
    assert after is not None
    assert after - before >= 1 << 28
