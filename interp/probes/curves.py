"""How well probes of growing size do: over how many dims, or how high a rank."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import require, require_number, require_one_of, require_whole
from interp.probes.scores import Estimate, Scores


@dataclass(frozen=True)
class Curve:
    """Scores of probes of growing size at one site.

    Attributes:
        site: Its name.
        sizes: Numbers of dims or ranks, ascending.
        scores: Of each size, on the test samples.
        full: Of the probe that is not limited, with the same α.
        alpha: The penalty, chosen by the validation loss of the full probe.
        basis: Rows of which the first k span what the probe of size k reads.
        dims: Of a sparse probe: the features taken, in order; else None.
    """

    site: str
    sizes: tuple[int, ...]
    scores: tuple[Scores, ...]
    full: Scores
    alpha: float
    basis: Float[Tensor, "size dim"]
    dims: Int[Tensor, "size"] | None = None

    def estimates(self, score: str) -> list[Estimate]:
        """One score of every size.

        Raises:
            InputError: for a score that there is not.
        """
        require_one_of("score", score, self.full)
        return [scores[score] for scores in self.scores]

    def size_for(self, score: str = "r2", share: float = 0.95, chance: float = 0.0) -> int | None:
        """The least size that reaches this share of the full probe's score.

        Both are test scores: it describes the curve and is no probe chosen by them.

        Args:
            score: Of both.
            share: Of the full probe's score.
            chance: What guesses score: of R² 0, of accuracy the share of the most frequent class.

        Returns:
            The size; None: no size measured reaches it, or there is nothing to reach: the interval
            of the full probe's score does not lie above chance.

        Raises:
            InputError: for a score that there is not, a share that is not positive, or a chance
                that is negative.
        """
        require_number("share", share)
        require_number("chance", chance, zero=True)
        reached = self.estimates(score)
        goal = share * self.full[score].value
        if not self.full[score].low > chance:
            return None
        for size, found in zip(self.sizes, reached, strict=True):
            if found.value >= goal:
                return size
        return None

    def directions(self, size: int) -> Float[Tensor, "size dim"]:
        """An orthonormal basis of what the probe of this size reads.

        Raises:
            InputError: for a size that is not in 1 … the largest that was made.
        """
        require_whole("size", size, 1)
        most = self.sizes[-1]
        require(size <= most, f"size must be at most {most}, the largest made. Received {size}")
        return torch.linalg.qr(self.basis[:size].mT).Q.mT.contiguous()


def powers_of_two(most: int) -> tuple[int, ...]:
    """1, 2, 4, … up to and including the most."""
    found = [1 << i for i in range(most.bit_length()) if 1 << i < most]
    return (*found, most)


def checked_sizes(name: str, sizes: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """Sizes, ascending.

    Raises:
        InputError: for none at all, or one that is no whole number from 1 on.
    """
    if sizes is None:
        return None
    require(len(sizes) > 0, f"{name} must hold at least one number. Received none")
    for size in sizes:
        require_whole(f"each of {name}", size, 1)
    return tuple(sorted(set(sizes)))
