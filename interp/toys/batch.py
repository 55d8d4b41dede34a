"""What a toy is trained on at one step, and where it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import InputError, require, require_one_of


@dataclass(frozen=True)
class Batch:
    """Inputs of every instance and what their outputs should be.

    Attributes:
        x: The features, each instance its own.
        target: What the output is compared with.
        weight: How much each example counts, with sum 1 in an instance; None if all alike.
    """

    x: Float[Tensor, "instance batch feature"]
    target: Float[Tensor, "instance batch out"]
    weight: Float[Tensor, "instance batch"] | None = None


class Data(Protocol):
    """Where batches come from: `SparseFeatures`, `FiniteExamples`, or a class of the user's.

    A batch must be a pure function of the data and the step: no state moves on between calls.
    """

    @property
    def n_instances(self) -> int:
        """Models that the data is for."""

    def batch(self, step: Int[Tensor, ""] | int, batch_size: int | None) -> Batch:
        """The batch of one step; of `None` all examples, where they are finite."""

    def select(self, instances: Int[Tensor, "chosen"]) -> Self:
        """The data of some instances alone."""

    def fields(self) -> dict[str, object]:
        """All that the batches depend on, tensors or plain values, by name."""


def require_dtype(dtype: torch.dtype) -> None:
    """Raise `InputError` unless toys can be trained in it.

    In fewer bits a draw of 32 overflows or is rounded to a few values, and AdamW's small updates
    and squares of small gradients are lost.
    """
    require_one_of("dtype", dtype, (torch.float32, torch.float64))


def per_instance(
    name: str,
    value: float | Float[Tensor, "..."],
    shape: tuple[int, ...],
    dtype: torch.dtype,
    device: torch.device | str,
) -> Float[Tensor, "instance ..."]:
    """A number or tensor broadcast to `[instance, …]`.

    Raises:
        InputError: If it does not broadcast, or is not finite.
    """
    found = torch.as_tensor(value, dtype=dtype, device=device)
    require(bool(found.isfinite().all()), f"{name} must be finite. Received {value}")
    try:
        return found.expand(shape).contiguous()
    except RuntimeError as fault:
        raise InputError(
            f"{name} must broadcast to {list(shape)} (instance first: a column of shape "
            f"[{shape[0]}, 1] differs by instance). Received shape {list(found.shape)}."
        ) from fault
