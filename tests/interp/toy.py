"""The smallest module with a hook point, for the tests of hooks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from interp import HookedRootModule, HookPoint


class Toy(HookedRootModule):
    """x → a = x W, b = a, y = a + 2 b."""

    def __init__(self) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.tensor([[1.0, 2.0], [3.0, 5.0]], dtype=torch.float64))
        self.hook_a = HookPoint()
        self.hook_b = HookPoint()
        self.hook_y = HookPoint()
        self.setup()

    def forward(self, x: Tensor) -> Tensor:
        a = self.hook_a(x @ self.W)
        return self.hook_y(a + 2 * self.hook_b(a))


X = torch.tensor([[1.0, -1.0], [0.5, 2.0], [3.0, 0.0]], dtype=torch.float64)


def zero(x: Tensor, hook: HookPoint) -> None:
    """Write into what is given."""
    x.zero_()
