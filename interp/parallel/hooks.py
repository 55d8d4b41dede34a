"""Hooks on tensors of which every rank holds a part, and a check that ranks agree."""

from __future__ import annotations

from jaxtyping import Shaped
from torch import Tensor

from interp.hooks import HookPoint, Recorder
from interp.parallel.errors import ReplicaError
from interp.parallel.ranks import Ranks


class ShardedHook:
    """Stands in a rank's computation for a hook point that sees the whole tensor.

    Where somebody watches, the parts are gathered, hooks and recorders see the whole, and what they
    leave is cut into parts again. Else nothing happens.

    Args:
        point: The hook point.
        ranks: Who holds the parts.
        axis: Along which they lie.
    """

    def __init__(self, point: HookPoint, ranks: Ranks, axis: int) -> None:
        self.point, self.ranks, self.axis = point, ranks, axis

    @property
    def is_watched(self) -> bool:
        """Whether anything is attached."""
        return self.point.is_watched

    @property
    def intervenes(self) -> bool:
        """Whether anything here can change the run or its gradients."""
        return self.point.intervenes

    def __call__(self, x: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        """Pass this rank's part through."""
        if not self.point.is_watched:
            return x
        whole = self.ranks.gathered(x, self.axis)
        left = self.point(whole)
        return x if left is whole else self.ranks.own_part(left, self.axis)


class CheckedHookPoint(HookPoint):
    """A hook point whose hooks must leave the same on every rank, forward and backward.

    It is what `check_replicas=True` turns the hook points of a model into.
    """

    ranks: Ranks

    def _pass_through(self, x: Tensor) -> Tensor:
        x = super()._pass_through(x)
        check_alike(x, self.ranks, f"what {self.name} passed on")
        return x

    def _follow_gradient(self, x: Tensor, recorder: Recorder | None) -> Tensor:
        followed = super()._follow_gradient(x, recorder)
        if followed is not x:
            followed.register_hook(
                lambda gradient: check_alike(gradient, self.ranks, f"{self.name}'s gradient")
            )
        return followed


def check_alike(x: Shaped[Tensor, "..."], ranks: Ranks, what: str) -> None:
    """Raise `ReplicaError`, on every rank, unless all hold the same tensor.

    What differs by rounding differs: replicated tensors are made of the same sums on every rank.
    """
    shape = list(x.shape)
    lengths = [ranks.least(x.ndim), -ranks.least(-x.ndim)]
    same = lengths[0] == lengths[1] and all(ranks.least(n) == -ranks.least(-n) for n in shape)
    if not same:
        raise ReplicaError(f"{what} must be the same on every rank. Here its shape is {shape}.")
    first = ranks.of_first(x)
    differ = (x.detach() != first) & ~((x.detach() != x.detach()) & (first != first))
    if ranks.any(bool(differ.any())):
        raise ReplicaError(
            f"{what} must be the same on every rank. Here {int(differ.sum())} of {x.numel()} "
            "entries differ from the first rank's: did a hook draw random numbers, or look at the "
            "rank?"
        )
