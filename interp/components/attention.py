"""Multi-head and grouped-query attention, fused where nobody looks inside.

The paths that run in every forward pass use torch's own `transpose` and `flatten`, which take a
third of the time of `einops.rearrange` (1 µs against 3 µs); shapes are written beside them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from interp.components import by_hand
from interp.components.context import AttentionContext, Surroundings
from interp.components.mask import AttentionMask
from interp.components.norm import Norm
from interp.components.side_by_side import SideBySide, lay_side_by_side
from interp.config import HookedTransformerConfig
from interp.factored import FactoredMatrix
from interp.hooks import HookPoint
from interp.positions import PositionalEncoding
from interp.run.kv_cache import LayerKeyValueCache
from interp.run.plan import AttentionPlan

# MKL has a slow product for so few rows and a wide weight: for [8, 768] and a weight three times as
# wide it takes 820 µs, against 660 µs for three products and 290 µs for one row (one core).
_FEW_ROWS = range(4, 16)


class Attention(nn.Module):
    """softmax(mask(q kᵀ / attn_scale)) v W_O summed over heads (Vaswani et al. 2017, §3.2).

    Attributes:
        W_Q, W_K, W_V: `[head, d_model, d_head]`; b_Q, b_K, b_V `[head, d_head]`.
        W_O: `[head, d_head, d_model]`; b_O `[d_model]`.
        sinks: `[head]` (with `cfg.attn_sinks`): a score that takes its share of the pattern, and
            gives nothing for it.
        q_norm, k_norm: Norms of queries and keys (with `cfg.qk_norm`), after hook_q and hook_k and
            before they turn.
        hook_q, hook_k, hook_v: `[batch, pos, head, d_head]`.
        hook_rot_q, hook_rot_k: The same after rotary positions (only with those).
        hook_attn_scores: Scaled, capped, biased by position and masked,
            `[batch, head, pos, key_pos]`; -inf where masked.
        hook_pattern: Softmax of the scores over key_pos.
        hook_z: What each head read, `[batch, pos, head, d_head]`.
        hook_result: What each head writes, `[batch, pos, head, d_model]`, without b_O.
    """

    # What queries, keys and values are made with: weights, then biases.
    _makes_qkv = ("W_Q", "W_K", "W_V", "b_Q", "b_K", "b_V")

    def __init__(
        self, cfg: HookedTransformerConfig, layer: int, positions: PositionalEncoding | None
    ) -> None:
        super().__init__()
        self.cfg = cfg
        local = positions is not None and (cfg.attn_types or ())[layer] == "local"
        self.surroundings = Surroundings(positions, cfg.window_size if local else None)
        self.attn_scale = cfg.attn_scale
        if cfg.scale_attn_by_inverse_layer_idx:
            self.attn_scale *= layer + 1
        self.n_kv_groups = cfg.n_heads // cfg.n_kv_heads
        self.W_Q = _head_weight(cfg.n_heads, cfg)
        self.b_Q = nn.Parameter(torch.zeros(cfg.n_heads, cfg.d_head, dtype=cfg.dtype))
        self._make_key_value_weights()
        self.W_O = nn.Parameter(torch.empty(cfg.n_heads, cfg.d_head, cfg.d_model, dtype=cfg.dtype))
        self.b_O = nn.Parameter(torch.zeros(cfg.d_model, dtype=cfg.dtype))

        self.hook_q = HookPoint()
        self.hook_k = HookPoint()
        self.hook_v = HookPoint()
        self.q_norm, self.k_norm = _qk_norm(cfg, cfg.n_heads), _qk_norm(cfg, cfg.n_kv_heads)
        self.sinks: nn.Parameter | None = None
        if cfg.attn_sinks:
            self.sinks = nn.Parameter(torch.zeros(cfg.n_heads, dtype=cfg.dtype))
        if positions is not None and positions.rotates:
            self.hook_rot_q = HookPoint()
            self.hook_rot_k = HookPoint()
        self.hook_attn_scores = HookPoint()
        self.hook_pattern = HookPoint()
        self.hook_z = HookPoint()
        self.hook_result = HookPoint()
        self._side_by_side: SideBySide | None = None
        self.pack()

    def _make_key_value_weights(self) -> None:
        self.W_K, self.W_V, self.b_K, self.b_V = _key_value_weights(self.cfg)

    def key_value_weights(self) -> tuple[Float[Tensor, "kv_head ..."], ...]:
        """W_K, b_K, W_V, b_V as stored: W `[kv_head, d_model, d_head]`, b `[kv_head, d_head]`."""
        return self.W_K, self.b_K, self.W_V, self.b_V

    def pack(self) -> None:
        """Lay W_Q, W_K and W_V side by side, and their biases, where they can be moved.

        Where nobody needs gradients of them, queries, keys and values are then made in one product.
        Parameters stay the same objects with the same shapes. It is done anew when a model is
        moved, converted, copied or unpickled, and has no effect where they lie so already.
        """
        packed = self._side_by_side
        if packed is not None and packed.holds(self._parameters):
            return
        self._side_by_side = packed = None  # so that there are never three copies
        mine = {name: self._parameters.get(name) for name in self._makes_qkv}
        self._side_by_side = lay_side_by_side(mine)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # Weights that somebody else laid down (load_state_dict(assign=True)) stay as they are.
        packed = self._side_by_side
        laid = packed is not None and packed.holds(self._parameters)
        packs = laid or self.W_Q.device.type == "meta"
        super()._apply(fn, recurse)
        if packs:
            self.pack()
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_side_by_side": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.pack()

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
        """What the heads together add to the residual stream.

        Inputs are normalised; with a head axis every head reads its own. With `crosses`, keys and
        values come from another sequence: what `past` holds are the projections of that sequence,
        to be used again instead of making them anew. A run gives plan and context; without them the
        heads read texts that are not padded, from their first position on.
        """
        if plan is None or context is None:
            inputs = (query_input, key_input, value_input)
            for x in inputs:
                by_hand.check_stream("attention", x, self.cfg.d_model, by_head=True)
            plan = by_hand.attention_plan(self, self.cfg.can_fuse_attention)
            context = self.surroundings.context(query_input, key_input.shape[1])
            with by_hand.apart(self):
                return self.forward(*inputs, plan, context)
        packed = None
        if query_input is key_input is value_input and not plan.separate_qkv:
            packed = self._packed_for(query_input)
        if packed is not None:
            made = F.linear(query_input, packed.weight, packed.bias)
            q, k, v = made.unflatten(-1, packed.shape).split(packed.n_heads, 2)
            q, (k, v) = self.hook_q(q), self._ungrouped(k, v)
        else:
            q = self.hook_q(_project(query_input, self.W_Q, self.b_Q))
            if crosses and past is not None:
                k, v = past.remember(lambda: self._project_keys_and_values(key_input, value_input))
            else:
                k, v = self._project_keys_and_values(key_input, value_input)
        k, v = self.hook_k(k), self.hook_v(v)
        if self.q_norm is not None and self.k_norm is not None:
            q = self._normalise(q, self.q_norm, "q_norm" in plan.explicit_norms)
            k = self._normalise(k, self.k_norm, "k_norm" in plan.explicit_norms)
        if context.rotation is not None:
            q = self.hook_rot_q(context.rotation(q))
            k = self.hook_rot_k(context.rotation(k))
        if past is not None and not crosses:
            k, v = past.join(k, v)
        attend = self._attend_explicitly if plan.explicit_pattern else self._attend_fused
        z = self.hook_z(attend(q, k, v, context))
        if plan.per_head_result:
            return self.hook_result(self.head_results(z)).sum(-2) + self.b_O
        # [batch, pos, head * d_head] @ [head * d_head, d_model]
        return F.linear(z.flatten(2), self.W_O.flatten(0, 1).T, self.b_O)

    def head_results(
        self, z: Float[Tensor, "*axes head d_head"]
    ) -> Float[Tensor, "*axes head d_model"]:
        """What each head writes: z W_O, head by head."""
        return torch.einsum("...he,hed->...hd", z, self.W_O)

    def _project_keys_and_values(
        self, key_input: Tensor, value_input: Tensor
    ) -> tuple[Tensor, Tensor]:
        W_K, b_K, W_V, b_V = self.key_value_weights()
        if key_input.ndim == 4 and key_input.shape[2] != W_K.shape[0]:
            # Each query head reads its own copy, so each needs keys and values of its own.
            W_K, b_K, W_V, b_V = self.W_K, self.b_K, self.W_V, self.b_V
        return self._ungrouped(_project(key_input, W_K, b_K), _project(value_input, W_V, b_V))

    def _ungrouped(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values as their hooks see them."""
        if self.cfg.ungroup_grouped_query_attention:
            return self._per_query_head(k), self._per_query_head(v)
        return k, v

    def _packed_for(self, x: Tensor) -> SideBySide | None:
        """What makes queries, keys and values of this in one product; None: it takes three."""
        packed, parameters = self._side_by_side, self._parameters
        if packed is None or x.ndim != 3 or torch.compiler.is_compiling():
            return None
        if not packed.holds(parameters):
            self._side_by_side = None  # else it would keep the memory of what was replaced
            return None
        if packed.wants_gradients(parameters):
            return None
        if x.is_cpu and x.element_size() > 2 and x.shape[0] * x.shape[1] in _FEW_ROWS:
            return None
        return packed

    def _normalise(
        self, x: Float[Tensor, "batch pos head d_head"], norm: Norm, explicit: bool
    ) -> Float[Tensor, "batch pos head d_head"]:
        assert norm.w is not None
        whole = self.cfg.qk_norm == "full"
        flat = x.flatten(2) if whole else x
        copies = x.shape[2] * x.shape[3] // norm.w.numel()
        if self.cfg.qk_norm == "head" or copies == 1:
            return norm(flat, explicit).view_as(x)
        # Every query head has keys of its own: the weights of the key heads go with them.
        weights = (
            None if p is None else p.view(-1, x.shape[3]).repeat_interleave(copies, 0)
            for p in (norm.w, norm.b)
        )
        w, b = (p.flatten() if whole and p is not None else p for p in weights)
        return norm.spelled_out(flat, w, b).view_as(x)

    def _per_query_head(
        self, x: Float[Tensor, "batch pos kv_head d_head"]
    ) -> Float[Tensor, "batch pos head d_head"]:
        return x if x.shape[2] == self.cfg.n_heads else x.repeat_interleave(self.n_kv_groups, 2)

    def _attend_fused(
        self,
        q: Float[Tensor, "batch pos head d_head"],
        k: Float[Tensor, "batch key_pos kv_head d_head"],
        v: Float[Tensor, "batch key_pos kv_head d_head"],
        context: AttentionContext,
    ) -> Float[Tensor, "batch pos head d_head"]:
        attn_mask, is_causal = context.for_fused
        z = F.scaled_dot_product_attention(
            q.transpose(1, 2),  # [batch, head, pos, d_head]
            k.transpose(1, 2),
            v.transpose(1, 2),
            attn_mask=attn_mask,
            is_causal=is_causal,
            scale=1.0 / self.attn_scale,
            enable_gqa=k.shape[2] != q.shape[2],
        )
        if context.mask.blind is not None:
            z = z.masked_fill(context.mask.blind, 0.0)
        return z.transpose(1, 2)

    def _attend_explicitly(
        self,
        q: Float[Tensor, "batch pos head d_head"],
        k: Float[Tensor, "batch key_pos kv_head d_head"],
        v: Float[Tensor, "batch key_pos kv_head d_head"],
        context: AttentionContext,
    ) -> Float[Tensor, "batch pos head d_head"]:
        mask = context.mask
        k, v = self._per_query_head(k), self._per_query_head(v)
        # Each step writes into what the one before made, which nobody else has seen.
        scores = (q.transpose(1, 2) @ k.permute(0, 2, 3, 1)).div_(self.attn_scale)
        if self.cfg.attn_scores_soft_cap > 0:
            cap = self.cfg.attn_scores_soft_cap
            scores = cap * torch.tanh(scores / cap)
        if context.bias is not None:
            scores = scores + context.bias
        scores = scores.masked_fill_(mask.forbidden, -torch.inf)
        pattern = self.hook_pattern(self._softmax(self.hook_attn_scores(scores), mask).to(v.dtype))
        return (pattern @ v.transpose(1, 2)).transpose(1, 2)  # [batch, pos, head, d_head]

    def _softmax(
        self, scores: Float[Tensor, "batch head pos key_pos"], mask: AttentionMask
    ) -> Float[Tensor, "batch head pos key_pos"]:
        wide = scores.dtype if scores.dtype == torch.float64 else torch.float32
        if self.sinks is not None:
            sinks = self.sinks[:, None, None].expand(*scores.shape[:-1], 1)
            return F.softmax(torch.cat([scores, sinks], -1), dim=-1, dtype=wide)[..., :-1]
        if mask.blind is None and not self.hook_attn_scores.intervenes:
            return F.softmax(scores, dim=-1, dtype=wide)
        # A destination without any source reads nothing, instead of 0/0 (and so do its gradients).
        nowhere = scores.amax(-1, keepdim=True) == -torch.inf
        pattern = F.softmax(scores.masked_fill(nowhere, 0.0), dim=-1, dtype=wide)
        return pattern.masked_fill(nowhere, 0.0)

    @property
    def OV(self) -> FactoredMatrix:
        """W_V W_O of every head, `[head, d_model, d_model]`, factored."""
        return FactoredMatrix(self.W_V, self.W_O)

    @property
    def QK(self) -> FactoredMatrix:
        """W_Q W_Kᵀ of every head, `[head, d_model, d_model]`, factored."""
        return FactoredMatrix(self.W_Q, self.W_K.transpose(-1, -2))


class GroupedQueryAttention(Attention):
    """Attention whose query heads share fewer keys and values (Ainslie et al. 2023).

    As in TransformerLens, the stored weights are `_W_K`, `_W_V`, `_b_K`, `_b_V` with one entry per
    key/value head; `W_K`, `W_V`, `b_K`, `b_V` repeat them to one per query head. `hook_k`, `hook_v`
    and `hook_rot_k` have one entry per key/value head.
    """

    _makes_qkv = ("W_Q", "_W_K", "_W_V", "b_Q", "_b_K", "_b_V")

    def _make_key_value_weights(self) -> None:
        self._W_K, self._W_V, self._b_K, self._b_V = _key_value_weights(self.cfg)

    def key_value_weights(self) -> tuple[Float[Tensor, "kv_head ..."], ...]:
        """W_K, b_K, W_V, b_V as stored: W `[kv_head, d_model, d_head]`, b `[kv_head, d_head]`."""
        return self._W_K, self._b_K, self._W_V, self._b_V

    @property
    def W_K(self) -> Float[Tensor, "head d_model d_head"]:  # type: ignore[override]
        """Key weights, one per query head."""
        return self._W_K.repeat_interleave(self.n_kv_groups, 0)

    @property
    def W_V(self) -> Float[Tensor, "head d_model d_head"]:  # type: ignore[override]
        """Value weights, one per query head."""
        return self._W_V.repeat_interleave(self.n_kv_groups, 0)

    @property
    def b_K(self) -> Float[Tensor, "head d_head"]:  # type: ignore[override]
        """Key biases, one per query head."""
        return self._b_K.repeat_interleave(self.n_kv_groups, 0)

    @property
    def b_V(self) -> Float[Tensor, "head d_head"]:  # type: ignore[override]
        """Value biases, one per query head."""
        return self._b_V.repeat_interleave(self.n_kv_groups, 0)


def make_attention(
    cfg: HookedTransformerConfig, layer: int, positions: PositionalEncoding | None
) -> Attention:
    """The attention that the config describes; cross-attention has no positions."""
    kind = GroupedQueryAttention if cfg.groups_queries else Attention
    return kind(cfg, layer, positions)


def _qk_norm(cfg: HookedTransformerConfig, n_heads: int) -> Norm | None:
    kind = cfg.norm_kind_with_weights
    if cfg.qk_norm is None or kind is None:
        return None
    shapes = {"head": (cfg.d_head,), "full": (n_heads * cfg.d_head,)}
    return Norm(cfg, kind, shapes.get(cfg.qk_norm, (n_heads, cfg.d_head)))


def _head_weight(n_heads: int, cfg: HookedTransformerConfig) -> nn.Parameter:
    """`[head, d_model, d_head]`, laid out so that all heads are one matrix without a copy."""
    weight = torch.empty(n_heads, cfg.d_head, cfg.d_model, dtype=cfg.dtype)
    return nn.Parameter(weight.transpose(1, 2))


def _key_value_weights(cfg: HookedTransformerConfig) -> tuple[nn.Parameter, ...]:
    """Fresh W_K, W_V, b_K, b_V, one entry per key/value head."""
    biases = (torch.zeros(cfg.n_kv_heads, cfg.d_head, dtype=cfg.dtype) for _ in "KV")
    weights = (_head_weight(cfg.n_kv_heads, cfg) for _ in "KV")
    return (*weights, *map(nn.Parameter, biases))


def _project(
    x: Float[Tensor, "batch pos *head d_model"],
    W: Float[Tensor, "head d_model d_head"],
    b: Float[Tensor, "head d_head"],
) -> Float[Tensor, "batch pos head d_head"]:
    if x.ndim == 4:
        return torch.einsum("bphd,hde->bphe", x, W) + b
    # [batch, pos, d_model] @ [d_model, head * d_head]
    return F.linear(x, W.transpose(1, 2).flatten(0, 1), b.flatten()).unflatten(-1, b.shape)
