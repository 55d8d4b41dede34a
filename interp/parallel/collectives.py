"""Four operations between ranks, each the derivative of another.

Gradients of replicated tensors are replicated and complete. So the derivative of a sum over ranks
is a copy to each, and that of a copy the sum; that of gathering parts is taking one's own, and the
other way round (f and g of Shoeybi et al. 2019, Megatron-LM, §3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    from interp.parallel.ranks import Ranks


class Copied(torch.autograd.Function):
    """x; its gradient is summed over ranks."""

    @staticmethod
    def forward(ctx: Any, x: Float[Tensor, "*axes"], ranks: Ranks) -> Float[Tensor, "*axes"]:
        """x itself."""
        ctx.ranks = ranks
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        """The sum of all ranks' gradients."""
        return Summed.apply(gradients[0], ctx.ranks), None


class Summed(torch.autograd.Function):
    """The sum of x over ranks; its gradient is everyone's."""

    @staticmethod
    def forward(ctx: Any, x: Float[Tensor, "*axes"], ranks: Ranks) -> Float[Tensor, "*axes"]:
        """The sum over ranks."""
        ctx.ranks = ranks
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total, group=ranks.group)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        """The gradient, to everyone."""
        return Copied.apply(gradients[0], ctx.ranks), None


class Gathered(torch.autograd.Function):
    """All ranks' parts along an axis; the gradient of one's own is a part of the whole's."""

    @staticmethod
    def forward(ctx: Any, x: Float[Tensor, "..."], ranks: Ranks, axis: int) -> Float[Tensor, "..."]:
        """The whole, on every rank."""
        ctx.ranks, ctx.axis = ranks, axis
        x = x.contiguous()
        parts = [torch.empty_like(x) for _ in range(ranks.size)]
        dist.all_gather(parts, x, group=ranks.group)
        return torch.cat(parts, axis)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        """This rank's part of the gradient."""
        return OwnPart.apply(gradients[0], ctx.ranks, ctx.axis), None, None


class OwnPart(torch.autograd.Function):
    """This rank's part along an axis; the whole's gradient is gathered from all parts'."""

    @staticmethod
    def forward(ctx: Any, x: Float[Tensor, "..."], ranks: Ranks, axis: int) -> Float[Tensor, "..."]:
        """This rank's part, a copy."""
        ctx.ranks, ctx.axis = ranks, axis
        # A copy: the whole need not stay in memory for its part.
        return x.narrow(axis, *ranks.part_of(x.shape[axis])).clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        """The whole gradient, of all parts'."""
        return Gathered.apply(gradients[0], ctx.ranks, ctx.axis), None, None
