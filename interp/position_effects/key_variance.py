"""What varies over the keys that a query sees, which is all of its scores that a softmax sees."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class SeenKeys:
    """The keys of each query, and sums over them.

    Attributes:
        visible: `[pos, key_pos]`, which keys each query may look at.
        n: `[pos]`, how many those are.
        chooses: `[pos]`, where there are two or more: a query with one key has no choice.
        n_choosing: How many such queries there are.
    """

    def __init__(self, visible: Bool[Tensor, "pos key_pos"]) -> None:
        self.visible = visible
        self.n = visible.sum(-1)
        self.chooses = self.n > 1
        # The mask is made of positions alone; one look at it serves a whole run.
        self.n_choosing = int(self.chooses.sum())

    @property
    def even(self) -> Float[Tensor, "pos key_pos"]:
        """Even attention, in fp64."""
        return self.visible.double() / self.n[:, None]

    def mean(self, x: Float[Tensor, "*axes pos key_pos"]) -> Float[Tensor, "*axes pos"]:
        """The mean over each query's keys; 0 for a query without any."""
        return x.masked_fill(~self.visible, 0.0).sum(-1) / self.n.clamp(min=1)

    def centred(self, x: Float[Tensor, "*axes pos key_pos"]) -> Float[Tensor, "*axes pos key_pos"]:
        """`x` less its mean over each query's keys; 0 where a query does not look."""
        return (x - self.mean(x)[..., None]).masked_fill(~self.visible, 0.0)

    def product(
        self,
        a: Float[Tensor, "*axes pos key_pos"],
        b: Float[Tensor, "*axes pos key_pos"],
    ) -> Float[Tensor, "*axes"]:
        """The covariance over keys of what `centred` gave, summed over queries (fp64)."""
        by_query = (a * b).sum(-1).double()
        return (by_query / self.n.clamp(min=1)).sum(-1)


def above_rounding(
    spread: Float[Tensor, "*axes"], size: Float[Tensor, "*axes"], dtype: torch.dtype
) -> Bool[Tensor, "*axes"]:
    """Where numbers of this size, made in this dtype, differ by more than they are rounded by."""
    return spread > 16 * torch.finfo(dtype).eps * size


class OffsetSums:
    """Sums along the diagonals of `[pos, key_pos]`.

    Attributes:
        offsets: Query position less key position: 0 … n - 1 where no query looks ahead, else from
            -(n - 1) on.
    """

    def __init__(self, n_pos: int, causal: bool, device: torch.device) -> None:
        places = torch.arange(n_pos, device=device)
        self.n_pos, self.first = n_pos, 0 if causal else 1 - n_pos
        self.offsets: Int[Tensor, "offset"] = torch.arange(self.first, n_pos, device=device)
        at = places[:, None] - places - self.first
        # What a causal mask hides goes to a last column, which is dropped.
        self._index = torch.where(at < 0, len(self.offsets), at).flatten()

    def __call__(self, x: Float[Tensor, "*axes pos key_pos"]) -> Float[Tensor, "*axes offset"]:
        """The sum over all queries and keys at each offset."""
        sums = x.new_zeros(*x.shape[:-2], len(self.offsets) + 1)
        return sums.index_add_(-1, self._index, x.flatten(-2))[..., :-1]

    def matrix_of(self, x: Float[Tensor, "pos key_pos"]) -> Float[Tensor, "pos offset"]:
        """The same entries, each query's by offset instead of by key."""
        rows = x.new_zeros(self.n_pos, len(self.offsets) + 1)
        return rows.scatter_add_(1, self._index.view(self.n_pos, -1), x)[:, :-1]

    def spread(self, values: Float[Tensor, "*axes offset"]) -> Float[Tensor, "*axes pos key_pos"]:
        """The value of its offset at each query and key; 0 where a causal mask hides it."""
        padded = torch.cat([values, torch.zeros_like(values[..., :1])], -1)
        return padded[..., self._index].unflatten(-1, (self.n_pos, self.n_pos))
