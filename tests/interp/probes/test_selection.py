"""The choice from a grid."""

from __future__ import annotations

import pytest
import torch

from interp.errors import InputError
from interp.probes.selection import choose


def test_of_equal_losses_the_simplest_is_taken() -> None:
    losses = torch.tensor([[2.0, 1, 1, 3], [1, 1, 1, 1], [3, 2, 1, 0]])
    assert choose(losses, "abc", simplest_first=True).tolist() == [1, 0, 3]
    assert choose(losses, "abc", simplest_first=False).tolist() == [2, 3, 3]
    losses[1, 2] = torch.nan
    with pytest.raises(InputError, match="'b' is not finite"):
        choose(losses, "abc", simplest_first=True)
