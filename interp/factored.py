"""Low-rank matrices kept as a product of two factors."""

from __future__ import annotations

from functools import cached_property
from typing import overload

import numpy as np
import torch
from jaxtyping import Complex, Float, Shaped
from torch import Tensor

from interp.errors import InputError

Index = int | slice | Shaped[Tensor, "..."] | None


class FactoredMatrix:
    """AB without multiplying it out.

    A is `[..., ldim, mdim]` and B `[..., mdim, rdim]`; leading axes broadcast. Everything here
    costs what the small middle axis costs: OV and QK circuits have rank d_head, their full forms
    d_model² or d_vocab² entries.

    Attributes:
        A: Left factor, `[*leading, ldim, mdim]`.
        B: Right factor, `[*leading, mdim, rdim]`.

    Raises:
        InputError: if the middle axes differ or a factor is no matrix.
    """

    def __init__(
        self, A: Float[Tensor, "*leading ldim mdim"], B: Float[Tensor, "*leading mdim rdim"]
    ) -> None:
        if A.ndim < 2 or B.ndim < 2 or A.shape[-1] != B.shape[-2]:
            raise InputError(
                f"factors must be [..., ldim, mdim] and [..., mdim, rdim]. "
                f"Received {tuple(A.shape)} and {tuple(B.shape)}."
            )
        leading = torch.broadcast_shapes(A.shape[:-2], B.shape[:-2])
        self.A = A.expand(*leading, *A.shape[-2:])
        self.B = B.expand(*leading, *B.shape[-2:])
        self.ldim, self.mdim, self.rdim = A.shape[-2], A.shape[-1], B.shape[-1]
        self.has_leading_dims = bool(leading)
        self.shape = torch.Size((*leading, self.ldim, self.rdim))

    @property
    def ndim(self) -> int:
        """Number of axes of the product."""
        return len(self.shape)

    @property
    def AB(self) -> Float[Tensor, "*leading ldim rdim"]:
        """The product, multiplied out."""
        return self.A @ self.B

    @property
    def BA(self) -> Float[Tensor, "*leading mdim mdim"]:
        """The small product that shares AB's non-zero eigenvalues (square AB only).

        Raises:
            InputError: if AB is not square.
        """
        if self.ldim != self.rdim:
            raise InputError(f"BA needs a square product. This one is {self.ldim} × {self.rdim}.")
        return self.B @ self.A

    @property
    def T(self) -> FactoredMatrix:
        """The transpose."""
        return FactoredMatrix(self.B.mT, self.A.mT)

    @overload
    def __matmul__(
        self, other: Float[Tensor, "rdim"] | Float[Tensor, "... rdim n"]
    ) -> Float[Tensor, "*leading ldim"] | FactoredMatrix: ...
    @overload
    def __matmul__(self, other: FactoredMatrix) -> FactoredMatrix: ...
    def __matmul__(
        self, other: Float[Tensor, "rdim"] | Float[Tensor, "... rdim n"] | FactoredMatrix
    ) -> Float[Tensor, "*leading ldim"] | FactoredMatrix:
        """AB @ other; a vector gives a tensor, a matrix stays factored with the smaller middle."""
        if isinstance(other, FactoredMatrix):
            return (self @ other.A) @ other.B
        if other.ndim == 1:
            return (self.A @ (self.B @ other).unsqueeze(-1)).squeeze(-1)
        if other.shape[-2] != self.rdim:
            raise InputError(
                f"cannot multiply {tuple(self.shape)} by {tuple(other.shape)}: "
                f"{self.rdim} columns meet {other.shape[-2]} rows."
            )
        if self.rdim > self.mdim:
            return FactoredMatrix(self.A, self.B @ other)
        return FactoredMatrix(self.AB, other)

    def __rmatmul__(
        self, other: Float[Tensor, "ldim"] | Float[Tensor, "... n ldim"]
    ) -> Float[Tensor, "*leading rdim"] | FactoredMatrix:
        """other @ AB."""
        if other.ndim == 1:
            return ((other @ self.A).unsqueeze(-2) @ self.B).squeeze(-2)
        if other.shape[-1] != self.ldim:
            raise InputError(
                f"cannot multiply {tuple(other.shape)} by {tuple(self.shape)}: "
                f"{other.shape[-1]} columns meet {self.ldim} rows."
            )
        if self.ldim > self.mdim:
            return FactoredMatrix(other @ self.A, self.B)
        return FactoredMatrix(other, self.AB)

    def __mul__(self, scalar: float | Float[Tensor, "..."]) -> FactoredMatrix:
        """AB times a number."""
        if isinstance(scalar, Tensor) and scalar.numel() != 1:
            raise InputError(f"only a single number can scale. Received {tuple(scalar.shape)}.")
        return FactoredMatrix(self.A * scalar, self.B)

    __rmul__ = __mul__

    @cached_property
    def _svd(self) -> tuple[Tensor, Tensor, Tensor]:
        # QR of both factors leaves an mdim × mdim core whose SVD is AB's.
        Q_A, R_A = torch.linalg.qr(self.A)
        Q_B, R_B = torch.linalg.qr(self.B.mT)
        U, S, Vh = torch.linalg.svd(R_A @ R_B.mT, full_matrices=False)
        return Q_A @ U, S, Q_B @ Vh.mT

    def svd(
        self,
    ) -> tuple[
        Float[Tensor, "*leading ldim rank"],
        Float[Tensor, "*leading rank"],
        Float[Tensor, "*leading rdim rank"],
    ]:
        """U `[*leading, ldim, rank]`, S `[*leading, rank]`, V `[*leading, rdim, rank]`.

        rank is min(ldim, mdim, rdim); AB = U diag(S) Vᵀ. Note V, not its transpose, as in
        TransformerLens's `Vh`.
        """
        return self._svd

    @property
    def U(self) -> Float[Tensor, "*leading ldim mdim"]:
        """Left singular vectors, in columns."""
        return self._svd[0]

    @property
    def S(self) -> Float[Tensor, "*leading mdim"]:
        """Singular values, falling."""
        return self._svd[1]

    @property
    def V(self) -> Float[Tensor, "*leading rdim mdim"]:
        """Right singular vectors, in columns."""
        return self._svd[2]

    @property
    def Vh(self) -> Float[Tensor, "*leading rdim mdim"]:
        """`V`, under the name that TransformerLens gives it (it is not transposed)."""
        return self.V

    @property
    def eigenvalues(self) -> Complex[Tensor, "*leading mdim"]:
        """The eigenvalues of a square AB that may differ from zero, through the small BA.

        Raises:
            InputError: if AB is not square.
        """
        return torch.linalg.eigvals(self.BA)

    def norm(self) -> Float[Tensor, "*leading"]:
        """Frobenius norm: ‖AB‖² = tr(AᵀA BBᵀ)."""
        wide = torch.promote_types(self.A.dtype, torch.float32)
        R_A = torch.linalg.qr(self.A.to(wide)).R
        R_B = torch.linalg.qr(self.B.mT.to(wide)).R
        return (R_A @ R_B.mT).pow(2).sum((-2, -1)).sqrt()

    def make_even(self) -> FactoredMatrix:
        """The same product with factors U√S and √S Vᵀ."""
        root = self.S.sqrt()
        return FactoredMatrix(self.U * root[..., None, :], root[..., :, None] * self.V.mT)

    def get_corner(self, k: int = 3) -> Float[Tensor, "*leading k k"]:
        """The first k rows and columns of AB."""
        return self.A[..., :k, :] @ self.B[..., :, :k]

    def collapse_l(self) -> Float[Tensor, "*leading mdim rdim"]:
        """S Vᵀ: AB with its left singular basis left out (same inner products of columns)."""
        return self.S[..., :, None] * self.V.mT

    def collapse_r(self) -> Float[Tensor, "*leading ldim mdim"]:
        """U S: AB with its right singular basis left out (same inner products of rows)."""
        return self.U * self.S[..., None, :]

    def unsqueeze(self, k: int) -> FactoredMatrix:
        """A new leading axis at place k."""
        return FactoredMatrix(self.A.unsqueeze(k), self.B.unsqueeze(k))

    def __getitem__(self, index: Index | tuple[Index, ...]) -> FactoredMatrix:
        """Index as a tensor; the last two axes choose rows of A and columns of B."""
        parts = list(index) if isinstance(index, tuple) else [index]
        if any(isinstance(part, type(Ellipsis)) for part in parts):
            raise InputError("a FactoredMatrix takes no ellipsis: write the axes out.")
        n_leading = self.ndim - 2
        used = sum(part is not None for part in parts)
        if used > self.ndim:
            raise InputError(f"{used} indices for a matrix with {self.ndim} axes.")
        n_matrix = max(0, used - n_leading)
        leading = tuple(parts[: len(parts) - n_matrix])
        rows, columns = [*parts[len(parts) - n_matrix :], slice(None), slice(None)][:2]
        A, B = self.A[leading], self.B[leading]
        return FactoredMatrix(A[..., _kept(rows, self.ldim), :], B[..., _kept(columns, self.rdim)])

    @property
    def pair(
        self,
    ) -> tuple[Float[Tensor, "*leading ldim mdim"], Float[Tensor, "*leading mdim rdim"]]:
        """Both factors: `A, B = matrix.pair`."""
        return self.A, self.B

    def __repr__(self) -> str:
        return f"FactoredMatrix(shape={tuple(self.shape)}, hidden={self.mdim})"


def _kept(index: Index, size: int) -> slice | Tensor:
    """A row or column index that keeps its axis."""
    if isinstance(index, int | np.integer):
        index = int(index)
        if not -size <= index < size:
            raise InputError(f"index {index} is outside an axis of length {size}.")
        return slice(index, index + 1 or None)
    assert index is not None
    return index
