"""One layer: attention, cross-attention in a decoder that has it, and MLP, each adding to x."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.components import by_hand
from interp.components.attention import make_attention
from interp.components.context import AttentionContext
from interp.components.mlp import make_mlp
from interp.components.norm import NoNorm, Norm, make_norm, make_weighted_norm
from interp.config import HookedTransformerConfig
from interp.errors import require
from interp.hooks import HookPoint
from interp.positions import PositionalEncoding
from interp.run.kv_cache import LayerKeyValueCache
from interp.run.plan import BlockPlan

Residual = Float[Tensor, "batch pos d_model"]


@dataclass(frozen=True, slots=True)
class CrossContext:
    """What a decoder's layers read of the encoder.

    Attributes:
        residual: The encoder's output, `[batch, source_pos, d_model]`.
        attention: Which of its positions are real.
    """

    residual: Residual
    attention: AttentionContext


class TransformerBlock(nn.Module):
    """resid_mid = resid_pre + attn(ln1(resid_pre)); resid_post = resid_mid + mlp(ln2(resid_mid)).

    So with `norm_placement="pre"`. `post` normalises the sums instead, `resid_mid = ln1(resid_pre +
    attn(resid_pre))`; `output` what is added, `resid_pre + ln1_post(attn(resid_pre))`; `sandwich`
    what is read and what is added. hook_attn_out and hook_mlp_out are what is added, and
    hook_resid_post what the next block reads.

    With `parallel_attn_mlp` the MLP reads resid_pre and there is no resid_mid; with `attn_only`
    there is no MLP. A block that crosses has cross-attention between the two: it reads resid_mid
    through ln2 and gives resid_mid_cross, and the MLP's norm is ln3.

    Attributes:
        hook_resid_pre, hook_resid_mid, hook_resid_post, hook_attn_out, hook_mlp_out, hook_mlp_in:
            `[batch, pos, d_model]`.
        hook_cross_attn_in, hook_cross_attn_out, hook_resid_mid_cross: The same of cross-attention.
        hook_attn_in, hook_q_input, hook_k_input, hook_v_input: What each head reads, before the
            norm, `[batch, pos, head, d_model]` (key/value heads for k and v). With grouped queries,
            editing hook_attn_in gives every query head keys and values of its own. While these are
            edited, ln1's hooks carry a head axis: query, then key, then value heads.
    """

    ln1: Norm | NoNorm

    # Asked for by TransformerLens's logit lens: what a block gives is the residual stream itself.
    hook_out_is_single_residual_stream = True

    def __init__(
        self,
        cfg: HookedTransformerConfig,
        layer: int,
        positions: PositionalEncoding,
        crosses: bool = False,
    ) -> None:
        super().__init__()
        self.cfg = cfg
        self.crosses = crosses
        self.local = (cfg.attn_types or ())[layer] == "local"
        self.reads_normalised = cfg.norm_placement in ("pre", "sandwich")
        self.adds_normalised = cfg.norm_placement in ("sandwich", "output")
        self.mlp_norm = "ln3" if crosses else "ln2"
        self._make_norms("ln1")
        self.attn = make_attention(cfg, layer, positions)
        self.hook_attn_in = HookPoint()
        self.hook_q_input = HookPoint()
        self.hook_k_input = HookPoint()
        self.hook_v_input = HookPoint()
        self.hook_resid_pre = HookPoint()
        self.hook_attn_out = HookPoint()
        if crosses:
            self._make_norms("ln2")
            self.cross_attn = make_attention(cfg, layer, None)
            self.hook_cross_attn_in = HookPoint()
            self.hook_cross_attn_out = HookPoint()
        if not cfg.attn_only:
            self._make_norms(self.mlp_norm)
            self.mlp = make_mlp(cfg)
            self.hook_mlp_in = HookPoint()
            self.hook_mlp_out = HookPoint()
        if crosses or not (cfg.attn_only or cfg.parallel_attn_mlp):
            self.hook_resid_mid = HookPoint()
        if crosses and not cfg.attn_only:
            self.hook_resid_mid_cross = HookPoint()
        self.hook_resid_post = HookPoint()

    def _make_norms(self, name: str) -> None:
        """The norms of one sublayer: before it (`ln1`) or after the sum, and on what it adds."""
        cfg = self.cfg
        if self.reads_normalised:
            self.add_module(name, make_norm(cfg))
        elif cfg.norm_placement == "post":
            self.add_module(name, make_weighted_norm(cfg))
        if self.adds_normalised:
            self.add_module(f"{name}_post", make_weighted_norm(cfg))

    def _norm(self, name: str, x: Tensor, plan: BlockPlan) -> Tensor:
        return getattr(self, name)(x, name in plan.explicit_norms)

    def _read(self, name: str, resid: Residual, plan: BlockPlan) -> Residual:
        return self._norm(name, resid, plan) if self.reads_normalised else resid

    def _added(self, name: str, out: Residual, plan: BlockPlan) -> Residual:
        return self._norm(f"{name}_post", out, plan) if self.adds_normalised else out

    def _sum(self, name: str, resid: Residual, out: Residual, plan: BlockPlan) -> Residual:
        resid = resid + out
        return self._norm(name, resid, plan) if self.cfg.norm_placement == "post" else resid

    def forward(
        self,
        resid_pre: Residual,
        plan: BlockPlan | None = None,
        context: AttentionContext | None = None,
        past: LayerKeyValueCache | None = None,
        source: CrossContext | None = None,
        keep: Int[Tensor, "kept"] | None = None,
    ) -> Residual:
        """The residual stream after this layer; with `keep` only at these positions of it.

        A run gives plan and context; without them the layer reads texts that are not padded, from
        their first position on.
        """
        if plan is None or context is None:
            return self._by_hand(resid_pre)
        resid_pre = self.hook_resid_pre(resid_pre)
        heads_read = self._heads_read(resid_pre, plan, context)
        attn_out = self.added_by_heads(self.attn(*heads_read, plan.attn, context, past), plan)
        if keep is not None:
            resid_pre, attn_out = resid_pre[:, keep], attn_out[:, keep]
        return self.after_attention(resid_pre, attn_out, plan, past, source)

    def _by_hand(self, resid_pre: Residual) -> Residual:
        cfg = self.cfg
        require(
            not self.crosses,
            "a decoder's block reads what the encoder gave, so it is not called by hand: run the "
            "model with decoder_input and stop_at_layer, with hooks where something is to change",
        )
        by_hand.check_stream("a block", resid_pre, cfg.d_model)
        plan = by_hand.block_plan(self, cfg.can_fuse_attention)
        context = self.attn.surroundings.context(resid_pre, resid_pre.shape[1])
        with by_hand.apart(self):
            return self.forward(resid_pre, plan, context)

    def added_by_heads(self, out: Residual, plan: BlockPlan) -> Residual:
        """hook_attn_out, given what the heads write: behind the norm that there may be of it."""
        return self._added("ln1", out, plan)

    def after_attention(
        self,
        resid_pre: Residual,
        attn_out: Residual,
        plan: BlockPlan,
        past: LayerKeyValueCache | None = None,
        source: CrossContext | None = None,
    ) -> Residual:
        """The residual stream after this layer, given what attention adds to it (hook_attn_out)."""
        attn_out = self.hook_attn_out(attn_out)
        if self.cfg.parallel_attn_mlp:
            return self.hook_resid_post(resid_pre + attn_out + self._mlp_out(resid_pre, plan))
        resid = self._sum("ln1", resid_pre, attn_out, plan)
        if self.crosses:
            assert source is not None
            resid = self.hook_resid_mid(resid)
            resid = self._sum("ln2", resid, self._cross_out(resid, plan, source, past), plan)
            if not self.cfg.attn_only:
                resid = self.hook_resid_mid_cross(resid)
        elif not self.cfg.attn_only:
            resid = self.hook_resid_mid(resid)
        if not self.cfg.attn_only:
            resid = self._sum(self.mlp_norm, resid, self._mlp_out(resid, plan), plan)
        return self.hook_resid_post(resid)

    def _cross_out(
        self,
        resid: Residual,
        plan: BlockPlan,
        source: CrossContext,
        past: LayerKeyValueCache | None,
    ) -> Residual:
        read = self._read("ln2", self.hook_cross_attn_in(resid), plan)
        encoded = source.residual
        out = self.cross_attn(
            read, encoded, encoded, plan.cross_attn, source.attention, past, crosses=True
        )
        return self.hook_cross_attn_out(self._added("ln2", out, plan))

    def _mlp_out(self, resid: Residual, plan: BlockPlan) -> Residual:
        read = self._read(self.mlp_norm, self.hook_mlp_in(resid), plan)
        return self.hook_mlp_out(self._added(self.mlp_norm, self.mlp(read, plan), plan))

    def _heads_read(
        self, resid_pre: Residual, plan: BlockPlan, context: AttentionContext
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What queries, keys and values are made from; with a head axis where someone edits it."""
        q_in, k_in, v_in = self._normalised_inputs(resid_pre, plan)
        added = context.added_to_qk
        if added is None:
            return q_in, k_in, v_in
        by_head = added.unsqueeze(2)
        return (
            q_in + (added if q_in.ndim == 3 else by_head),
            k_in + (added if k_in.ndim == 3 else by_head),
            v_in,
        )

    def _normalised_inputs(
        self, resid_pre: Residual, plan: BlockPlan
    ) -> tuple[Tensor, Tensor, Tensor]:
        if plan.inputs_watched:
            q_in, k_in, v_in = self._inputs(resid_pre, plan)
        if not (plan.copies_for_heads or plan.copies_for_qkv):
            x = self._read("ln1", resid_pre, plan)
            return x, x, x
        if not self.reads_normalised or isinstance(self.ln1, NoNorm):
            return q_in, k_in, v_in
        if "ln1" not in plan.explicit_norms:
            return self.ln1(q_in, False), self.ln1(k_in, False), self.ln1(v_in, False)
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
