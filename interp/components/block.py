"""One layer: attention and MLP, each reading a norm of the residual stream and adding to it."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from interp.components.attention import AttentionContext, make_attention
from interp.components.mlp import make_mlp
from interp.components.norm import make_norm
from interp.config import HookedTransformerConfig
from interp.hooks import HookPoint
from interp.kv_cache import LayerKeyValueCache
from interp.plan import BlockPlan
from interp.positions import PositionalEncoding

Residual = Float[Tensor, "batch pos d_model"]


class TransformerBlock(nn.Module):
    """resid_mid = resid_pre + attn(ln1(resid_pre)); resid_post = resid_mid + mlp(ln2(resid_mid)).

    With `parallel_attn_mlp` the MLP reads resid_pre and there is no resid_mid; with `attn_only`
    there is no MLP.

    Attributes:
        hook_resid_pre, hook_resid_mid, hook_resid_post, hook_attn_out, hook_mlp_out, hook_mlp_in:
            `[batch, pos, d_model]`.
        hook_attn_in, hook_q_input, hook_k_input, hook_v_input: What each head reads, before the
            norm, `[batch, pos, head, d_model]` (key/value heads for k and v). With grouped queries,
            editing hook_attn_in gives every query head keys and values of its own. While these are
            edited, ln1's hooks carry a head axis: query, then key, then value heads.
    """

    def __init__(
        self, cfg: HookedTransformerConfig, layer: int, positions: PositionalEncoding
    ) -> None:
        super().__init__()
        self.cfg = cfg
        self.ln1 = make_norm(cfg)
        self.attn = make_attention(cfg, layer, positions)
        self.hook_attn_in = HookPoint()
        self.hook_q_input = HookPoint()
        self.hook_k_input = HookPoint()
        self.hook_v_input = HookPoint()
        self.hook_resid_pre = HookPoint()
        self.hook_attn_out = HookPoint()
        if not cfg.attn_only:
            self.ln2 = make_norm(cfg)
            self.mlp = make_mlp(cfg)
            self.hook_mlp_in = HookPoint()
            self.hook_mlp_out = HookPoint()
            if not cfg.parallel_attn_mlp:
                self.hook_resid_mid = HookPoint()
        self.hook_resid_post = HookPoint()

    def forward(
        self,
        resid_pre: Residual,
        plan: BlockPlan,
        context: AttentionContext,
        past: LayerKeyValueCache | None = None,
    ) -> Residual:
        """The residual stream after this layer."""
        resid_pre = self.hook_resid_pre(resid_pre)
        heads_read = self._normalised_inputs(resid_pre, plan)
        attn_out = self.hook_attn_out(self.attn(*heads_read, plan, context, past))
        if self.cfg.attn_only:
            return self.hook_resid_post(resid_pre + attn_out)
        if self.cfg.parallel_attn_mlp:
            return self.hook_resid_post(resid_pre + attn_out + self._mlp_out(resid_pre, plan))
        resid_mid = self.hook_resid_mid(resid_pre + attn_out)
        return self.hook_resid_post(resid_mid + self._mlp_out(resid_mid, plan))

    def _mlp_out(self, resid: Residual, plan: BlockPlan) -> Residual:
        mlp_in = self.ln2(self.hook_mlp_in(resid), plan.explicit_norm2)
        return self.hook_mlp_out(self.mlp(mlp_in, plan))

    def _normalised_inputs(
        self, resid_pre: Residual, plan: BlockPlan
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What queries, keys and values are made from; with a head axis where someone edits it."""
        if plan.inputs_watched:
            q_in, k_in, v_in = self._inputs(resid_pre, plan)
        if not (plan.copies_for_heads or plan.copies_for_qkv):
            x = self.ln1(resid_pre, plan.explicit_norm1)
            return x, x, x
        if not plan.explicit_norm1:
            return self.ln1(q_in), self.ln1(k_in), self.ln1(v_in)
        # One call, so that the norm's hooks fire once and with all that flows on.
        sizes = [x.shape[2] for x in (q_in, k_in, v_in)]
        normalised = self.ln1(torch.cat([q_in, k_in, v_in], 2), explicit=True)
        q_in, k_in, v_in = normalised.split(sizes, 2)
        return q_in, k_in, v_in

    def _inputs(self, resid_pre: Residual, plan: BlockPlan) -> tuple[Tensor, Tensor, Tensor]:
        cfg = self.cfg
        attn_in = self.hook_attn_in(_for_heads(resid_pre, cfg.n_heads))
        if plan.copies_for_heads:
            q_in = k_in = v_in = attn_in
        else:
            q_in = _for_heads(resid_pre, cfg.n_heads)
            ungrouped = cfg.ungroup_grouped_query_attention
            k_in = v_in = _for_heads(resid_pre, cfg.n_heads if ungrouped else cfg.n_kv_heads)
        return (
            self.hook_q_input(q_in),
            self.hook_k_input(k_in),
            self.hook_v_input(v_in),
        )


def _for_heads(x: Residual, n_heads: int) -> Float[Tensor, "batch pos head d_model"]:
    """A view of `x` for each head."""
    return x.unsqueeze(2).expand(-1, -1, n_heads, -1)
