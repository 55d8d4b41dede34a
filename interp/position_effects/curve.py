"""What one place of a model holds at each position, and squares of it without noise.

The mean over n sequences is the positional part and noise of size content / n. Squares of it are
too large by that noise's squares. Products of the means of two disjoint groups of sequences
(folds) are not: their noise is independent. All squares here are sums of such products, so that
they are right on average, and for a place that knows no positions as often below zero as above.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import require, require_whole


@dataclass(frozen=True, eq=False)
class Curve:
    """The mean of a place at each position, which is a curve in its space (fp64).

    Attributes:
        mean: `[pos, d]`, the mean over all sequences, the grand mean included.
        folds: `[fold, pos, d]`, the means over disjoint groups of the sequences.
        sizes: How many sequences each fold has.
        content_power: `[pos]`, trace of the covariance over sequences within each position.
        first: The position that the first row is of.
    """

    mean: Float[Tensor, "pos d"]
    folds: Float[Tensor, "fold pos d"]
    sizes: tuple[int, ...]
    content_power: Float[Tensor, "pos"]
    first: int = 0

    @classmethod
    def of_table(cls, table: Float[Tensor, "pos d"]) -> Curve:
        """Known vectors of positions, such as a table of embeddings, which no content disturbs.

        Raises:
            InputError: for other than a table of numbers with two axes.
        """
        require(
            table.ndim == 2 and table.is_floating_point() and table.shape[0] > 0,
            f"a table must hold numbers [pos, d]. Received {table.dtype} {tuple(table.shape)}",
        )
        mean = table.detach().double()
        return cls(mean, mean.expand(2, -1, -1), (1, 1), mean.new_zeros(len(mean)))

    @property
    def n_positions(self) -> int:
        """How many positions."""
        return self.mean.shape[0]

    @property
    def positions(self) -> Int[Tensor, "pos"]:
        """Which positions."""
        return torch.arange(self.n_positions, device=self.mean.device) + self.first

    @property
    def centred(self) -> Float[Tensor, "pos d"]:
        """The mean less its mean over positions: the positional part, with its noise."""
        return self.mean - self.mean.mean(0)

    @property
    def power(self) -> float:
        """Mean square over positions of the positional part, without noise's own."""
        return float(self.squares(lambda x: x - x.mean(-2, keepdim=True)).mean())

    def after(self, first: int) -> Curve:
        """Without the positions before this one.

        Raises:
            InputError: unless at least two positions are left.
        """
        require_whole("first", first, self.first)
        skipped = first - self.first
        require(
            self.n_positions - skipped > 1,
            f"two positions or more must be left. Received first {first} of "
            f"{self.first + self.n_positions}",
        )
        kept = torch.arange(skipped, self.n_positions)
        return replace(self.in_order(kept), first=first)

    def in_order(self, order: Int[Tensor, "row"]) -> Curve:
        """Other positions' rows in each position's place, or fewer of them: `order` says whose.

        Raises:
            InputError: for rows that are not there.
        """
        require(
            len(order) > 0 and int(order.min()) >= 0 and int(order.max()) < self.n_positions,
            f"order must hold rows in 0 … {self.n_positions - 1}. Received {order.tolist()}",
        )
        order = order.to(self.mean.device)
        return replace(
            self,
            mean=self.mean[order],
            folds=self.folds[:, order],
            content_power=self.content_power[order],
        )

    def without_fold(self, index: int) -> Curve:
        """Of the other folds' sequences alone (with the content power of all)."""
        kept = [i for i in range(len(self.sizes)) if i != index]
        sizes = tuple(self.sizes[i] for i in kept)
        folds = self.folds[kept]
        return replace(self, mean=_weighted(folds, sizes), folds=folds, sizes=sizes)

    def halves(self) -> tuple[Float[Tensor, "pos d"], Float[Tensor, "pos d"]]:
        """The means over the even and over the odd folds."""
        even = _weighted(self.folds[::2], self.sizes[::2])
        return even, _weighted(self.folds[1::2], self.sizes[1::2])

    def gram(self, centred: bool = True) -> Float[Tensor, "pos key_pos"]:
        """Products of the positional part at every two positions, without noise's own.

        Args:
            centred: Less the mean over positions first.
        """
        folds = self.folds - self.folds.mean(1, keepdim=True) if centred else self.folds
        return independent(folds, lambda x: x @ x.mT)

    def squares(
        self, linear: Callable[[Float[Tensor, "... pos d"]], Float[Tensor, "... row d"]]
    ) -> Float[Tensor, "row"]:
        """Squares of a linear function of the curve, without noise's own, summed over d.

        Args:
            linear: Makes rows of the positions; linear, so that noise goes through it as it is.
        """
        return independent(linear(self.folds), lambda x: x.square()).sum(-1)


def independent(
    folds: Float[Tensor, "fold *axes"],
    product: Callable[[Float[Tensor, "..."]], Float[Tensor, "..."]],
) -> Float[Tensor, "..."]:
    """The mean of a bilinear product over all pairs of different folds.

    With S the sum of k folds x_f it is (S·S - Σ x_f·x_f) / (k (k - 1)).

    Args:
        folds: Two or more; their noise is independent.
        product: The product of something with itself, for each entry of leading axes.

    Raises:
        InputError: for a single fold.
    """
    k = folds.shape[0]
    require(k > 1, f"folds must be two or more. Received {k}")
    return (product(folds.sum(0)) - product(folds).sum(0)) / (k * (k - 1))


@dataclass(frozen=True)
class Power:
    """How much of the variance at a place is position's.

    Attributes:
        positional: Squared distance of the positional part from its mean over positions, averaged
            over positions and without noise; in squared units of the activation. May fall below
            zero by chance.
        content: Variance over sequences within a position, averaged over positions.
        noise: What noise adds to the squares of the mean over all sequences.
        share: positional / (positional + content); NaN where all is constant.
        stderr: Of the share: jackknife over folds. 0 for a table. It is too large where position is
            weak, by up to √(2 (k - 1) / (k - 2)) for k folds where there is none (half as much
            again for 8), as a jackknife is for products of noise with noise.
    """

    positional: float
    content: float
    noise: float
    share: float
    stderr: float


def positional_power(curve: Curve) -> Power:
    """Between-position variance against all variance (one-way analysis of variance).

    The jackknife leaves out one fold at a time from the positional part, and takes the content's
    variance, which is known far better, as it is. With two folds, of which neither can be left out,
    there is no standard error (NaN).
    """
    content = float(curve.content_power.mean())
    positional = curve.power
    k = len(curve.sizes)
    if content == 0:
        stderr = 0.0
    elif k < 3:
        stderr = math.nan
    else:
        left_out = [_share(curve.without_fold(i).power, content) for i in range(k)]
        mean = math.fsum(left_out) / k
        stderr = math.sqrt((k - 1) / k * math.fsum((x - mean) ** 2 for x in left_out))
    raw = float(curve.centred.square().sum(-1).mean())
    share = _share(positional, content)
    return Power(positional, content, raw - positional, share, stderr)


def _share(positional: float, content: float) -> float:
    total = positional + content
    return positional / total if total else math.nan


def _weighted(folds: Float[Tensor, "fold pos d"], sizes: tuple[int, ...]) -> Tensor:
    weights = torch.tensor(sizes, dtype=folds.dtype, device=folds.device)
    return torch.einsum("f,fpd->pd", weights / weights.sum(), folds)
