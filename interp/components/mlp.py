"""The MLP of a block, plain or gated."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from interp.components import by_hand
from interp.components.activations import ACTIVATIONS
from interp.components.experts import MixtureOfExperts
from interp.components.norm import Norm
from interp.config import HookedTransformerConfig
from interp.hooks import HookPoint
from interp.run.plan import BlockPlan


class MLP(nn.Module):
    """act(x W_in + b_in) W_out + b_out; `solu_ln` normalises the activations before W_out.

    Attributes:
        W_in: `[d_model, d_mlp]`; b_in `[d_mlp]`.
        W_out: `[d_mlp, d_model]`; b_out `[d_model]`.
        hook_pre: Before the non-linearity, `[batch, pos, d_mlp]`.
        hook_mid: After it and before the norm (`solu_ln` only).
        hook_post: What W_out reads.
    """

    def __init__(self, cfg: HookedTransformerConfig) -> None:
        super().__init__()
        assert cfg.act_fn is not None
        d_mlp = cfg.width_mlp
        self.act_fn = ACTIVATIONS[cfg.act_fn]
        self.W_in = nn.Parameter(torch.empty(cfg.d_model, d_mlp, dtype=cfg.dtype))
        self.b_in = nn.Parameter(torch.zeros(d_mlp, dtype=cfg.dtype))
        self.W_out = nn.Parameter(torch.empty(d_mlp, cfg.d_model, dtype=cfg.dtype))
        self.b_out = nn.Parameter(torch.zeros(cfg.d_model, dtype=cfg.dtype))
        self.hook_pre = HookPoint()
        self.hook_post = HookPoint()
        self.ln: Norm | None = None
        if cfg.act_fn == "solu_ln":
            self.hook_mid = HookPoint()
            self.ln = Norm(cfg, "LN" if cfg.normalization_type == "LN" else "LNPre", (d_mlp,))

    def forward(
        self, x: Float[Tensor, "batch pos d_model"], plan: BlockPlan | None = None
    ) -> Float[Tensor, "batch pos d_model"]:
        """What the MLP adds to the residual stream; a run gives the plan."""
        if plan is None:
            by_hand.check_width("what an MLP reads", x, self.W_in.shape[0])
            with by_hand.apart(self):
                return self.forward(x, by_hand.mlp_plan(self))
        pre = self.hook_pre(F.linear(x, self.W_in.T, self.b_in))
        post = self.act_fn(pre)
        if self.ln is not None:
            post = self.ln(self.hook_mid(post), "mlp.ln" in plan.explicit_norms)
        post = self.hook_post(post)
        return F.linear(post, self.W_out.T, self.b_out)


class GatedMLP(nn.Module):
    """(act(x W_gate) · (x W_in) + b_in) W_out + b_out (Shazeer 2020, GLU Variants).

    As in TransformerLens, b_in is added after the product. Llama has none, so it is zero there.

    Attributes:
        W_gate, W_in: `[d_model, d_mlp]`; b_in `[d_mlp]`.
        W_out: `[d_mlp, d_model]`; b_out `[d_model]`.
        hook_pre: x W_gate, `[batch, pos, d_mlp]`.
        hook_pre_linear: x W_in.
        hook_post: What W_out reads.
    """

    def __init__(self, cfg: HookedTransformerConfig) -> None:
        super().__init__()
        assert cfg.act_fn is not None
        d_mlp = cfg.width_mlp
        self.act_fn = ACTIVATIONS[cfg.act_fn]
        self.W_in = nn.Parameter(torch.empty(cfg.d_model, d_mlp, dtype=cfg.dtype))
        self.W_gate = nn.Parameter(torch.empty(cfg.d_model, d_mlp, dtype=cfg.dtype))
        self.b_in = nn.Parameter(torch.zeros(d_mlp, dtype=cfg.dtype))
        self.W_out = nn.Parameter(torch.empty(d_mlp, cfg.d_model, dtype=cfg.dtype))
        self.b_out = nn.Parameter(torch.zeros(cfg.d_model, dtype=cfg.dtype))
        self.hook_pre = HookPoint()
        self.hook_pre_linear = HookPoint()
        self.hook_post = HookPoint()

    def forward(
        self, x: Float[Tensor, "batch pos d_model"], plan: BlockPlan | None = None
    ) -> Float[Tensor, "batch pos d_model"]:
        """What the MLP adds to the residual stream; a run gives the plan."""
        if plan is None:
            by_hand.check_width("what an MLP reads", x, self.W_in.shape[0])
            with by_hand.apart(self):
                return self.forward(x, by_hand.mlp_plan(self))
        pre = self.hook_pre(F.linear(x, self.W_gate.T))
        pre_linear = self.hook_pre_linear(F.linear(x, self.W_in.T))
        post = self.hook_post(self.act_fn(pre) * pre_linear + self.b_in)
        return F.linear(post, self.W_out.T, self.b_out)


def make_mlp(cfg: HookedTransformerConfig) -> MLP | GatedMLP | MixtureOfExperts:
    """The MLP that the config describes."""
    if cfg.num_experts is not None:
        return MixtureOfExperts(cfg)
    return GatedMLP(cfg) if cfg.gated_mlp else MLP(cfg)
