"""The linear map that moves every position on by k, and whether there is one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import require, require_whole
from interp.position_effects.curve import Curve
from interp.position_effects.geometry import leading_directions
from interp.position_effects.held_out import FOLDS, blocks, scattered


@dataclass(frozen=True, eq=False)
class ShiftMap:
    """One affine map from the positional part at t to that at t + k, for all t.

    R² are those of held-out positions, in the span of the leading components: 1 less the squared
    error over the squared distance of the targets from their mean.

    Attributes:
        offset: k.
        directions: `[component, d]`: the span.
        matrix: `[component, component]`, and `constant` `[component]`: y = matrix x + constant, in
            that span, fitted to all positions.
        r2: Of maps fitted without a fifth of the positions, here and there, on those.
        r2_blocks: Of maps fitted without a fifth of the positions that are neighbours, on those:
            the map has to go on where it has not been.
        r2_no_shift: Of predicting no change: what is left where neighbours are alike.
        r2_shuffled: Of maps fitted as those of `r2`, to the same targets in another order.
        pairs: How many pairs (t, t + k) were predicted.
    """

    offset: int
    directions: Float[Tensor, "component d"]
    matrix: Float[Tensor, "component component"]
    constant: Float[Tensor, "component"]
    r2: float
    r2_blocks: float
    r2_no_shift: float
    r2_shuffled: float
    pairs: int

    @property
    def stretches(self) -> Float[Tensor, "component"]:
        """Singular values of the matrix: all 1 for a rotation."""
        return torch.linalg.svdvals(self.matrix)


def fit_shift(curve: Curve, offset: int, rank: int = 6, seed: int = 0) -> ShiftMap:
    """Fit the map by least squares and try it on positions that it has not seen.

    A fifth of the positions is held out in turn: the map is fitted to the pairs that touch none of
    them, and predicts them from the positions k before. The span is that of all positions, and
    noise in the means is in the scores: it keeps them below 1.

    Args:
        curve: The means.
        offset: k, in positions.
        rank: How many leading components; fewer where the curve has fewer.
        seed: Of the other order.

    Raises:
        InputError: for numbers out of bounds, and where fewer pairs than rank + 2 would be left to
            fit (of n positions about 3/5 (n - k) are, or a little less: `fewest_pairs`).
    """
    require_whole("offset", offset, 1)
    require_whole("rank", rank, 1)
    n = curve.n_positions
    require(offset < n, f"offset must be below {n}, the positions there are. Received {offset}")
    directions, variance = leading_directions(curve.mean)
    directions = directions[variance > 1e-20 * variance.max()][:rank]
    scores = curve.centred @ directions.T
    before, after = scores[:-offset], scores[offset:]
    here_and_there = scattered(n, scores.device)
    total = (after - after.mean(0)).square().sum()

    def r2(prediction: Tensor) -> float:
        return 1 - float((after - prediction).square().sum() / total)

    generator = torch.Generator().manual_seed(seed)
    whole = _fitted(before, after)
    return ShiftMap(
        offset,
        directions,
        whole[:-1].T,
        whole[-1],
        r2(_held_out(before, after, here_and_there, offset)),
        r2(_held_out(before, after, blocks(n, scores.device), offset)),
        r2(before),
        r2(_held_out(before, after, here_and_there, offset, generator)),
        n - offset,
    )


def _held_out(
    before: Float[Tensor, "pair d"],
    after: Float[Tensor, "pair d"],
    fold: Int[Tensor, "pos"],
    offset: int,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "pair d"]:
    """Each target as a map predicts it that was fitted to pairs which touch nothing of its fold.

    With a generator, targets are permuted before the map is fitted.
    """
    found = torch.empty_like(after)
    for i in range(FOLDS):
        out = fold[offset:] == i
        fits = ~out & (fold[:-offset] != i)
        left = int(fits.sum())
        if not bool(out.any()):
            continue
        require(
            left >= before.shape[1] + 2,
            f"a map of rank {before.shape[1]} needs {before.shape[1] + 2} pairs that touch no "
            f"held-out position. At offset {offset} of {len(fold)} positions there are {left}",
        )
        targets = after[fits]
        if generator is not None:
            targets = targets[torch.randperm(left, generator=generator).to(targets.device)]
        found[out] = _apply(_fitted(before[fits], targets), before[out])
    return found


def fewest_pairs(n_positions: int, offset: int) -> int:
    """How many pairs are left to fit `fit_shift`'s map where fewest are."""
    counts = []
    for fold in (scattered(n_positions), blocks(n_positions)):
        pairs = torch.stack([fold[:-offset], fold[offset:]])
        counts += [int((pairs != i).all(0).sum()) for i in range(FOLDS)]
    return min(counts)


def given_shift_r2(curve: Curve, offset: int, matrix: Float[Tensor, "d d"]) -> float:
    """R² of a known map: x(t + k) = matrix x(t), for the means as they are.

    Raises:
        InputError: for a matrix of another size, or an offset that no two positions have.
    """
    require_whole("offset", offset, 1)
    n, d = curve.mean.shape
    require(offset < n, f"offset must be below {n}, the positions there are. Received {offset}")
    require(matrix.shape == (d, d), f"matrix must be [{d}, {d}]. Received {tuple(matrix.shape)}")
    before, after = curve.mean[:-offset], curve.mean[offset:]
    error = (after - before @ matrix.to(before).T).square().sum()
    return 1 - float(error / (after - after.mean(0)).square().sum())


def _fitted(x: Float[Tensor, "pair d"], y: Float[Tensor, "pair d"]) -> Float[Tensor, "d_plus_1 d"]:
    return torch.linalg.pinv(_with_one(x)) @ y


def _apply(fitted: Float[Tensor, "d_plus_1 d"], x: Float[Tensor, "pair d"]) -> Tensor:
    return _with_one(x) @ fitted


def _with_one(x: Float[Tensor, "pair d"]) -> Float[Tensor, "pair d_plus_1"]:
    return torch.cat([x, x.new_ones(len(x), 1)], 1)
