"""The loss of toys on data that they were not trained on."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import require_whole
from interp.toys.batch import Data
from interp.toys.loss import Loss
from interp.toys.step import losses_of

_FIRST_STEP = 1 << 31  # no training gets so far


@torch.no_grad()
def held_out_losses(
    models: Any, data: Data, loss: Loss, *, batches: int = 16, batch_size: int = 1024
) -> Float[Tensor, "batch instance"]:
    """Each instance's loss on batches of its own distribution that training never reaches.

    Their mean over batches is an estimate of the loss; their standard deviation over the square
    root of their number is its standard error. Instances of one seed see the same numbers, so
    that their losses can be compared closely.

    Args:
        models: Of as many instances as the data and the loss.
        data: Without end; of a finite set, which has nothing else, batches are drawn again.
        loss: What is measured.
        batches: How many.
        batch_size: Examples in each.

    Raises:
        InputError: If `batches` is not a positive number.
    """
    require_whole("batches", batches, 1)
    rows = [losses_of(models, data, loss, _FIRST_STEP + i, batch_size) for i in range(batches)]
    return torch.stack(rows)
