"""Means of a harvested dataset as what mean ablation puts in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from interp.errors import InputError, require
from interp.interventions.reference import Reference

if TYPE_CHECKING:
    from interp.harvest.dataset import ActivationDataset

_BATCH_ROWS = 8192
_OF_PAIRS = ("hook_pattern", "hook_attn_scores", "hook_pos_bias")


def mean_reference(data: ActivationDataset, *, by_position: bool = False) -> Reference:
    """The mean activations of a dataset, as a reference for `Mean`.

    ```python
    data = ActivationDataset("activations")
    Mean(Place("z", layers=1, heads=3), mean_reference(data), pooled=True)
    Mean("blocks.2.hook_resid_post", mean_reference(data, by_position=True))
    ```

    Means are summed up in fp64 and kept in fp32 (fp64 if rows are). Pooled ones are taken from the
    harvest's own statistics where it was asked for `moments`.

    Args:
        data: Hooks with values for each token: not patterns, whose sources are other ones at every
            position.
        by_position: A mean for each position of the sequences, over the rows there; otherwise one
            over all rows, for `Mean(..., pooled=True)`.

    Returns:
        Activations of one prompt: of one position, or of as many as the dataset has.

    Raises:
        InputError: for a hook of pairs of positions, a dataset without rows, a position that has
            none, or rows that are not finite.
    """
    for hook in data.hooks:
        require(
            not hook.endswith(_OF_PAIRS),
            f"means are for hooks with values for each token. Received {hook!r}",
        )
    require(len(data) > 0, f"means need rows. {data.directory} has none")
    if by_position:
        means = _means(data, data.rows.column("position"))
    elif "moments" in data.manifest.settings.statistics:
        means = {hook: data.statistics(hook).mean[None] for hook in data.hooks}
    else:
        means = _means(data, torch.zeros(len(data), dtype=torch.long))
    return Reference(
        activations={
            hook: mean[None].to(torch.promote_types(data.specs[hook].dtype, torch.float32))
            for hook, mean in means.items()
        }
    )


def _means(data: ActivationDataset, position: Tensor) -> dict[str, Tensor]:
    """Hook name → `[position, ...]` in fp64."""
    n_positions = int(position.max()) + 1
    counts = torch.bincount(position, minlength=n_positions)
    missing = (counts == 0).nonzero()[:, 0].tolist()
    if missing:
        raise InputError(
            f"every position must have rows for a mean of its own. {data.directory} has none at "
            f"{str(missing)[1:-1]:.80}."
        )
    totals = {
        hook: torch.zeros((n_positions, *spec.shape), dtype=torch.float64)
        for hook, spec in data.specs.items()
    }
    for start in range(0, len(data), _BATCH_ROWS):
        some = slice(start, start + _BATCH_ROWS)
        for hook, rows in data.read(some).items():
            totals[hook].index_add_(0, position[some], rows.double())
    for hook, total in totals.items():
        require(
            bool(total.isfinite().all()),
            f"means need finite rows. {data.directory} has NaN or infinity at {hook!r}",
        )
    return {
        hook: total / counts.reshape(-1, *[1] * (total.ndim - 1)) for hook, total in totals.items()
    }
