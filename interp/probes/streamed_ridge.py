"""Ridge regression on a dataset that is read from disk as it goes, the fit of `fit_ridge`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import require_one_of
from interp.probes.fit import LinearProbe, ProbeFit
from interp.probes.given import SCALINGS, numbers
from interp.probes.ridge import linear, solve_ridge
from interp.probes.scores import DEFAULT_BOOTSTRAP, Bootstrap, regression_scores
from interp.probes.selection import DEFAULT_ALPHAS, checked_grid, choose
from interp.probes.splits import Split
from interp.probes.streaming import BATCH_ROWS, Stream

if TYPE_CHECKING:
    from interp.harvest.dataset import ActivationDataset


@torch.no_grad()
def fit_ridge_streamed(
    data: ActivationDataset,
    targets: Float[Tensor, "row"] | Float[Tensor, "row output"],
    split: Split,
    alphas: Sequence[float] = DEFAULT_ALPHAS,
    *,
    scaling: str = "feature",
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    batch_rows: int = BATCH_ROWS,
    device: torch.device | str = "cpu",
) -> dict[str, ProbeFit]:
    """Fit a ridge regression at every hook of a dataset, some rows at a time, in fp64.

    The result is that of `fit_ridge`, but for rounding: XᵀX and XᵀY are summed up over batches of
    training rows. Every part of the split is read once for all sites of one size. In memory are,
    for each of these, XᵀX for every α at worst, and what is predicted of the test rows.

    ```python
    data = ActivationDataset("activations")
    split = split_by_group(data.rows.column("sequence"))
    fits = fit_ridge_streamed(data, data.rows.column("position"), split)
    ```

    Args:
        data: Hooks with a vector a token, or one a head (then each head is a site,
            `<hook>.<head>`).
        targets: Numbers, for every row of the dataset.
        split: Of all its rows; `data.rows.column("sequence")` or `("document")` are the groups.
        alphas, scaling, bootstrap: As for `fit_ridge`.
        batch_rows: How many rows are read at once.
        device: Where to compute.

    Returns:
        By site.

    Raises:
        InputError: as `fit_ridge`, and for a hook without vectors.
    """
    require_one_of("scaling", scaling, SCALINGS)
    stream = Stream(data, split, batch_rows, torch.device(device))
    grid = checked_grid("alphas", alphas)
    y = numbers(targets, split, stream.device)
    found: dict[str, ProbeFit] = {}
    for sites in stream.by_size().values():
        known = stream.moments(sites, y, scaling)
        weights, bias = known.unscaled(solve_ridge(known.gram, known.cross, grid, sites))
        losses = _losses(stream, sites, y, weights, bias)
        at = choose(losses, sites, simplest_first=False)
        site = torch.arange(len(sites), device=stream.device)
        weight, offset = weights[site, at], bias[site, at]
        del weights, bias
        parts = [
            (rows, linear(x, weight[:, None], offset[:, None])[:, :, 0])
            for rows, x in stream.batches("test", sites)
        ]
        rows = torch.cat([some for some, _ in parts]).to(stream.device)
        guessed = torch.cat([some for _, some in parts], 1)
        groups = split.groups.to(stream.device)[rows]
        scores = regression_scores(guessed, y[rows], groups, bootstrap)
        for i, name in enumerate(sites):
            found[name] = ProbeFit(
                name,
                LinearProbe(weight[i].clone(), offset[i].clone(), None, targets.ndim == 1),
                grid[int(at[i])],
                dict(zip(grid, losses[i].tolist(), strict=True)),
                scores[i],
                known.mean[i].clone(),
                known.scale[i].clone(),
            )
    return found


def _losses(
    stream: Stream,
    sites: Sequence[str],
    y: Float[Tensor, "row output"],
    weights: Float[Tensor, "site alpha dim output"],
    bias: Float[Tensor, "site alpha output"],
) -> Float[Tensor, "site alpha"]:
    """Mean squared errors of every α on the validation rows."""
    total, n = torch.zeros_like(bias[..., 0]), 0
    for rows, x in stream.batches("validation", sites):
        missed = linear(x, weights, bias) - y[rows.to(y.device)][:, None]
        total += missed.square().sum((1, 3))
        n += len(rows)
    return total / (n * y.shape[1])
