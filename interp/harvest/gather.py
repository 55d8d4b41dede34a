"""Rows copied out of mapped shards: one, a run of them, or some from anywhere."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from interp.harvest.open_shards import OpenShards


def gather_one(
    shards: OpenShards, hooks: Sequence[str], row: int
) -> dict[str, Shaped[Tensor, "..."]]:
    """One row: hook name → a copy of it."""
    shard = shards.of_row(row)
    maps, at = shards.tensors(shard), row - shards.starts[shard]
    return {hook: maps[hook][at].clone() for hook in hooks}


def gather(
    shards: OpenShards, hooks: Sequence[str], rows: Int[Tensor, "row"]
) -> dict[str, Shaped[Tensor, "row ..."]]:
    """Rows (from 0, and there) in the order asked for: hook name → a copy of them."""
    n = len(rows)
    if n and int(rows[-1] - rows[0]) == n - 1 and bool((rows.diff() == 1).all()):
        return _run(shards, hooks, int(rows[0]), int(rows[-1]) + 1)
    return _scattered(shards, hooks, rows)


def _run(shards: OpenShards, hooks: Sequence[str], start: int, stop: int) -> dict[str, Tensor]:
    """Rows that lie one after another."""
    out, at = _empty(shards, hooks, stop - start), start
    while at < stop:
        shard = shards.of_row(at)
        first = shards.starts[shard]
        end = min(stop, shards.starts[shard + 1])
        maps = shards.tensors(shard)
        for hook, into in out.items():
            into[at - start : end - start] = maps[hook][at - first : end - first]
        at = end
    return out


def _scattered(
    shards: OpenShards, hooks: Sequence[str], rows: Int[Tensor, "row"]
) -> dict[str, Tensor]:
    """Rows from anywhere: each shard's together, in the order in which they lie."""
    ascending, order = rows.sort()
    starts = shards.start_rows
    shard_of = torch.searchsorted(starts, ascending, right=True) - 1
    which, counts = shard_of.unique_consecutive(return_counts=True)
    local = ascending - starts[shard_of]
    out, end = _empty(shards, hooks, len(rows)), 0
    for shard, count in zip(which.tolist(), counts.tolist(), strict=True):
        some = slice(end, end := end + count)
        maps = shards.tensors(shard)
        for hook, into in out.items():
            torch.index_select(maps[hook], 0, local[some], out=into[some])
    if bool((order.diff() == 1).all()):
        return out
    back = order.argsort()
    return {hook: x.index_select(0, back) for hook, x in out.items()}


def _empty(shards: OpenShards, hooks: Sequence[str], n: int) -> dict[str, Tensor]:
    specs = {hook: shards.manifest.hooks[hook] for hook in hooks}
    return {hook: torch.empty((n, *spec.shape), dtype=spec.dtype) for hook, spec in specs.items()}
