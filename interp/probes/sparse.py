"""How many of a site's own dims a linear probe needs: greedy forward selection.

From no dim on, the one is added that lowers ‖Y - XW‖² + α‖W‖² most when the weights of all dims
taken are fitted anew (orthogonal least squares: Chen, Billings & Luo 1989, "Orthogonal least
squares methods and their application to non-linear system identification", with a ridge penalty).
All of it needs XᵀX and XᵀY alone: taking a dim is one step of Gaussian elimination on both.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import require_one_of
from interp.probes.curves import Curve, checked_sizes, powers_of_two
from interp.probes.given import (
    MAX_BYTES,
    SCALINGS,
    Chunk,
    Features,
    check_features,
    chunks,
    numbers,
)
from interp.probes.ridge import choose_ridges, linear, moments
from interp.probes.scores import DEFAULT_BOOTSTRAP, Bootstrap, regression_scores
from interp.probes.selection import DEFAULT_ALPHAS, checked_grid
from interp.probes.splits import Split

MOST_DIMS = 64


@torch.no_grad()
def fit_sparse(
    features: Features,
    targets: Float[Tensor, "sample"] | Float[Tensor, "sample output"],
    split: Split,
    alphas: Sequence[float] = DEFAULT_ALPHAS,
    *,
    sizes: tuple[int, ...] | None = None,
    scaling: str = "feature",
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    max_bytes: int = MAX_BYTES,
) -> dict[str, Curve]:
    """Scores of ridge probes that read a few dims only, against how many.

    α is chosen at each site as by `fit_ridge` for all dims, and kept for the few; with all dims the
    probe is that one. The choice is greedy: a smaller set may do as well. It depends on the site's
    basis, so it says something of neurons and coordinates, not of directions.

    Args:
        features: By site.
        targets: Numbers; with several outputs, dims are taken for all of them together.
        split: Which samples are for what.
        alphas: Penalties to choose from.
        sizes: Numbers of dims to score, of which those above a site's size are left out. None: the
            powers of two below 64 or the site's size, and that.
        scaling: As for `fit_ridge`.
        bootstrap: How intervals of scores are made.
        max_bytes: How much memory the sites that are fitted at once may take.

    Returns:
        By site, in the order given; `dims` are the features in the order they were taken.

    Raises:
        InputError: as `fit_ridge`, or for sizes that are no whole numbers from 1 on.
    """
    require_one_of("scaling", scaling, SCALINGS)
    sizes = checked_sizes("sizes", sizes)
    check_features(features, split)
    grid = checked_grid("alphas", alphas)
    y = numbers(targets, split, next(iter(features.values())).device)
    found: dict[str, Curve] = {}
    for chunk in chunks(features, split, torch.float64, max_bytes, square=5):
        wanted = powers_of_two(min(MOST_DIMS, chunk.dim)) if sizes is None else sizes
        wanted = tuple(k for k in wanted if k <= chunk.dim) or (chunk.dim,)
        for curve in _fit_chunk(chunk, y, grid, wanted, scaling, bootstrap):
            found[curve.site] = curve
    return {site: found[site] for site in features}


def _fit_chunk(
    chunk: Chunk,
    y: Float[Tensor, "sample output"],
    alphas: tuple[float, ...],
    sizes: tuple[int, ...],
    scaling: str,
    bootstrap: Bootstrap,
) -> list[Curve]:
    known = moments(chunk, y, scaling)
    (full,) = choose_ridges(chunk, known, [y], alphas)
    gram = known.gram
    gram.diagonal(dim1=1, dim2=2).add_(gram.new_tensor(alphas)[full.at][:, None])
    taken, parts, steps = forward_selection(gram, known.cross, sizes[-1])
    rows = chunk.split.rows("test", y.device)
    groups = chunk.split.groups.to(y.device)[rows]
    x = chunk.part("test")
    of_full = linear(x, full.weight[:, None], full.bias[:, None])[:, :, 0]
    full_scores = regression_scores(of_full, y[rows], groups, bootstrap)
    n_sites = len(chunk.sites)
    at = taken[:, None].expand(-1, x.shape[1], -1)
    x = (x - known.mean[:, None]).div_(known.scale[:, None]).gather(2, at)
    # Each dim taken, less what those before it tell of it: [site, sample, size]
    apart = torch.linalg.solve_triangular(parts, x, upper=True, left=False, unitriangular=True)
    by_size = []
    guessed = known.y_mean.expand(n_sites, x.shape[1], -1).clone()
    for k in range(sizes[-1]):
        guessed += apart[:, :, k, None] * steps[:, None, k]
        if k + 1 in sizes:
            by_size.append(regression_scores(guessed, y[rows], groups, bootstrap))
    alpha = [alphas[i] for i in full.at.tolist()]
    return [
        Curve(
            site,
            sizes,
            tuple(scores[i] for scores in by_size),
            full_scores[i],
            alpha[i],
            torch.nn.functional.one_hot(taken[i], chunk.dim).double(),
            taken[i].clone(),
        )
        for i, site in enumerate(chunk.sites)
    ]


def forward_selection(
    gram: Float[Tensor, "site dim dim"], cross: Float[Tensor, "site dim output"], n: int
) -> tuple[Int[Tensor, "site n"], Float[Tensor, "site n n"], Float[Tensor, "site n output"]]:
    """Which dims lower the squared error most, one after another.

    Args:
        gram: XᵀX + αI.
        cross: XᵀY.
        n: How many dims to take.

    Returns:
        The dims in order; the upper triangular U with ones on its diagonal such that the features
        taken are Z U, columns of Z being what each adds to those before it; and the weights of Z.
    """
    n_sites, dim, _ = gram.shape
    site = torch.arange(n_sites, device=gram.device)
    cross, left = cross.clone(), gram.diagonal(dim1=1, dim2=2).clone()
    is_free = torch.ones_like(left, dtype=torch.bool)
    taken = torch.zeros(n_sites, n, dtype=torch.long, device=gram.device)
    rows, pivots = gram.new_zeros((n_sites, n, dim)), gram.new_zeros((n_sites, n))
    steps = gram.new_zeros((n_sites, n, cross.shape[-1]))
    least = left.amax(1) * 1e-12  # below, what the dims taken leave of one is rounding
    for k in range(n):
        gain = cross.square().sum(-1) / torch.maximum(left, least[:, None])
        best = gain.masked_fill(~is_free, -1.0).argmax(1)
        pivot = torch.maximum(left[site, best], least)
        # The row of XᵀX + αI less what dims before explain: made for those taken alone.
        before = rows[site, :k, best] * pivots[:, :k]
        row = gram[site, best] - (before[:, None] @ rows[:, :k])[:, 0]
        row = row / pivot[:, None]
        step = cross[site, best] / pivot[:, None]
        cross -= row[:, :, None] * (step * pivot[:, None])[:, None]
        left -= row.square() * pivot[:, None]
        is_free[site, best] = False
        taken[:, k], rows[:, k], steps[:, k], pivots[:, k] = best, row, step, pivot
    parts = rows.gather(2, taken[:, None].expand(-1, n, -1)).triu(1)
    parts.diagonal(dim1=1, dim2=2).fill_(1.0)
    return taken, parts, steps
