"""How much of an attention pattern position decides, and how far back heads look."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import require
from interp.position_effects.key_variance import OffsetSums, SeenKeys
from interp.position_effects.mean_patterns import MeanPatterns


@dataclass(frozen=True)
class ExplainedPatterns:
    """Fractions (R²) of the variance of patterns, each `[layer, head]`, in fp64.

    The variance is that over the keys of one query, summed over all queries and texts, so that
    queries count alike (`MeanPatterns.squares`). What explains it is a function of the offset, of
    the key's position, …, fitted by least squares beside a constant for each query. NaN where a
    head's attention is even.

    `offset <= both <= position <= 1` and `key <= both`. What is fitted to noise is small for the
    first three (about two numbers for each position of a text) and up to 1 / n_sequences for
    `position`.

    Attributes:
        offset: By f(query position - key position).
        key: By g(key position).
        both: By f + g.
        position: By the mean over texts at each query and key: all that is the same in all texts.
    """

    offset: Float[Tensor, "layer head"]
    key: Float[Tensor, "layer head"]
    both: Float[Tensor, "layer head"]
    position: Float[Tensor, "layer head"]


@torch.no_grad()
def explained_by_position(patterns: MeanPatterns) -> ExplainedPatterns:
    """Which part of the patterns' variance offset and position explain."""
    found: dict[str, list[Tensor]] = {"offset": [], "key": [], "both": [], "position": []}
    fits: dict[bytes, PositionFit] = {}
    for layer, mean in enumerate(patterns.mean):
        mask = patterns.visible[layer].cpu().numpy().tobytes()
        if mask not in fits:
            fits[mask] = PositionFit(patterns.keys(layer), patterns.offset_sums)
        fit = fits[mask]
        squares = patterns.squares[layer]
        # Rounding of a pattern that is even, 1/n for n keys, is not variance.
        least = (4 * patterns.rounding) ** 2 * (1 / fit.keys.n.clamp(min=1)).sum()
        squares = torch.where(squares > least, squares, torch.nan)
        centred = fit.keys.centred(mean)
        for name in ("offset", "key", "both"):
            found[name].append(fit.explained(fit.sums_of(centred, name), name) / squares)
        found["position"].append(centred.pow(2).sum((-2, -1)) / squares)
    return ExplainedPatterns(**{name: torch.stack(each) for name, each in found.items()})


class PositionFit:
    """Least squares of `[pos, key_pos]` on offset and key position, with a constant a query.

    The design is the same for all heads, so the normal equations are solved once: what is needed of
    a head is the sum of its entries at each offset and key.

    Args:
        keys: The keys that queries see.
        sums: Sums by offset.
        weights: `[pos]`, how much the squares of each query count. None: all alike.
    """

    def __init__(
        self, keys: SeenKeys, sums: OffsetSums, weights: Float[Tensor, "pos"] | None = None
    ) -> None:
        self.keys, self.sums = keys, sums
        self.weights = torch.ones_like(keys.n, dtype=torch.float64) if weights is None else weights
        by_key = keys.visible.double()
        by_offset = sums.matrix_of(by_key)
        design = torch.cat([by_offset, by_key], 1)
        weighted = self.weights[:, None]
        n_offsets = by_offset.shape[1]
        normal = torch.diag((design * weighted).sum(0))
        # One entry lies at each offset and key, that of the query at their sum.
        places = torch.arange(sums.n_pos, device=by_key.device)
        at = (places[:, None] - places - sums.first).clamp(min=0)
        crossed = torch.zeros_like(normal[:n_offsets, n_offsets:])
        counted = by_key * weighted
        crossed.index_put_((at.flatten(), places.repeat(sums.n_pos)), counted.flatten(), True)
        normal[:n_offsets, n_offsets:] = crossed
        normal[n_offsets:, :n_offsets] = crossed.T
        of_query = (weighted / keys.n[:, None].clamp(min=1)) * design
        normal = normal - design.T @ of_query
        self._normal = normal
        self._of = {
            "offset": slice(n_offsets),
            "key": slice(n_offsets, None),
            "both": slice(None),
        }
        self._inverses: dict[str, Tensor] = {}

    def sums_of(
        self, centred: Float[Tensor, "*axes pos key_pos"], by: str
    ) -> Float[Tensor, "*axes term"]:
        """The sums at each offset, key, or both, that `explained` takes.

        `centred` is what `SeenKeys.centred` gives, in fp64.
        """
        counted = centred * self.weights[:, None]
        each = []
        if by != "key":
            each.append(self.sums(counted))
        if by != "offset":
            each.append(counted.sum(-2))
        return torch.cat(each, -1)

    def explained(self, sums: Float[Tensor, "*axes term"], by: str) -> Float[Tensor, "*axes"]:
        """The sum of squares that a fit by `offset`, `key` or `both` explains."""
        if by not in self._inverses:
            at = self._of[by]
            # Offset plus key position is the query's, so some directions say nothing.
            normal = self._normal[at, at]
            self._inverses[by] = torch.linalg.pinv(normal, hermitian=True, rtol=1e-11)
        return ((sums @ self._inverses[by]) * sums).sum(-1)


@torch.no_grad()
def offset_curves(
    patterns: MeanPatterns, skip_first: bool = True
) -> tuple[Int[Tensor, "offset"], Float[Tensor, "layer head offset"]]:
    """Each head's mean attention at each offset, over the queries that have a token there.

    Args:
        patterns: Of a model and texts.
        skip_first: Do not count the first token as a source: heads look at it for reasons other
            than its distance. (So counts `interp.behaviour.offset_scores`.)

    Returns:
        Offsets (query position less key position) that some query has, and the attention there.

    Raises:
        InputError: if there is no other token than the first.
    """
    first = 1 if skip_first else 0
    require(patterns.n_pos > first + 1, f"texts must be longer. They have {patterns.n_pos} tokens")
    sums = patterns.offset_sums
    counted = torch.ones_like(patterns.mean[0, 0])
    counted[:, :first] = 0
    n = sums(counted)
    total = sums(patterns.mean * counted)
    there = n > 0
    return sums.offsets[there], (total / n)[..., there]


@dataclass(frozen=True)
class AttentionDistances:
    """How far from a query its attention lies, in positions; queries behind the first.

    Attributes:
        distances: 0, 1, … .
        mass: The distribution of attention over distances, the mean over queries; it sums to 1
            also where a learned sink takes a share of the pattern.
        even_mass: That of even attention over the keys that a query sees.
    """

    distances: Int[Tensor, "distance"]
    mass: Float[Tensor, "layer head distance"]
    even_mass: Float[Tensor, "layer distance"]

    def mean(self) -> Float[Tensor, "layer head"]:
        """The mean distance."""
        return self.mass @ self.distances.double()

    def even_mean(self) -> Float[Tensor, "layer"]:
        """The mean distance of even attention."""
        return self.even_mass @ self.distances.double()

    def quantile(self, q: float) -> Int[Tensor, "layer head"]:
        """The least distance within which a fraction `q` of the attention lies.

        Raises:
            InputError: for a fraction that is not between 0 and 1.
        """
        require(0 < q < 1, f"q must lie between 0 and 1. Received {q!r}")
        # Sums of parts may fall short of the fraction by their rounding.
        return (self.mass.cumsum(-1) < q - 1e-12).sum(-1)


@torch.no_grad()
def attention_distances(patterns: MeanPatterns, skip_first: bool = False) -> AttentionDistances:
    """The distribution of every head's attention over distances.

    Args:
        patterns: Of a model and texts.
        skip_first: Leave out attention to the first token, where sinks are; the rest, of queries
            from the third token on, is scaled to sum to 1. NaN for a head that looks nowhere else.

    Raises:
        InputError: if texts are too short for that.
    """
    first = 1 if skip_first else 0
    require(patterns.n_pos > first + 1, f"texts must be longer. They have {patterns.n_pos} tokens")
    sums = patterns.offset_sums

    def spread(pattern: Tensor) -> Tensor:
        kept = pattern.clone()
        kept[..., :first] = 0
        kept[..., : first + 1, :] = 0
        by_offset = sums(kept)
        ahead = by_offset[..., : -sums.first].flip(-1)
        mass = by_offset[..., -sums.first :].clone()
        mass[..., 1 : 1 + ahead.shape[-1]] += ahead
        return mass / mass.sum(-1, keepdim=True)

    even = torch.stack([patterns.keys(layer).even for layer in range(len(patterns.visible))])
    distances = torch.arange(patterns.n_pos, device=patterns.mean.device)
    return AttentionDistances(distances, spread(patterns.mean), spread(even))
