"""Reading a large product block by block of rows: memory is that of one block, not of all of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.errors import require, require_whole
from interp.factored import FactoredMatrix

_ENTRIES = 1 << 24  # of one block: 64 MiB in fp32


@dataclass(frozen=True, slots=True)
class Entries:
    """Some entries of a matrix, from the most to the least extreme.

    Attributes:
        rows, columns: Where they are, `[entry]`.
        values: What they are.
    """

    rows: Int[Tensor, "entry"]
    columns: Int[Tensor, "entry"]
    values: Float[Tensor, "entry"]

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True, slots=True)
class EntryStatistics:
    """All entries of a square circuit at a glance, exact, through its factors.

    Attributes:
        mean, std: Over all entries (population).
        diagonal: Mean of the diagonal.
        off_diagonal: Mean of the rest.
        contrast: (diagonal - off_diagonal) / std: how far the diagonal stands out, in standard
            deviations of an entry. 0 where all entries are equal.
    """

    mean: float
    std: float
    diagonal: float
    off_diagonal: float
    contrast: float


def blocks(
    circuit: FactoredMatrix, chunk: int | None = None
) -> Iterator[tuple[int, Float[Tensor, "block rdim"]]]:
    """The product by blocks of rows: each block's first row and the block.

    Args:
        circuit: Without leading axes.
        chunk: Rows at a time. None: as many as make 2²⁴ entries.

    Raises:
        InputError: for leading axes or a chunk below 1.
    """
    require(
        not circuit.has_leading_dims,
        f"one matrix at a time is read by blocks. Received {tuple(circuit.shape)}",
    )
    if chunk is None:
        chunk = max(1, _ENTRIES // max(1, circuit.rdim))
    require_whole("chunk", chunk, 1)
    for start in range(0, circuit.ldim, chunk):
        yield start, circuit.A[start : start + chunk] @ circuit.B


@torch.no_grad()
def top_pairs(
    circuit: FactoredMatrix,
    k: int = 10,
    chunk: int | None = None,
    largest: bool = True,
    off_diagonal: bool = False,
) -> Entries:
    """The k largest (or smallest) entries of a circuit, the most extreme first.

    Args:
        circuit: Without leading axes.
        k: How many; all, if there are fewer.
        chunk: Rows at a time; the result does not depend on it but in the order of equal entries.
        largest: False: the smallest.
        off_diagonal: Leave out the diagonal.

    Raises:
        InputError: for leading axes, or k or chunk below 1.
    """
    require_whole("k", k, 1)
    sign = 1.0 if largest else -1.0
    device = circuit.A.device
    best = torch.empty(0, device=device, dtype=circuit.A.dtype)
    where = torch.empty(0, device=device, dtype=torch.long)
    for start, block in blocks(circuit, chunk):
        if off_diagonal:
            block.diagonal(start).fill_(-sign * torch.inf)
        # The k largest entries lie in the k rows with the largest maxima: one pass over the block,
        # where a partial sort of all of it takes several.
        extreme = block.amax(-1) if largest else -block.amin(-1)
        rows = extreme.topk(min(k, len(block))).indices
        found = (block[rows].flatten() * sign).topk(min(k, len(rows) * circuit.rdim))
        row = rows[found.indices // circuit.rdim] + start
        best = torch.cat([best, found.values])
        where = torch.cat([where, row * circuit.rdim + found.indices % circuit.rdim])
        kept = best.topk(min(k, len(best)))
        best, where = kept.values, where[kept.indices]
    if off_diagonal:
        real = best.isfinite()
        best, where = best[real], where[real]
    return Entries(where // circuit.rdim, where % circuit.rdim, best * sign)


@torch.no_grad()
def top_per_row(
    circuit: FactoredMatrix,
    rows: Sequence[int] | Int[Tensor, "row"],
    k: int = 10,
    chunk: int | None = None,
    largest: bool = True,
) -> tuple[Int[Tensor, "row k"], Float[Tensor, "row k"]]:
    """The columns of the k largest (or smallest) entries of some rows, and the entries.

    Raises:
        InputError: for a row that is not there, leading axes, or k or chunk below 1.
    """
    require_whole("k", k, 1)
    chosen = torch.as_tensor(rows, device=circuit.A.device, dtype=torch.long)
    outside = (chosen < 0) | (chosen >= circuit.ldim)
    require(
        not bool(outside.any()),
        f"rows must lie in 0 … {circuit.ldim - 1}. Received {chosen[outside].tolist()}",
    )
    part = FactoredMatrix(circuit.A[chosen], circuit.B)
    found = [block.topk(min(k, circuit.rdim), largest=largest) for _, block in blocks(part, chunk)]
    if not found:
        empty = circuit.A.new_empty(0, min(k, circuit.rdim))
        return empty.long(), empty
    return torch.cat([f.indices for f in found]), torch.cat([f.values for f in found])


@torch.no_grad()
def diagonal_in_top(
    circuit: FactoredMatrix, k: int = 1, chunk: int | None = None
) -> Bool[Tensor, "row"]:
    """Whether each row's diagonal entry is among the row's k largest (ties count as among them).

    Raises:
        InputError: for a circuit that is not square, leading axes, or k or chunk below 1.
    """
    require_whole("k", k, 1)
    require_square(circuit)
    found = []
    for start, block in blocks(circuit, chunk):
        own = block.diagonal(start)
        found.append((block > own[:, None]).sum(-1) < k)
    return torch.cat(found)


@torch.no_grad()
def chunked_norm(circuit: FactoredMatrix, chunk: int | None = None) -> float:
    """Frobenius norm by multiplying out block by block, for comparison with `norm()`."""
    total = sum((block.double().pow(2).sum() for _, block in blocks(circuit, chunk)), 0.0)
    return float(torch.as_tensor(total).sqrt())


@torch.no_grad()
def entry_statistics(circuit: FactoredMatrix) -> EntryStatistics:
    """Mean, spread and diagonal of a square circuit, through its factors.

    Raises:
        InputError: for a circuit that is not square or has leading axes.
    """
    require_square(circuit)
    A, B = circuit.A.double(), circuit.B.double()
    n = circuit.ldim
    total = float(A.sum(0) @ B.sum(1))
    trace = float((A * B.mT).sum())
    squares = float(((A.mT @ A) * (B @ B.mT).mT).sum())
    return statistics_of(n, total, trace, squares)


def statistics_of(n: int, total: float, trace: float, squares: float) -> EntryStatistics:
    """The same from the sums of an n × n matrix: its entries, its diagonal, its squares."""
    mean = total / n**2
    variance = squares / n**2 - mean**2
    # What rounding leaves of equal entries is no spread.
    std = variance**0.5 if variance > 1e-12 * max(squares / n**2, 1e-300) else 0.0
    off = (total - trace) / (n * (n - 1)) if n > 1 else 0.0
    contrast = (trace / n - off) / std if std > 0 else 0.0
    return EntryStatistics(mean, std, trace / n, off, contrast)


@torch.no_grad()
def row_norms(circuit: FactoredMatrix) -> Float[Tensor, "*leading row"]:
    """The Euclidean norm of each row: √diag(A BBᵀ Aᵀ)."""
    gram = circuit.B @ circuit.B.mT
    return ((circuit.A @ gram) * circuit.A).sum(-1).clamp(min=0).sqrt()


def require_square(circuit: FactoredMatrix) -> None:
    """Raise `InputError` unless a circuit is a single square matrix."""
    require(
        not circuit.has_leading_dims and circuit.ldim == circuit.rdim,
        "the diagonal needs one square matrix: as many logits as tokens. Received "
        f"{tuple(circuit.shape)}; choose the tokens that have both, as circuit[:n, :n]",
    )
