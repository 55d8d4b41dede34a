"""Which sources each destination sees, as intervals, and the single sources that are asked about.

Causal masks, windows and padding on either side are all of one form: destination i sees the real
keys j with `low[i] <= j < high[i]`, and both ends only grow with i. So a block of destinations
needs a range of keys, of which only the two ends need a mask, and no mask of n² is ever made.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

SINGLE_SOURCES = ("first_mass", "previous_mass", "self_mass")
"""The statistics that are about one source of each destination."""


@dataclass(frozen=True)
class ScoreRule:
    """How scores are made of queries and keys, and the pattern of scores.

    Attributes:
        scale: score = scale · q·k, then the cap, then what position adds.
        soft_cap: score → soft_cap · tanh(score / soft_cap); 0: none.
        slopes: `[head]`: -slope · |distance| is added to the scores (ALiBi).
        bias: `[batch or 1, head, pos, key_pos]`, added to the scores.
        sinks: `[head]`: a score that takes its share of the pattern.
    """

    scale: float
    soft_cap: float = 0.0
    slopes: Float[Tensor, "head"] | None = None
    bias: Float[Tensor, "batch head pos key_pos"] | None = None
    sinks: Float[Tensor, "head"] | None = None


@dataclass(frozen=True)
class Visible:
    """Queries at the last positions of the keys' sequence, and what they see of it.

    Nothing here waits for the device. The row axis is 1 where all rows of the batch agree.

    Attributes:
        n_queries: Destinations.
        n_keys: Sources; the queries are at the last of them.
        causal: A destination sees itself and what is before it.
        window: It sees sources less than this many positions away. None: all.
        real_keys: `[batch, key_pos]`, False for padding. None: no padding.
        device: Where all of this is made.
    """

    n_queries: int
    n_keys: int
    causal: bool
    window: int | None
    real_keys: Bool[Tensor, "batch key_pos"] | None
    device: torch.device

    @cached_property
    def indices(self) -> Int[Tensor, "key_pos"]:
        """0, 1, … of the keys."""
        return torch.arange(self.n_keys, device=self.device)

    @property
    def query_indices(self) -> Int[Tensor, "pos"]:
        """Where the queries are among the keys."""
        return self.indices[self.n_keys - self.n_queries :]

    @cached_property
    def key_places(self) -> Int[Tensor, "row key_pos"]:
        """Each key's place among the real tokens of its row (padding: that of the one before)."""
        if self.real_keys is None:
            return self.indices[None]
        return (self.real_keys.cumsum(1) - 1).clamp(min=0)

    @property
    def places(self) -> Int[Tensor, "row pos"]:
        """The same of the queries."""
        return self.key_places[:, self.n_keys - self.n_queries :]

    @cached_property
    def low(self) -> Int[Tensor, "row pos"]:
        """The first key index that each destination may see."""
        if self.window is None:
            return torch.zeros_like(self.places)
        return self._key_at(self.places - self.window + 1)

    @cached_property
    def high(self) -> Int[Tensor, "row pos"]:
        """The key index before which all is that each destination may see."""
        rows = self.places.shape[0]
        if self.causal:
            return self.query_indices[None].expand(rows, -1) + 1
        if self.window is None:
            return torch.full_like(self.places, self.n_keys)
        return self._key_at(self.places + self.window)

    def _key_at(self, places: Tensor) -> Int[Tensor, "row pos"]:
        """The index of the real key at each place: 0 before the first, n_keys after the last."""
        if self.real_keys is None:
            return places.clamp(0, self.n_keys)
        rows = self.real_keys.shape[0]
        # Padding writes to a last column that no place reads.
        by_place = torch.full((rows, self.n_keys + 1), self.n_keys, device=self.device)
        target = torch.where(self.real_keys, self.key_places, self.n_keys)
        by_place.scatter_(1, target, self.indices.expand(rows, -1))
        by_place[:, -1] = self.n_keys
        return by_place.gather(1, places.clamp(0, self.n_keys))

    @cached_property
    def before(self) -> Int[Tensor, "row key_pos"]:
        """The index of the last real key before each key; -1: there is none."""
        if self.real_keys is None:
            return (self.indices - 1)[None]
        real = torch.where(self.real_keys, self.indices, -1).cummax(1).values
        return torch.cat([torch.full_like(real[:, :1], -1), real[:, :-1]], 1)

    def single_source(self, name: str) -> Int[Tensor, "row pos"]:
        """The key index of each destination's first, previous or own token; -1: there is none."""
        rows = self.places.shape[0]
        if name == "first_mass":
            if self.real_keys is None:
                return torch.zeros_like(self.places)
            first = self.real_keys.int().argmax(1, keepdim=True)
            return torch.where(self.real_keys.any(1, keepdim=True), first, -1).expand_as(
                self.places
            )
        if name == "previous_mass":
            return self.before[:, self.n_keys - self.n_queries :]
        return self.query_indices[None].expand(rows, -1)
