"""Numerical safety: runs that repeat bit for bit, values that are no numbers, lack of memory.

Within `deterministic` runs give the same bits each time; within `check_finite` a run ends at the
first hook with a NaN or an infinity. `OutOfMemoryError` says what took the memory.
"""

from interp.numerics.deterministic import deterministic
from interp.numerics.errors import NonFiniteError, OutOfMemoryError
from interp.numerics.finite import check_finite

__all__ = ["NonFiniteError", "OutOfMemoryError", "check_finite", "deterministic"]
