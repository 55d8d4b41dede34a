"""What a run raises when its numbers or its memory give out."""

from __future__ import annotations

import torch

from interp.errors import InterpError


class NonFiniteError(InterpError, ArithmeticError):
    """A run made a NaN or an infinity.

    Attributes:
        hook: The first hook, in the order of computation, that such a value flows on from.
        is_gradient: It is in the gradient there, not in the tensor.
        n_nan, n_inf, n_negative_inf: How many values are NaN, +∞ and -∞ there.
        first: The index of the first of them.
        bad_weights: Names of weights of that layer that hold such values themselves.
        given_bad: What the run was given (a residual stream) held such values already.
    """

    def __init__(
        self,
        message: str,
        *,
        hook: str,
        is_gradient: bool,
        n_nan: int,
        n_inf: int,
        n_negative_inf: int,
        first: tuple[int, ...],
        bad_weights: tuple[str, ...],
        given_bad: bool,
    ) -> None:
        super().__init__(message)
        self.hook, self.is_gradient = hook, is_gradient
        self.n_nan, self.n_inf, self.n_negative_inf = n_nan, n_inf, n_negative_inf
        self.first, self.bad_weights, self.given_bad = first, bad_weights, given_bad


class OutOfMemoryError(InterpError, torch.OutOfMemoryError, MemoryError):
    """A run asked for more memory than there is. It is also torch's own error for that.

    Attributes:
        device: Where it was asked for.
        n_rows: How many rows the run had.
        rows_that_fit: About how many would have fitted, at most; 0: not one.
    """

    def __init__(
        self, message: str, *, device: torch.device, n_rows: int, rows_that_fit: int
    ) -> None:
        super().__init__(message)
        self.device, self.n_rows, self.rows_that_fit = device, n_rows, rows_that_fit
