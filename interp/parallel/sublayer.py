"""What attention and MLPs that are spread over ranks have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Shard

from interp.components.norm import Norm
from interp.hooks import HookPoint
from interp.parallel.hooks import ShardedHook
from interp.parallel.ranks import Ranks


@dataclass(frozen=True)
class _Link:
    """A weight in the rank's part, and how it follows from the model's so that gradients do too."""

    part: nn.Module
    name: str
    source: Tensor
    make: Callable[[], Tensor]


class SpreadSublayer(nn.Module):
    """A sublayer of which every rank computes a part, with the weights of that part alone.

    The part is an ordinary sublayer with fewer heads or neurons; its hooks stand for this one's.
    This one's parameters are `DTensor`s over the part's memory (`named_parameters`, `state_dict`,
    optimisers). Read as attributes, weights are whole and plain: gathered anew each time, so that
    writing into one changes nothing.
    """

    ranks: Ranks
    part: Any
    _links: list[_Link]

    def spread(self, ranks: Ranks, part: nn.Module, weights: Mapping[str, int]) -> None:
        """Take `part` as this rank's part.

        Args:
            ranks: Who shares the sublayer.
            part: With memory for its weights, which need not hold anything yet.
            weights: The axis of each weight that is shared out.
        """
        part.requires_grad_(False)
        # Not as a submodule: its weights and hooks are this one's.
        vars(self).update(ranks=ranks, part=part, _links=[])
        for name, own in list(part._parameters.items()):
            whole = self._parameters.get(name)
            if own is None or whole is None or name not in weights:
                continue
            spread = DTensor.from_local(
                own.data, ranks.mesh, [Shard(weights[name])], run_check=False
            )
            assert spread.shape == whole.shape
            parameter = nn.Parameter(spread, requires_grad=whole.requires_grad)
            self._parameters[name] = parameter
            self._link(part, name, parameter, cast(DTensor, parameter).to_local)

    def _link(self, part: nn.Module, name: str, source: Tensor, make: Callable[[], Tensor]) -> None:
        self._links.append(_Link(part, name, source, make))

    def _share_hooks(self, hooks: Mapping[str, int]) -> None:
        share_hooks(self, self.part, self.ranks, hooks)

    def __getattr__(self, name: str) -> Any:
        found = super().__getattr__(name)
        return found.full_tensor() if isinstance(found, DTensor) else found

    @contextmanager
    def _with_gradients(self) -> Iterator[None]:
        """While this lasts, the part's weights follow from the model's, if those are trained."""
        links = self._links
        if not (torch.is_grad_enabled() and any(link.source.requires_grad for link in links)):
            yield
            return
        replaced = [(link, link.part._parameters[link.name]) for link in links]
        packed = vars(self.part).pop("_side_by_side", None)  # no gradients flow through it
        try:
            vars(self.part)["_side_by_side"] = None
            for link in links:
                link.part._parameters[link.name] = link.make()  # type: ignore[assignment]
            yield
        finally:
            for link, before in replaced:
                link.part._parameters[link.name] = before
            vars(self.part)["_side_by_side"] = packed


class WholeNorm(nn.Module):
    """A norm over an axis that lies spread over ranks: it is gathered, normalised, and cut again.

    Args:
        norm: The model's, with all its weights and its hooks.
        ranks: Who holds the parts.
    """

    def __init__(self, norm: Norm, ranks: Ranks) -> None:
        super().__init__()
        self.norm, self.ranks = norm, ranks

    @property
    def w(self) -> Float[Tensor, "part"] | None:
        """This rank's part of the weight."""
        return self._own(self.norm.w)

    @property
    def b(self) -> Float[Tensor, "part"] | None:
        """This rank's part of the bias."""
        return self._own(self.norm.b)

    def _own(self, weight: Tensor | None) -> Tensor | None:
        return None if weight is None else self.ranks.own_part(weight, 0)

    def forward(
        self, x: Float[Tensor, "... part"], explicit: bool | None = None
    ) -> Float[Tensor, "... part"]:
        """This rank's part of the normalised vectors."""
        whole = self.norm(self.ranks.gathered(x, -1), explicit)
        return self.ranks.own_part(whole, -1)

    def spelled_out(
        self,
        x: Float[Tensor, "... part"],
        w: Float[Tensor, "part"] | None,
        b: Float[Tensor, "part"] | None,
    ) -> Float[Tensor, "... part"]:
        """The same step by step, with the ranks' parts of other weights."""
        wholes = (None if p is None else self.ranks.gathered(p, -1) for p in (x, w, b))
        x, w, b = wholes  # type: ignore[assignment]
        return self.ranks.own_part(self.norm.spelled_out(x, w, b), -1)


def give_memory(module: nn.Module, device: torch.device) -> None:
    """Memory for those of a module's weights that are on the `meta` device."""
    for part in module.modules():
        for name, weight in part._parameters.items():
            if weight is not None and weight.is_meta:
                empty = torch.empty_like(weight, device=device)
                part._parameters[name] = nn.Parameter(empty, weight.requires_grad)


def share_hooks(whole: nn.Module, part: nn.Module, ranks: Ranks, hooks: Mapping[str, int]) -> None:
    """Let hooks of the part show the whole to the whole's hook points."""
    for name in [n for n, module in part._modules.items() if isinstance(module, HookPoint)]:
        vars(part).pop(name, None)
        del part._modules[name]
        setattr(part, name, ShardedHook(whole._modules[name], ranks, hooks[name]))  # type: ignore[arg-type]
