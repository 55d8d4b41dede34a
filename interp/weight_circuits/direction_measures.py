"""How many directions share few dimensions: the measures of superposition on large sets.

The measures are those of `interp.toys.measures` (Elhage et al. 2022, *Toy Models of
Superposition*), a direction a row here. A vocabulary of 50,000 has 2.5 billion pairs, which are
never made: sums over all pairs go through the d_model × d_model second moment M = Σ_j W_j W_jᵀ,
Σ_j (Ŵ_i·W_j)² = Ŵ_iᵀ M Ŵ_i, exact; single cosines are made for some directions against all others,
block by block.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.errors import require, require_whole
from interp.weight_circuits.directions import Directions

_ENTRIES = 1 << 23  # of one block of cosines, or of directions: 32 MiB in fp32


@dataclass(frozen=True, slots=True)
class DirectionMeasures:
    """What each direction of a set has to itself, and what all have together.

    Attributes:
        norms: ‖W_i‖.
        dimensionality: D_i = ‖W_i‖² / Σ_j (Ŵ_i·W_j)², in 0 … 1: the fraction of a dimension that
            it has to itself. 0 for a direction of zeros. They sum to no more than the rank.
        superposition: Σ_{j≠i} (Ŵ_i·W_j)²: what all others write onto this one's direction, in the
            unit of squared norms.
        moment: M = Σ_i W_i W_iᵀ.
        squared_norm: Σ_i ‖W_i‖².
        effective_directions: (Σ ‖W_i‖²)² / Σ ‖W_i‖⁴: how many there are, counted by their norms.
            Equal ones count one each, those near zero not at all.
        effective_dimensions: (Σ ‖W_i‖²)² / ‖M‖²_F: how many dimensions they fill evenly.
        squared_cosine: Mean of cos² over all pairs of different ones, weighted by both squared
            norms; 1 / width where directions are drawn at random.
        mean_share: ‖mean of all‖² / mean of ‖W_i‖²: how much of them is one shared vector.
    """

    norms: Float[Tensor, "direction"]
    dimensionality: Float[Tensor, "direction"]
    superposition: Float[Tensor, "direction"]
    moment: Float[Tensor, "d_model d_model"]
    squared_norm: float
    effective_directions: float
    effective_dimensions: float
    squared_cosine: float
    mean_share: float


@torch.no_grad()
def measure_directions(
    vectors: Float[Tensor, "direction d_model"], chunk: int | None = None
) -> DirectionMeasures:
    """The measures of a set of directions, in time linear in how many there are.

    Args:
        vectors: A row each, in fp32 or fp64.
        chunk: Rows at a time; by default 32 MiB of them. The result does not depend on it.

    Raises:
        InputError: for anything but a matrix with rows of finite numbers, or a chunk below 1.
    """
    _require_rows(vectors)
    if chunk is None:
        chunk = _rows_of(vectors.shape[1])
    require_whole("chunk", chunk, 1)
    moment = vectors.mT @ vectors
    _require_finite(moment)  # as it is where all vectors are, and few entries to look at
    norms = torch.linalg.vector_norm(vectors, dim=-1)
    squares = norms.square()
    products = torch.cat([((block @ moment) * block).sum(-1) for block in vectors.split(chunk)])
    there = squares > 0
    every = products / torch.where(there, squares, 1.0)  # Σ_j (Ŵ_i·W_j)², j = i with them
    wide = squares.double()
    total, fourth = float(wide.sum()), float(wide.square().sum())
    square = float(moment.double().square().sum())
    pairs = total**2 - fourth
    return DirectionMeasures(
        norms=norms,
        # Rounding may leave a sum of squares a little below one of its terms.
        dimensionality=torch.where(there, squares / every.clamp(min=squares), 0.0),
        superposition=(every - squares).clamp(min=0.0),
        moment=moment,
        squared_norm=total,
        effective_directions=total**2 / fourth if fourth else 0.0,
        effective_dimensions=total**2 / square if square else 0.0,
        squared_cosine=max(square - fourth, 0.0) / pairs if pairs > 1e-12 * total**2 else 0.0,
        mean_share=_mean_share(vectors, total),
    )


def _mean_share(vectors: Tensor, squared_norm: float) -> float:
    mean = vectors.mean(0).double()
    return float(mean.square().sum()) * len(vectors) / squared_norm if squared_norm else 0.0


@torch.no_grad()
def dimensionality_of_rows(
    vectors: Float[Tensor, "direction d_model"], rows: Int[Tensor, "row"]
) -> Float[Tensor, "row"]:
    """D_i of some directions by every product with every other, summed in fp64.

    What `measure_directions` is held against.
    """
    chosen = vectors[rows]
    total = torch.zeros(len(rows), dtype=torch.float64, device=vectors.device)
    for block in vectors.split(_rows_of(len(rows))):
        total += (chosen @ block.mT).double().square().sum(-1)
    fourth = chosen.double().square().sum(-1).square()
    return torch.where(fourth > 0, fourth / torch.where(total > 0, total, 1.0), 0.0)


@dataclass(frozen=True, slots=True)
class Cosines:
    """The cosines of some directions with all others of their set.

    Attributes:
        rows: Which.
        nearest, nearest_cosine: The other that each has the largest cosine with, and that cosine.
        opposite, opposite_cosine: The same of the smallest.
        counts: How many of all these cosines lie in each bin.
        edges: The bins' edges, from -1 to 1.
    """

    rows: Int[Tensor, "row"]
    nearest: Int[Tensor, "row"]
    nearest_cosine: Float[Tensor, "row"]
    opposite: Int[Tensor, "row"]
    opposite_cosine: Float[Tensor, "row"]
    counts: Float[Tensor, "bin"]
    edges: Float[Tensor, "edge"]


@torch.no_grad()
def cosines(
    vectors: Float[Tensor, "direction d_model"],
    rows: Int[Tensor, "row"],
    n_bins: int = 100,
    chunk: int | None = None,
) -> Cosines:
    """Compare some directions with all others of their set.

    Args:
        vectors: At least two, in fp32 or fp64. The cosine with one of zeros is 0.
        rows: Which are compared.
        n_bins: Of the histogram.
        chunk: Rows at a time; by default as many as make 2²³ cosines.

    Raises:
        InputError: for fewer than two directions, numbers that are not finite, no rows or rows that
            are not there, or n_bins or chunk below 1.
    """
    require_whole("n_bins", n_bins, 1)
    found = []
    counts = torch.zeros(n_bins, dtype=torch.float64, device=vectors.device)
    for ids, block in _blocks(vectors, rows, chunk):
        own = torch.arange(len(ids), device=ids.device), ids
        block[own] = -2.0  # below every cosine: in the first bin, from which they are taken
        counts += torch.histc(block.clamp(-1.0, 1.0), n_bins, -1.0, 1.0)
        counts[0] -= len(ids)
        high = block.max(-1)
        block[own] = 2.0
        low = block.min(-1)
        found.append((high.indices, high.values, low.indices, low.values))
    nearest, nearest_cosine, opposite, opposite_cosine = map(torch.cat, zip(*found, strict=True))
    return Cosines(
        rows=rows,
        nearest=nearest,
        nearest_cosine=nearest_cosine.clamp(max=1.0),
        opposite=opposite,
        opposite_cosine=opposite_cosine.clamp(min=-1.0),
        counts=counts,
        edges=torch.linspace(-1.0, 1.0, n_bins + 1, dtype=torch.float64, device=vectors.device),
    )


@torch.no_grad()
def nearest_directions(
    vectors: Float[Tensor, "direction d_model"],
    rows: Int[Tensor, "row"],
    k: int = 10,
    chunk: int | None = None,
) -> tuple[Int[Tensor, "row k"], Float[Tensor, "row k"]]:
    """The k others with the largest cosines to each of some directions, the nearest first.

    Raises:
        InputError: as `cosines`, or for k below 1.
    """
    require_whole("k", k, 1)
    k = min(k, len(vectors) - 1)
    found = []
    for ids, block in _blocks(vectors, rows, chunk):
        block[torch.arange(len(ids), device=ids.device), ids] = -2.0
        found.append(block.topk(k))
    return (
        torch.cat([each.indices for each in found]),
        torch.cat([each.values for each in found]).clamp(-1.0, 1.0),
    )


@torch.no_grad()
def near_copies(
    vectors: Float[Tensor, "direction d_model"],
    rows: Int[Tensor, "row"],
    cosine: float = 0.99,
    chunk: int | None = None,
) -> Bool[Tensor, "direction"]:
    """Directions that all but coincide with another, and may be left out beside it.

    Tokens that a training never saw often share a direction, and hundreds of one direction leave
    little of a dimension to each. Groups are found through some of them, the largest group first:
    all that have at least this cosine with a row are left out, but not that row. A group with a
    share s of all directions is missed with probability (1 - s) ** (number of rows), where these
    are drawn at random.

    Args:
        vectors: At least two, in fp32 or fp64.
        rows: Those through which groups are found.
        cosine: From which on two are the same, above 0 and at most 1.
        chunk: Rows at a time.

    Raises:
        InputError: as `cosines`, or for another cosine.
    """
    require(0 < cosine <= 1, f"cosine must be above 0 and at most 1. Received {cosine!r}")
    same, with_copies = [], []
    for ids, block in _blocks(vectors, rows, chunk):
        close = block >= cosine
        close[torch.arange(len(ids), device=ids.device), ids] = False
        some = close.any(-1)  # seldom many: all rows by all directions would be a large matrix
        same.append(close[some])
        with_copies.append(ids[some])
    groups, kept = torch.cat(same), torch.cat(with_copies)
    left_out = torch.zeros(len(vectors), dtype=torch.bool, device=vectors.device)
    order = groups.sum(-1).argsort(descending=True, stable=True)
    for i, row in zip(order.tolist(), kept[order].tolist(), strict=True):
        if not left_out[row]:
            left_out |= groups[i]
    return left_out


def _blocks(vectors: Tensor, rows: Tensor, chunk: int | None) -> Iterator[tuple[Tensor, Tensor]]:
    """Some rows' numbers and their cosines with all directions, block by block."""
    _require_rows(vectors)
    require(len(vectors) > 1, "cosines are of at least two directions. Received 1")
    require(
        rows.ndim == 1 and len(rows) > 0 and bool(((rows >= 0) & (rows < len(vectors))).all()),
        f"rows must lie in 0 … {len(vectors) - 1}, at least one. Received {rows.tolist()!r:.80}",
    )
    if chunk is None:
        chunk = _rows_of(len(vectors))
    require_whole("chunk", chunk, 1)
    norms = torch.linalg.vector_norm(vectors, dim=-1)
    _require_finite(norms)
    inverse = torch.where(norms > 0, norms, torch.inf).reciprocal()
    for ids in rows.split(chunk):
        block = (vectors[ids] * inverse[ids, None]) @ vectors.mT
        block *= inverse
        yield ids, block


@torch.no_grad()
def random_like(directions: Directions, generator: torch.Generator) -> Directions:
    """Directions drawn uniformly, as many, of the same norms and in the same dimensions.

    Each has the norm of the one that it stands for. Those of a head are orthogonal as its own are:
    the head turned at random. What was taken off (the mean over d_model, the mean of all) is taken
    off; the latter moves the norms a little. Numbers are drawn on the generator's device.
    """
    vectors = directions.vectors
    drawn = torch.randn(
        vectors.shape, generator=generator, dtype=vectors.dtype, device=generator.device
    ).to(vectors.device)
    norms = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    if directions.centred:
        drawn -= drawn.mean(-1, keepdim=True)
    if directions.of_heads:
        assert directions.per_group is not None
        frames = drawn.view(-1, directions.per_group, drawn.shape[-1]).double()
        # L⁻¹ of the Gram matrix LLᵀ makes rows orthonormal, as a QR decomposition would.
        factor = torch.linalg.cholesky(frames @ frames.mT)
        frames = torch.linalg.solve_triangular(factor, frames, upper=False)
        drawn = frames.to(drawn.dtype).flatten(0, 1) * norms
    else:
        drawn *= norms / torch.linalg.vector_norm(drawn, dim=-1, keepdim=True)
    if directions.less_mean:
        drawn -= drawn.mean(0)
    return replace(directions, vectors=drawn)


def _require_rows(vectors: Tensor) -> None:
    require(
        vectors.ndim == 2
        and vectors.numel() > 0
        and vectors.dtype in (torch.float32, torch.float64),
        "directions must be rows of a matrix in fp32 or fp64, at least one. "
        f"Received shape {list(vectors.shape)} of {vectors.dtype}",
    )


def _require_finite(of_vectors: Tensor) -> None:
    require(
        bool(of_vectors.isfinite().all()),
        "directions and their squared norms must be finite numbers. Received some that are not",
    )


def _rows_of(width: int) -> int:
    return max(1, _ENTRIES // width)
