"""Numerical safety: runs that repeat bit for bit, values that are no numbers, lack of memory."""

from interp.numerics.deterministic import deterministic
from interp.numerics.errors import NonFiniteError, OutOfMemoryError
from interp.numerics.finite import check_finite

__all__ = ["NonFiniteError", "OutOfMemoryError", "check_finite", "deterministic"]
