"""Which sources hold a destination's token, or come right after one that does.

In most texts these are few, so they are listed: keys are sorted by token once, and the earlier ones
of a destination's token are a range of that order. Where they are many, a block has a mask instead.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.kernels.statistics import OF_TOKENS

_MANY = 8  # a list takes longer than a mask where it holds one of so many keys, or more


class Members(Protocol):
    """The members of a set among a block's pairs of destination and key."""

    def add(self, e: Float[Tensor, "head pos key"], to: Float[Tensor, "head pos"]) -> None:
        """Add what `e` has at these pairs."""


@dataclass(frozen=True)
class Masked:
    """Members by a mask over the block."""

    mask: Bool[Tensor, "pos key"]

    def add(self, e: Float[Tensor, "head pos key"], to: Float[Tensor, "head pos"]) -> None:
        """Add what `e` has at these pairs."""
        to += torch.linalg.vecdot(e, self.mask.to(e.dtype))


@dataclass(frozen=True)
class Listed:
    """Members one by one: the destination of each, and where it is in the flattened block."""

    rows: Int[Tensor, "pair"]
    places: Int[Tensor, "pair"]

    def add(self, e: Float[Tensor, "head pos key"], to: Float[Tensor, "head pos"]) -> None:
        """Add what `e` has at these pairs."""
        to.index_add_(1, self.rows, e.flatten(1).index_select(1, self.places))


class TokenSets:
    """One row's keys, sorted by token, and where each destination's are among them.

    Args:
        tokens: Of all keys; the destinations are at the last of them.
        real: Which keys are real, by index, where some are padding. All indices that follow, and
            those of `within`, count real keys.
        low: The first key that each destination may see.
        before, up_to: How many keys are before each destination, and with it itself.
        names: Which of the sets are made: `same_token_mass`, `induction_mass`.
    """

    def __init__(
        self,
        tokens: Int[Tensor, "all_keys"],
        real: Int[Tensor, "key"] | None,
        low: Int[Tensor, "pos"],
        before: Int[Tensor, "pos"],
        up_to: Int[Tensor, "pos"],
        names: Collection[str] = OF_TOKENS,
    ) -> None:
        # Set → how many places after a key with the destination's token its members are, and how
        # many keys a destination may find them among.
        sets = {"same_token_mass": (0, before), "induction_mass": (1, up_to)}
        self.made = {name: of_set for name, of_set in sets.items() if name in names}
        ids = tokens.unique(return_inverse=True)[1]  # small, so that the products below fit
        self.of_queries = ids[-before.shape[0] :].contiguous()
        self.of_keys = ids if real is None else ids[real]
        n = self.of_keys.shape[0] + 1
        self.order = self.of_keys.argsort(stable=True)
        by_token = self.of_keys[self.order] * n + self.order
        first = self.of_queries * n
        # What comes after the key just before the window is in the window.
        self.begin = torch.searchsorted(by_token, first + (low - 1).clamp(min=0))
        self.end = torch.searchsorted(by_token, first + before)

    def within(self, queries: slice, first: int, last: int) -> dict[str, Members]:
        """The sets' members among these destinations and the keys from `first` to before `last`."""
        counts = (self.end[queries] - self.begin[queries]).clamp_(min=0)
        n, width = counts.shape[0], last - first
        n_pairs = int(counts.sum())
        if n_pairs * _MANY > n * width:
            return {
                name: self._masked(queries, first, last, after, end)
                for name, (after, end) in self.made.items()
            }
        rows = torch.repeat_interleave(counts, output_size=n_pairs)
        number = torch.arange(n_pairs, device=counts.device) - (counts.cumsum(0) - counts)[rows]
        keys = self.order[self.begin[queries][rows] + number]
        return {
            name: _listed(rows, keys + after - first, keys + after < end[queries][rows], width)
            for name, (after, end) in self.made.items()
        }

    def _masked(self, queries: slice, first: int, last: int, after: int, end: Tensor) -> Masked:
        """Keys before `end` whose token, or the one `after` places before it, is the query's."""
        index = torch.arange(first, last, device=end.device)
        held = index - after
        there = (held >= 0) & (held < self.of_keys.shape[0])
        token = self.of_keys[held.clamp(0, self.of_keys.shape[0] - 1)]
        same = self.of_queries[queries, None] == token
        return Masked(same & there & (index < end[queries, None]))


def _listed(rows: Tensor, keys: Tensor, kept: Tensor, width: int) -> Listed:
    """Those of the pairs that are kept and lie in the block."""
    kept = kept & (keys >= 0) & (keys < width)
    rows, keys = rows[kept], keys[kept]
    return Listed(rows, rows * width + keys)
