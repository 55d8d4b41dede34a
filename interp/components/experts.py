"""A mixture of gated MLPs, of which each token takes the few that its router likes best."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from interp.components import by_hand
from interp.components.activations import ACTIVATIONS
from interp.config import HookedTransformerConfig
from interp.hooks import HookPoint
from interp.precision import wide
from interp.run.plan import BlockPlan


class MixtureOfExperts(nn.Module):
    """Σ_e weight_e · ((act(x W_gate_e) · (x W_in_e) + b_in_e) W_out_e + b_out_e).

    The weights are the softmax of the router's logits over the `experts_per_token` largest of them,
    zero for all others (Jiang et al. 2024, Mixtral, §2.1). An expert computes for the tokens that
    give it a weight; where somebody watches the insides, every expert does for every token.

    Attributes:
        W_router: `[d_model, expert]`.
        W_gate, W_in: `[expert, d_model, d_mlp]`; b_in `[expert, d_mlp]`.
        W_out: `[expert, d_mlp, d_model]`; b_out `[expert, d_model]`.
        hook_router_logits: `[batch, pos, expert]`.
        hook_expert_weights: The same, as weights: zero for experts that are not used. An expert
            that is given a weight here is used.
        hook_pre, hook_pre_linear, hook_post: As in a gated MLP, `[batch, pos, expert, d_mlp]`.
        hook_expert_out: What each expert would add, before its weight,
            `[batch, pos, expert, d_model]`.
    """

    def __init__(self, cfg: HookedTransformerConfig) -> None:
        super().__init__()
        assert cfg.act_fn is not None and cfg.num_experts is not None
        assert cfg.experts_per_token is not None
        n, d_model, d_mlp = cfg.num_experts, cfg.d_model, cfg.width_mlp
        self.experts_per_token = cfg.experts_per_token
        self.act_fn = ACTIVATIONS[cfg.act_fn]
        self.W_router = nn.Parameter(torch.empty(d_model, n, dtype=cfg.dtype))
        self.W_gate = nn.Parameter(torch.empty(n, d_model, d_mlp, dtype=cfg.dtype))
        self.W_in = nn.Parameter(torch.empty(n, d_model, d_mlp, dtype=cfg.dtype))
        self.b_in = nn.Parameter(torch.zeros(n, d_mlp, dtype=cfg.dtype))
        self.W_out = nn.Parameter(torch.empty(n, d_mlp, d_model, dtype=cfg.dtype))
        self.b_out = nn.Parameter(torch.zeros(n, d_model, dtype=cfg.dtype))
        self.hook_router_logits = HookPoint()
        self.hook_expert_weights = HookPoint()
        self.hook_pre = HookPoint()
        self.hook_pre_linear = HookPoint()
        self.hook_post = HookPoint()
        self.hook_expert_out = HookPoint()

    def forward(
        self, x: Float[Tensor, "batch pos d_model"], plan: BlockPlan | None = None
    ) -> Float[Tensor, "batch pos d_model"]:
        """What the experts together add to the residual stream; a run gives the plan."""
        if plan is None:
            by_hand.check_stream("a mixture of experts", x, self.W_router.shape[0])
            with by_hand.apart(self):
                return self.forward(x, by_hand.mlp_plan(self))
        weights = self.hook_expert_weights(self._route(self.hook_router_logits(x @ self.W_router)))
        if plan.every_expert:
            out = self.hook_expert_out(self._every_expert(x))
            return torch.einsum("bpe,bped->bpd", weights, out)
        return self._chosen_experts(x.flatten(0, 1), weights.flatten(0, 1)).view_as(x)

    def _route(self, logits: Float[Tensor, "batch pos expert"]) -> Tensor:
        scores = wide(logits)
        values, chosen = scores.topk(self.experts_per_token, -1)
        weights = torch.zeros_like(scores).scatter(-1, chosen, values.softmax(-1))
        return weights.to(logits.dtype)

    def _every_expert(self, x: Float[Tensor, "batch pos d_model"]) -> Tensor:
        pre = self.hook_pre(torch.einsum("bpd,edm->bpem", x, self.W_gate))
        pre_linear = self.hook_pre_linear(torch.einsum("bpd,edm->bpem", x, self.W_in))
        post = self.hook_post(self.act_fn(pre) * pre_linear + self.b_in)
        return torch.einsum("bpem,emd->bped", post, self.W_out) + self.b_out

    def _chosen_experts(
        self, x: Float[Tensor, "token d_model"], weights: Float[Tensor, "token expert"]
    ) -> Float[Tensor, "token d_model"]:
        out = torch.zeros_like(x)
        for expert in range(weights.shape[-1]):
            (tokens,) = weights[:, expert].nonzero(as_tuple=True)
            read = x[tokens]
            post = self.act_fn(read @ self.W_gate[expert]) * (read @ self.W_in[expert])
            post = post + self.b_in[expert]
            written = F.linear(post, self.W_out[expert].T, self.b_out[expert])
            out = out.index_add(0, tokens, written * weights[tokens, expert, None])
        return out
