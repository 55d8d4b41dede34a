"""The part of a residual stream that tells positions, taken out, beside random parts of its size.

What is taken out of activations x along an orthonormal basis B is replaced by the mean over tokens
and positions (`RemoveSubspace`), so that nothing along B tells one token or position from another.
That an effect is due to *position* in B, and not to so many dimensions or so much variance being
gone, can only be told beside random subspaces: of equal rank, and of equal variance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import require, require_whole
from interp.interventions import Place, RemoveSubspace

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer


@dataclass(frozen=True, eq=False)
class Spread:
    """How vectors at one hook are spread, over tokens and positions; in fp64.

    Attributes:
        hook: Where.
        mean: `[d]`.
        covariance: `[d, d]`, over all tokens of all rows, divided by their number.
        by_position: `[pos, d]`, the mean at each position from `first` on.
        first: The first position that counts.
    """

    hook: str
    mean: Float[Tensor, "d"]
    covariance: Float[Tensor, "d d"]
    by_position: Float[Tensor, "pos d"]
    first: int = 0

    @cached_property
    def position_directions(self) -> Float[Tensor, "rank d"]:
        """Principal directions of the means by position, the largest first, orthonormal.

        Those along which the means do not vary (to rounding) are no directions of theirs.
        """
        centred = self.by_position - self.by_position.mean(0)
        _, sizes, directions = torch.linalg.svd(centred, full_matrices=False)
        least = max(centred.shape) * torch.finfo(sizes.dtype).eps * self._scale
        return directions[sizes > least]

    @property
    def _scale(self) -> float:
        return float(self.by_position.abs().max()) * math.sqrt(self.by_position.shape[0])

    def share(self, basis: Float[Tensor, "k d"]) -> float:
        """The share of all variance that lies in a subspace, between 0 and 1; NaN of none.

        Args:
            basis: Orthonormal rows.
        """
        total = self.covariance.trace()
        basis = basis.to(self.covariance)
        return float((basis @ self.covariance @ basis.T).trace() / total) if total > 0 else math.nan

    def removal(self, basis: Float[Tensor, "k d"]) -> RemoveSubspace:
        """The intervention that puts the mean in the place of what lies in a subspace.

        At the positions that count, of rows of this length.
        """
        last = self.first + len(self.by_position)
        positions = tuple(range(self.first, last)) if self.first else None
        place = Place(self.hook, positions=positions)
        return RemoveSubspace(place, basis.double().cpu(), self.mean.cpu())


@torch.no_grad()
def spreads(
    model: HookedTransformer,
    tokens: Int[Tensor, "batch pos"],
    hooks: Sequence[str],
    batch_size: int = 64,
    first: int = 0,
) -> dict[str, Spread]:
    """The spread at each of some hooks with vectors `[batch, pos, d]`, from one pass over the rows.

    Args:
        model: A decoder or an encoder.
        tokens: Rows of one length, without padding.
        hooks: Which.
        batch_size: Rows of one run.
        first: The first position that counts: 1 leaves out a BOS, which tells itself from the rest
            by what it is, not by where it is.

    Raises:
        InputError: for a hook without such vectors, or `first` past the rows' end.
    """
    require_whole("batch_size", batch_size, 1)
    require_whole("first", first, 0)
    n, length = tokens.shape
    require(first < length, f"first must be below the length, {length}. Received {first}")
    n_pos = length - first
    sums: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
    for start in range(0, n, batch_size):
        batch = tokens[start : start + batch_size]
        _, cache = model.run_with_cache(
            batch,
            attention_mask=torch.ones_like(batch),  # none is padding, whatever it begins with
            names_filter=list(hooks),
            return_type=None,
        )
        for hook in hooks:
            x = cache[hook]
            fits = x.ndim == 3 and tuple(x.shape[:2]) == tuple(batch.shape)
            require(fits, f"{hook} must hold vectors [batch, pos, d]. It is {tuple(x.shape)}")
            wide = x[:, first:].double()
            if hook not in sums:  # moments about a vector near the mean lose no digits
                near = wide.mean((0, 1))
                sums[hook] = (
                    near,
                    torch.zeros_like(wide[0]),
                    near.new_zeros(near.shape[0], near.shape[0]),
                )
            near, by_position, square = sums[hook]
            away = wide - near
            by_position += away.sum(0)
            flat = away.flatten(0, 1)
            square += flat.T @ flat
    found = {}
    for hook, (near, by_position, square) in sums.items():
        off = by_position.sum(0) / (n * n_pos)
        covariance = square / (n * n_pos) - torch.outer(off, off)
        found[hook] = Spread(hook, near + off, covariance, near + by_position / n, first)
    return found


def random_subspace(
    dim: int, rank: int, seed: int, device: torch.device | str = "cpu"
) -> Float[Tensor, "rank dim"]:
    """An orthonormal basis of a subspace drawn uniformly, in fp64; the same on every device.

    Raises:
        InputError: for a rank that is not in 1 … dim.
    """
    require_whole("rank", rank, 1)
    require(rank <= dim, f"rank must be at most the dimensions, {dim}. Received {rank}")
    drawn = torch.randn(
        dim, rank, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    return torch.linalg.qr(drawn).Q.T.to(device)


def rank_of_equal_share(share: float, dim: int) -> int:
    """How large random subspaces are that hold this share of the variance.

    A subspace of rank r drawn uniformly holds r/d of it in the mean, whatever the covariance.

    Raises:
        InputError: for a share outside 0 … 1.
    """
    require(0.0 <= share <= 1.0 + 1e-9, f"share must lie in 0 … 1. Received {share}")
    return min(max(1, round(share * dim)), dim)


def position_waves(length: int, count: int) -> Float[Tensor, "pos count"]:
    """The first waves of the cosine transform (DCT-II) over positions, each of mean 0, variance 1.

    cos(π (t + ½) k / length) · √2 for k = 1 … count: targets of a probe whose span grows from the
    slow rise along the sequence to single positions.

    Raises:
        InputError: for more than `length` - 1.
    """
    require_whole("count", count, 1)
    require(count < length, f"count must be below the length, {length}. Received {count}")
    t = torch.arange(length, dtype=torch.float64)[:, None] + 0.5
    k = torch.arange(1, count + 1, dtype=torch.float64)
    return (torch.pi * t * k / length).cos() * math.sqrt(2)
