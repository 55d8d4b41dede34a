"""The shape of the curve that positions make: its principal components, and who is near whom."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import require, require_whole
from interp.position_effects.curve import Curve, independent


@dataclass(frozen=True, eq=False)
class PositionPCA:
    """Principal components of the mean by position, the grand mean removed.

    Attributes:
        directions: `[component, d]`, orthonormal, largest variance first. A direction's sign is
            such that the score that is largest in size is positive.
        scores: `[pos, component]`, the curve on them, its noise included.
        variance: `[component]`, mean square of the scores.
        reproducible: `[component]`, the same without noise: directions of all folds but one, and
            the products of both parts' scores on them, averaged over folds (Stringer et al. 2019,
            cross-validated PCA). Near zero for a component that is noise.
        positional: The positional power, which `reproducible` over all components sums to, up to
            what cross-validation loses.
        effective_dimension: The participation ratio (Σλ)² / Σλ² of the variances λ, without noise:
            k for k components of equal variance. Σλ is the trace of the matrix of products of
            positions, and Σλ² the product of two such matrices of different folds. Little position
            in much noise may by chance come out below 1. NaN for fewer than four folds of a curve
            with noise, and where noise hides all position.
    """

    directions: Float[Tensor, "component d"]
    scores: Float[Tensor, "pos component"]
    variance: Float[Tensor, "component"]
    reproducible: Float[Tensor, "component"]
    positional: float
    effective_dimension: float

    @property
    def shares(self) -> Float[Tensor, "component"]:
        """Reproducible variance over the positional power."""
        return self.reproducible / self.positional

    def needed(self, share: float) -> int | None:
        """How many components hold this share of the positional power.

        None: not all of them do, or noise hides all position.

        Raises:
            InputError: for a share outside 0 … 1.
        """
        require(0 < share <= 1, f"share must lie above 0 and up to 1. Received {share!r}")
        # A little less: all components together hold the whole but for rounding.
        enough = self.reproducible.cumsum(0) >= share * self.positional * (1 - 1e-12)
        found = self.positional > 0 and bool(enough.any())
        return int(enough.int().argmax()) + 1 if found else None


def leading_directions(
    mean: Float[Tensor, "pos d"],
) -> tuple[Float[Tensor, "component d"], Float[Tensor, "component"]]:
    """Principal directions of a mean by position, and the mean square along each.

    As many as there can be, min(positions - 1, d); largest first, signs as `PositionPCA` has them.
    """
    n = max(min(mean.shape[0] - 1, mean.shape[1]), 1)
    centred = mean - mean.mean(0)
    _, sizes, directions = torch.linalg.svd(centred, full_matrices=False)
    scores = centred @ directions[:n].T
    extremes = scores.gather(0, scores.abs().argmax(0, keepdim=True))[0]
    signs = torch.where(extremes < 0, -1.0, 1.0).to(scores.dtype)
    return directions[:n] * signs[:, None], sizes[:n].square() / mean.shape[0]


def position_pca(curve: Curve) -> PositionPCA:
    """The principal components of a curve."""
    directions, variance = leading_directions(curve.mean)
    reproducible = variance
    if not _is_exact(curve):
        products = []
        for i, fold in enumerate(curve.folds):
            others = curve.without_fold(i).centred
            own = torch.linalg.svd(others, full_matrices=False).Vh[: len(directions)]
            held_out = fold - fold.mean(0)
            products.append(((others @ own.T) * (held_out @ own.T)).mean(0))
        reproducible = torch.stack(products).mean(0)
    return PositionPCA(
        directions,
        curve.centred @ directions.T,
        variance,
        reproducible,
        curve.power,
        _effective_dimension(curve),
    )


def _effective_dimension(curve: Curve) -> float:
    whole = first = second = curve.gram()
    if not _is_exact(curve):
        if len(curve.sizes) < 4:
            return math.nan
        folds = curve.folds - curve.folds.mean(1, keepdim=True)
        first, second = (independent(folds[i::2], lambda x: x @ x.mT) for i in range(2))
    squares = float((first * second).sum())
    return float(whole.trace()) ** 2 / squares if squares > 0 else math.nan


def _is_exact(curve: Curve) -> bool:
    """Whether there is no noise: sequences, and so folds, are all the same."""
    return bool((curve.content_power == 0).all())


@dataclass(frozen=True, eq=False)
class Similarity:
    """How alike positions are at each distance.

    Attributes:
        offsets: `[offset]`: 0, 1, 2, …
        dot: `[offset]`, mean of x(t)·x(t + k) over t, without noise's own part at k = 0.
        dot_spread: `[offset]`, its standard deviation over t: 0 if the distance says all.
        correlation, correlation_spread: Both over the dot at k = 0.
        cosine, cosine_spread: Mean and standard deviation over t of the cosine. Products have no
            noise in them but sizes have, so that noise lowers it, at k = 0 below 1; in noise alone
            it means nothing.
        by_offset: Share of the variance of all products that the distance explains (of those at
            distances above 0); 1 where x(t)·x(t + k) depends on k alone.
    """

    offsets: Int[Tensor, "offset"]
    dot: Float[Tensor, "offset"]
    dot_spread: Float[Tensor, "offset"]
    cosine: Float[Tensor, "offset"]
    cosine_spread: Float[Tensor, "offset"]
    by_offset: float

    @property
    def correlation(self) -> Float[Tensor, "offset"]:
        """See above."""
        return self.dot / self.dot[0]

    @property
    def correlation_spread(self) -> Float[Tensor, "offset"]:
        """See above."""
        return self.dot_spread / self.dot[0].abs()


def position_similarity(
    curve: Curve, centred: bool = True, longest: int | None = None
) -> Similarity:
    """x(t)·x(t + k) as a function of k, with its spread over t.

    Args:
        curve: The means.
        centred: Less the mean over positions. False: as they are, as for an encoding's own table.
        longest: The last k. None: half of the positions, so that each mean is of as many again.

    Raises:
        InputError: for a distance that no two positions have.
    """
    n = curve.n_positions
    longest = n // 2 if longest is None else longest
    require_whole("longest", longest, 0)
    require(longest < n, f"longest must be below {n}, the positions there are. Received {longest}")
    gram = curve.gram(centred)
    size = (curve.centred if centred else curve.mean).norm(dim=-1)
    cosine = gram / (size[:, None] * size)  # NaN where a position has none
    found = [_at(gram, k) + _at(cosine, k) for k in range(longest + 1)]
    dot, dot_spread, cosine, cosine_spread = torch.tensor(
        found, dtype=gram.dtype, device=gram.device
    ).T
    apart = [gram.diagonal(k) for k in range(1, longest + 1)]
    by_offset = math.nan
    if apart:
        rest = sum(float((x - x.mean()).square().sum()) for x in apart)
        everything = torch.cat(apart)
        whole = float((everything - everything.mean()).square().sum())
        by_offset = 1 - rest / whole if whole else math.nan
    offsets = torch.arange(longest + 1, device=gram.device)
    return Similarity(offsets, dot, dot_spread, cosine, cosine_spread, by_offset)


def _at(products: Float[Tensor, "pos key_pos"], offset: int) -> tuple[float, float]:
    on = products.diagonal(offset)
    return float(on.mean()), float(on.var(correction=0).sqrt())
