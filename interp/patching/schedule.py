"""Which worlds are run together, and from which position on.

In a causal model nothing before the first changed position is run, so worlds that are changed late
are cheap, in batches of their own. But a layer takes no less time for a few rows than for
`SMALLEST` of them, so worlds that are changed at neighbouring positions are run together from the
first of these positions on, where that is as fast.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

# Rows (positions of prompts of worlds) that a layer's matrix products take in the time of one.
SMALLEST = {"cpu": 128, "cuda": 4096}
# Bytes that a batch may take where nothing is known of the device's memory. On a CPU what does not
# stay in its caches is slower, too.
FIXED_BUDGET = 128 * 2**20
_MOST_STARTS = 128


@dataclass(frozen=True)
class Batch:
    """Worlds that are run together.

    Attributes:
        worlds: Which.
        start: The first position that is run.
    """

    worlds: np.ndarray
    start: int


def schedule(
    worlds: np.ndarray,
    first: np.ndarray,
    layer: np.ndarray,
    n_layers: int,
    n_prompts: int,
    end: int,
    device: torch.device,
    bytes_per_row: int,
    bytes_per_key: int,
    max_bytes: int,
) -> list[Batch]:
    """Batches of worlds.

    Args:
        worlds: `[world]`: their numbers.
        first: `[world]`: the first position that has to be run.
        layer: `[world]`: the first layer that has to be run.
        n_layers: How many layers there are.
        n_prompts: Rows of each world at each position.
        end: One past the last position that has to be run.
        device: Where.
        bytes_per_row: Memory of a position of a prompt of a world.
        bytes_per_key: That of a key and value, which a world has of the positions before too.
        max_bytes: Memory of a batch. (A single world may take more.)
    """
    order = np.lexsort((layer, first))
    worlds, first, layer = worlds[order], first[order], layer[order]
    batches = []
    smallest = SMALLEST.get(device.type, SMALLEST["cuda"])
    for begin, stop in _blocks(first, layer, n_layers, n_prompts, end, smallest):
        start = int(first[begin])
        per_prompt = bytes_per_row * max(end - start, 1) + bytes_per_key * end * (start > 0)
        per_world = n_prompts * max(per_prompt, 1)
        n_pieces = -(-(stop - begin) // max(max_bytes // per_world, 1))
        pieces = np.array_split(np.arange(begin, stop), n_pieces)
        batches += [Batch(worlds[piece], int(first[piece[0]])) for piece in pieces]
    return batches


def _blocks(
    first: np.ndarray,
    layer: np.ndarray,
    n_layers: int,
    n_prompts: int,
    end: int,
    smallest: int,
) -> list[tuple[int, int]]:
    """Ranges of worlds, sorted by `first`, that take the least time in all.

    The best way to split those up to a position, for one position after the other (dynamic
    programming), with the time of a batch Σ over its layers of max(rows, smallest).
    """
    if len(first) == 0:
        return []
    starts, begins = np.unique(first, return_index=True)
    if len(starts) > _MOST_STARTS:
        chosen = np.linspace(0, len(starts) - 1, _MOST_STARTS).astype(int)
        starts, begins = starts[chosen], begins[chosen]
    bounds = np.append(begins, len(first))
    # running[i, l]: worlds before bound i that run in layer l.
    entering = np.zeros((len(bounds), n_layers + 1), dtype=np.int64)
    block = np.searchsorted(begins, np.arange(len(first)), side="right")
    np.add.at(entering, (block, layer), 1)
    running = entering.cumsum(0).cumsum(1)[:, :n_layers]
    best, previous = np.zeros(len(bounds)), np.zeros(len(bounds), dtype=np.int64)
    for j in range(1, len(bounds)):
        counts = running[j] - running[:j]  # [i, layer]
        rows = counts * (n_prompts * (end - starts[:j]))[:, None]
        times = np.where(counts > 0, np.maximum(rows, smallest), 0).sum(1)
        total = best[:j] + times
        previous[j] = int(total.argmin())
        best[j] = total[previous[j]]
    found = []
    j = len(bounds) - 1
    while j > 0:
        i = int(previous[j])
        found.append((int(bounds[i]), int(bounds[j])))
        j = i
    return found[::-1]


def default_budget(device: torch.device) -> int:
    """Bytes that a batch may take: half of a GPU's free memory, a fixed size elsewhere."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return (free + kept) // 2
    return FIXED_BUDGET
