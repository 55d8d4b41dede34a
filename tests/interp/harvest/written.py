"""Datasets of numbers that a test chose, in the files that a harvest writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor

from interp.harvest.journal import append_to_journal
from interp.harvest.manifest import HookSpec, Manifest, write_manifest
from interp.harvest.settings import HarvestSettings
from interp.harvest.shard_files import INDEX_COLUMNS, SHARDS, write_shard


@dataclass(frozen=True)
class Written:
    """A dataset on disk, and all of its rows in memory."""

    out: Path
    rows: dict[str, Tensor]
    index: dict[str, Tensor]


def write_dataset(
    out: Path,
    specs: dict[str, HookSpec],
    counts: Sequence[int],
    change: Callable[[str, Tensor], Tensor] = lambda hook, x: x,
    finished: Sequence[int] | None = None,
) -> Written:
    """Shards with so many rows each, of which some are finished (None: all).

    Rows are normal, `change` makes other numbers of a hook's.

    A shard is one sequence, and there is no corpus.
    """
    generator = torch.Generator().manual_seed(0)
    n = sum(counts)
    rows = {
        name: change(name, _drawn((n, *spec.shape), spec.dtype, generator)).to(spec.dtype)
        for name, spec in specs.items()
    }
    index = {name: torch.randint(-1, 1000, (n,), generator=generator) for name in INDEX_COLUMNS}
    length = max([4, *counts])  # no shard may have more rows than tokens
    tokens = {"digest": "0" * 64, "n_sequences": len(counts), "length": length}
    (out / SHARDS).mkdir(parents=True)
    write_manifest(
        out,
        Manifest(
            HarvestSettings.make(tuple(specs)),
            {"name": "none", "weight_hash": "0" * 64, "cfg": {}},
            tokens,
            specs,
            sequences_per_shard=1,
            n_shards=len(counts),
        ),
    )
    start = 0
    for shard, count in enumerate(counts):
        some = slice(start, start := start + count)
        if finished is None or shard in finished:
            with mock.patch("os.fsync"):  # no power cut is expected
                receipt = write_shard(
                    out,
                    shard,
                    {name: x[some].contiguous() for name, x in rows.items()},
                    {name: x[some].contiguous() for name, x in index.items()},
                    None,
                    {"device": "cpu"},
                )
                append_to_journal(out, receipt)
    return Written(out, rows, index)


def _drawn(shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    return (x * 40).to(dtype) if not dtype.is_floating_point else x.to(dtype)
