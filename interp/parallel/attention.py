"""Attention whose heads are shared out over ranks."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from interp.components.attention import (
    Attention,
    GroupedQueryAttention,
    make_attention,
)
from interp.components.context import AttentionContext
from interp.components.norm import Norm
from interp.config import HookedTransformerConfig
from interp.errors import InputError
from interp.parallel import axes
from interp.parallel.ranks import Ranks
from interp.parallel.sublayer import SpreadSublayer, WholeNorm, give_memory, share_hooks
from interp.positions import PositionalEncoding
from interp.run.kv_cache import LayerKeyValueCache
from interp.run.plan import AttentionPlan


class _SpreadHeads(SpreadSublayer):
    """What makes an attention's heads shared out: each rank's write to one sum."""

    def forward(
        self,
        query_input: Float[Tensor, "batch pos *head d_model"],
        key_input: Float[Tensor, "batch key_pos *kv_head d_model"],
        value_input: Float[Tensor, "batch key_pos *kv_head d_model"],
        plan: AttentionPlan | None = None,
        context: AttentionContext | None = None,
        past: LayerKeyValueCache | None = None,
        crosses: bool = False,
    ) -> Float[Tensor, "batch pos d_model"]:
        """What the heads of all ranks together add to the residual stream.

        `past` holds keys and values of this rank's heads.
        """
        if plan is None or context is None:
            return Attention.forward(cast(Attention, self), query_input, key_input, value_input)
        part = self.part
        part.attn_scale = self.attn_scale
        part.cfg.ungroup_grouped_query_attention = self.cfg.ungroup_grouped_query_attention
        entered: dict[int, Tensor] = {}
        inputs = (query_input, key_input, value_input)
        for x in inputs:
            if id(x) not in entered:
                entered[id(x)] = self._entering(x)
        if context.bias is not None:
            context = replace(context, bias=self.ranks.own_part(context.bias, 1))
        if past is not None:
            self._check_past(past)
        with self._with_gradients():
            out = part.forward(*(entered[id(x)] for x in inputs), plan, context, past, crosses)
        return self.ranks.summed(out) + self.b_O

    def _entering(self, x: Tensor) -> Tensor:
        return self.ranks.copied(x) if x.ndim == 3 else self.ranks.own_part(x, 2)

    def _check_past(self, past: LayerKeyValueCache) -> None:
        if past.keys.ndim < 4:
            return
        heads, part = past.keys.shape[2], self.part.cfg
        if past.keys.shape[1] == 0:
            shape = (past.keys.shape[0], 0, part.n_kv_heads, part.d_head)
            past.keys = past.values = past.keys.new_empty(shape)
        elif heads not in (part.n_heads, part.n_kv_heads):
            raise InputError(
                "a key/value cache of a model that is spread over ranks holds each rank's heads, "
                f"{part.n_kv_heads} here. Received one of another model, with {heads}."
            )

    def _spread_norm(self, name: str) -> None:
        """Share out what `q_norm` or `k_norm` does."""
        norm: Norm | None = getattr(self, name)
        if norm is None:
            return
        if self.cfg.qk_norm == "full":
            self.part._modules[name] = WholeNorm(norm, self.ranks)
            return
        own: Norm = getattr(self.part, name)
        give_memory(norm, self.ranks.device)  # the part's weights lie in it
        share_hooks(norm, own, self.ranks, axes.HEAD_NORM_HOOKS)
        by_head = self.cfg.qk_norm == "per_head"
        for kind, weight in norm._parameters.items():
            if weight is None:
                continue
            place = self.ranks.part_of(len(weight)) if by_head else (0, len(weight))
            own._parameters[kind] = _frozen(weight.data.narrow(0, *place))

            def make(weight: Tensor = weight) -> Tensor:
                return self.ranks.own_part(weight, 0) if by_head else self.ranks.copied(weight)

            self._link(own, kind, weight, make)


class SpreadAttention(_SpreadHeads, Attention):
    """`Attention`, its heads shared out over ranks."""


class SpreadGroupedQueryAttention(_SpreadHeads, GroupedQueryAttention):
    """`GroupedQueryAttention`, its query heads and the key/value heads they read shared out."""


def spread_attention(
    attn: Attention,
    cfg: HookedTransformerConfig,
    layer: int,
    ranks: Ranks,
    positions: PositionalEncoding | None,
) -> None:
    """Turn attention into attention whose heads are shared out.

    Args:
        attn: Its weights are left alone: they may be on the `meta` device.
        cfg: Of one rank's part.
        layer: Its layer.
        ranks: Who shares it.
        positions: None for cross-attention.
    """
    with torch.device(ranks.device):
        part = make_attention(cfg, layer, positions)
    grouped = isinstance(attn, GroupedQueryAttention)
    # As torch's own fully_shard does: everything that holds the module keeps holding it.
    attn.__class__ = SpreadGroupedQueryAttention if grouped else SpreadAttention
    spread = cast(_SpreadHeads, attn)
    spread.spread(ranks, part, axes.ATTENTION_WEIGHTS)
    torch.nn.init.zeros_(part.b_O)  # it is added once, to the sum
    spread._share_hooks(axes.ATTENTION_HOOKS)
    for name in ("q_norm", "k_norm"):
        spread._spread_norm(name)


def _frozen(weight: Tensor) -> torch.nn.Parameter:
    return torch.nn.Parameter(weight, requires_grad=False)
