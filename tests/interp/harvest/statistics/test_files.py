"""A shard's statistics file, whole and damaged."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from interp import InputError
from interp.harvest.statistics import (
    STATISTICS,
    HookStatistics,
    read_statistics,
    statistics_tensors,
)

NAMES = list(STATISTICS)


@pytest.fixture
def by_hook() -> dict[str, HookStatistics]:
    generator = torch.Generator().manual_seed(0)
    return {
        "blocks.0.hook_x": HookStatistics.measure(torch.randn(9, 3, generator=generator), NAMES),
        "blocks.0.hook_xy": HookStatistics.measure(torch.randn(9, 2, generator=generator), NAMES),
    }


def test_hooks_with_similar_names_stay_apart(
    by_hook: dict[str, HookStatistics], tmp_path: Path
) -> None:
    save_file(statistics_tensors(by_hook), tmp_path / "s")
    for hook, found in by_hook.items():
        read = read_statistics(tmp_path / "s", hook, NAMES, found.row_shape, 9).to_tensors()
        assert all(torch.equal(read[name], each) for name, each in found.to_tensors().items())


def test_damaged_files_are_named(by_hook: dict[str, HookStatistics], tmp_path: Path) -> None:
    path = tmp_path / "s"
    with pytest.raises(InputError, match="There is none"):
        read_statistics(path, "blocks.0.hook_x", NAMES, (3,), 9)
    save_file(statistics_tensors(by_hook), path)
    with pytest.raises(InputError, match=r"s is damaged: blocks\.0\.hook_z: .*n_rows"):
        read_statistics(path, "blocks.0.hook_z", NAMES, (3,), 9)
    with pytest.raises(InputError, match=r"mean must be torch\.float64 \[4\]"):
        read_statistics(path, "blocks.0.hook_x", ["moments", *NAMES[1:]], (4,), 9)
    with pytest.raises(InputError, match=r"s is damaged: .*n_rows must be 8\. Received 9"):
        read_statistics(path, "blocks.0.hook_x", NAMES, (3,), 8)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match="s is damaged"):
        read_statistics(path, "blocks.0.hook_x", NAMES, (3,), 9)


def test_shards_without_rows_have_a_file_too(tmp_path: Path) -> None:
    none = HookStatistics.measure(torch.empty(0, 3), NAMES)
    save_file(statistics_tensors({"h": none}), tmp_path / "s")
    assert read_statistics(tmp_path / "s", "h", NAMES, (3,), 0).n_rows == 0
