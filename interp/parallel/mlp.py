"""MLPs whose neurons are shared out over ranks."""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from interp.components import by_hand
from interp.components.mlp import MLP, GatedMLP, make_mlp
from interp.config import HookedTransformerConfig
from interp.parallel import axes
from interp.parallel.ranks import Ranks
from interp.parallel.sublayer import SpreadSublayer, WholeNorm
from interp.run.plan import BlockPlan

# Of these every neuron's activation depends on all neurons.
_OVER_ALL_NEURONS = ("solu", "solu_ln")


class _SpreadNeurons(SpreadSublayer):
    """What makes an MLP's neurons shared out: each rank's write to one sum."""

    def forward(
        self, x: Float[Tensor, "batch pos d_model"], plan: BlockPlan | None = None
    ) -> Float[Tensor, "batch pos d_model"]:
        """What the neurons of all ranks together add to the residual stream."""
        if plan is None:
            by_hand.check_stream("an MLP", x, self.part.W_in.shape[0])
            with by_hand.apart(self):
                return self.forward(x, by_hand.mlp_plan(self))
        x = self.ranks.copied(x)
        with self._with_gradients():
            out = self.part.forward(x, plan)
        return self.ranks.summed(out) + self.b_out

    def _act(self, pre: Tensor) -> Tensor:
        """The activation function, of all neurons."""
        whole = self.act_fn(self.ranks.gathered(pre, -1))
        return self.ranks.own_part(whole, -1)


class SpreadMLP(_SpreadNeurons, MLP):
    """`MLP`, its neurons shared out over ranks."""


class SpreadGatedMLP(_SpreadNeurons, GatedMLP):
    """`GatedMLP`, its neurons shared out over ranks."""


def spread_mlp(mlp: MLP | GatedMLP, cfg: HookedTransformerConfig, ranks: Ranks) -> None:
    """Turn an MLP into one whose neurons are shared out.

    Args:
        mlp: Its weights are left alone: they may be on the `meta` device.
        cfg: Of one rank's part.
        ranks: Who shares it.
    """
    with torch.device(ranks.device):
        part = make_mlp(cfg)
    mlp.__class__ = SpreadGatedMLP if isinstance(mlp, GatedMLP) else SpreadMLP
    spread = cast(_SpreadNeurons, mlp)
    spread.spread(ranks, part, axes.MLP_WEIGHTS)
    torch.nn.init.zeros_(part.b_out)  # it is added once, to the sum
    spread._share_hooks(axes.MLP_HOOKS)
    if cfg.act_fn in _OVER_ALL_NEURONS:
        part.act_fn = spread._act
    if isinstance(mlp, MLP) and mlp.ln is not None:
        part._modules["ln"] = WholeNorm(mlp.ln, ranks)
