"""A plain restatement of every Transformer that `HookedTransformerConfig` describes.

It shares no code with interp: loops and einsums over the weights by name, written from the papers
that the config's docstrings cite. `reference` applies edits at every named point, so that it says
what a hook there must do to everything after it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tests.interp.definitions import (
    activation,
    alibi_slopes,
    capped,
    relative_bucket,
    sinusoid,
    turned,
)

Edit = Callable[[Tensor], Tensor]

SPLIT = ("hook_attn_in", "hook_q_input", "hook_k_input", "hook_v_input")


def reference(
    model: Any,
    input: Tensor,
    edits: dict[str, Edit] | None = None,
    *,
    attention_mask: Tensor | None = None,
    decoder_input: Tensor | None = None,
    decoder_attention_mask: Tensor | None = None,
    token_type_ids: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits, and the value of every hook after its edit; `model` gives `cfg` and `state_dict`."""
    run = _Run(model, edits or {})
    cfg = model.cfg
    if decoder_input is None:
        bidirectional = cfg.attention_dir == "bidirectional"
        stream, real = run.stack(
            "", cfg.n_layers, not bidirectional, input, attention_mask, token_type_ids
        )
    else:
        source = run.stack("encoder.", cfg.n_encoder_layers, False, input, attention_mask)
        stream, real = run.stack(
            "decoder.", cfg.n_layers, True, decoder_input, decoder_attention_mask, source=source
        )
    return run.logits(stream, real), run.values


def _heads(x: Tensor, n: int) -> Tensor:
    return torch.stack([x] * n, 2)


# --- one run -------------------------------------------------------------------------------------


class _Run:
    def __init__(self, model: Any, edits: dict[str, Edit]) -> None:
        self.cfg, self.edits = model.cfg, edits
        self.w = {k: v.double() for k, v in model.state_dict().items()}
        self.values: dict[str, Tensor] = {}
        kind = model.cfg.normalization_type
        self.weighted = None if kind is None else kind.removesuffix("Pre")

    def at(self, name: str, x: Tensor) -> Tensor:
        self.values[name] = self.edits[name](x) if name in self.edits else x
        return self.values[name]

    def norm(self, name: str, x: Tensor, kind: str | None) -> Tensor:
        return self.weigh(name, x, kind, self.w.get(f"{name}.w"), self.w.get(f"{name}.b"))

    def weigh(
        self, name: str, x: Tensor, kind: str | None, w: Tensor | None, b: Tensor | None
    ) -> Tensor:
        if kind is None:
            return x
        if kind.startswith("LN"):
            x = x - x.mean(-1, keepdim=True)
        x = x / self.at(f"{name}.hook_scale", ((x**2).mean(-1, keepdim=True) + self.cfg.eps) ** 0.5)
        x = self.at(f"{name}.hook_normalized", x)
        if kind == "LN":
            assert w is not None and b is not None
            return x * w + b
        if kind == "RMS":
            assert w is not None and b is None
            return x * w
        assert w is None and b is None
        return x

    # --- a stack -------------------------------------------------------------------------------

    def stack(
        self,
        prefix: str,
        n_layers: int,
        causal: bool,
        tokens: Tensor,
        mask: Tensor | None,
        token_types: Tensor | None = None,
        source: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The stream after the final norm, and which positions are real."""
        cfg = self.cfg
        real = torch.ones_like(tokens, dtype=torch.bool) if mask is None else mask.bool()
        places = (real.long().cumsum(1) - 1).clamp(min=0)
        stream = self.embeddings(prefix, tokens, real, places, token_types)

        n_pos = tokens.shape[1]
        seen = real[:, None, None, :].expand(-1, 1, n_pos, -1)
        if causal:
            seen = seen & (torch.arange(n_pos)[:, None] >= torch.arange(n_pos))
        near = seen
        if cfg.window_size is not None:
            far = (places[:, None, :, None] - places[:, None, None, :]).abs() >= cfg.window_size
            near = seen & ~far
        bias = self.position_bias(prefix, places, causal)
        added = None
        if cfg.positional_embedding_type == "shortformer":
            vectors = self.w[f"{prefix}pos_embed.W_pos"][places] * real[..., None]
            added = self.at(f"{prefix}hook_pos_embed", vectors)
        for layer in range(n_layers):
            local = cfg.attn_types[layer] == "local"
            visible = near if local else seen
            stream = self.block(
                prefix, layer, stream, visible, bias, added, (places, real, local), source
            )
        kind = cfg.normalization_type if cfg.final_norm else None
        return self.norm(f"{prefix}ln_final", stream, kind), real

    def embeddings(
        self, prefix: str, tokens: Tensor, real: Tensor, places: Tensor, types: Tensor | None
    ) -> Tensor:
        cfg, w = self.cfg, self.w
        tokens = self.at(f"{prefix}hook_tokens", tokens)
        stream = self.at(f"{prefix}hook_embed", cfg.embed_scale * w["embed.W_E"][tokens])
        vectors = None
        if cfg.positional_embedding_type == "standard":
            vectors = w[f"{prefix}pos_embed.W_pos"][places]
        elif cfg.positional_embedding_type == "sinusoidal":
            layout = (cfg.d_model, cfg.sinusoidal_layout)
            rows = [[sinusoid(place, *layout) for place in row] for row in places.tolist()]
            vectors = torch.tensor(rows, dtype=torch.float64)
        if vectors is not None:
            stream = stream + self.at(f"{prefix}hook_pos_embed", vectors * real[..., None])
        if cfg.n_token_types:
            types = torch.zeros_like(tokens) if types is None else types
            segments = w["token_type_embed.W_token_type"][types]
            stream = stream + self.at("hook_token_type_embed", segments)
        if cfg.post_embedding_ln:
            stream = self.norm(f"{prefix}ln_embed", stream, self.weighted)
        return stream

    def position_bias(self, prefix: str, places: Tensor, causal: bool) -> Tensor | None:
        cfg, w = self.cfg, self.w
        if cfg.positional_embedding_type not in ("alibi", "relative_positional_bias"):
            return None
        offsets = places[:, None, :] - places[:, :, None]  # key - query
        if cfg.positional_embedding_type == "alibi":
            slopes = alibi_slopes(cfg.n_heads, cfg.alibi_max_bias)
            bias = torch.stack([-slope * offsets.abs().double() for slope in slopes], 1)
        else:
            sizes = (cfg.relative_attention_num_buckets, cfg.relative_attention_max_distance)
            bucket = [
                [[relative_bucket(o, causal, *sizes) for o in line] for line in row]
                for row in offsets.tolist()
            ]
            bias = w[f"{prefix}pos_embed.W_rel"][torch.tensor(bucket)].movedim(-1, 1)
        return self.at(f"{prefix}hook_pos_bias", bias)

    # --- a block -------------------------------------------------------------------------------

    def read(self, name: str, x: Tensor) -> Tensor:
        before = self.cfg.norm_placement in ("pre", "sandwich")
        return self.norm(name, x, self.cfg.normalization_type) if before else x

    def added(self, name: str, hook: str, x: Tensor) -> Tensor:
        if self.cfg.norm_placement in ("sandwich", "output"):
            x = self.norm(f"{name}_post", x, self.weighted)
        return self.at(hook, x)

    def sum(self, name: str, x: Tensor, out: Tensor) -> Tensor:
        after = self.cfg.norm_placement == "post"
        return self.norm(name, x + out, self.weighted) if after else x + out

    def block(
        self,
        prefix: str,
        layer: int,
        stream: Tensor,
        visible: Tensor,
        bias: Tensor | None,
        added: Tensor | None,
        turning: tuple[Tensor, Tensor, bool],
        source: tuple[Tensor, Tensor] | None,
    ) -> Tensor:
        cfg = self.cfg
        block = f"{prefix}blocks.{layer}"
        stream = self.at(f"{block}.hook_resid_pre", stream)
        q_in, k_in, v_in = self.heads_read(block, stream)
        if added is not None:
            q_in, k_in = q_in + added[:, :, None], k_in + added[:, :, None]
        out = self.attention(f"{block}.attn", layer, (q_in, k_in, v_in), visible, bias, turning)
        attn_out = self.added(f"{block}.ln1", f"{block}.hook_attn_out", out)
        if cfg.parallel_attn_mlp:
            mlp_out = self.mlp_out(block, "ln2", stream)
            return self.at(f"{block}.hook_resid_post", stream + attn_out + mlp_out)
        after = self.sum(f"{block}.ln1", stream, attn_out)
        if source is not None or not cfg.attn_only:
            after = self.at(f"{block}.hook_resid_mid", after)
        if source is not None:
            encoded, real = source
            asks = self.read(f"{block}.ln2", self.at(f"{block}.hook_cross_attn_in", after))
            n_kv = cfg.n_heads if cfg.ungroup_grouped_query_attention else cfg.n_key_value_heads
            inputs = (_heads(asks, cfg.n_heads), _heads(encoded, n_kv), _heads(encoded, n_kv))
            seen = real[:, None, None, :].expand(-1, 1, asks.shape[1], -1)
            out = self.attention(f"{block}.cross_attn", layer, inputs, seen, None, None)
            out = self.added(f"{block}.ln2", f"{block}.hook_cross_attn_out", out)
            after = self.sum(f"{block}.ln2", after, out)
            if not cfg.attn_only:
                after = self.at(f"{block}.hook_resid_mid_cross", after)
        if not cfg.attn_only:
            name = "ln2" if source is None else "ln3"
            after = self.sum(f"{block}.{name}", after, self.mlp_out(block, name, after))
        return self.at(f"{block}.hook_resid_post", after)

    def heads_read(self, block: str, stream: Tensor) -> tuple[Tensor, ...]:
        """What each head's queries, keys and values are made from."""
        cfg = self.cfg
        split = [name for name in SPLIT if f"{block}.{name}" in self.edits]
        grouped = not (cfg.ungroup_grouped_query_attention or "hook_attn_in" in split)
        n_kv = cfg.n_key_value_heads if grouped else cfg.n_heads
        attn_in = self.at(f"{block}.hook_attn_in", _heads(stream, cfg.n_heads))
        for_keys = attn_in if "hook_attn_in" in split else _heads(stream, n_kv)
        inputs = [
            self.at(f"{block}.hook_q_input", attn_in),
            self.at(f"{block}.hook_k_input", for_keys),
            self.at(f"{block}.hook_v_input", for_keys),
        ]
        if split:
            read = self.read(f"{block}.ln1", torch.cat(inputs, 2))
            return read.split([cfg.n_heads, n_kv, n_kv], 2)
        read = self.read(f"{block}.ln1", stream)
        return _heads(read, cfg.n_heads), _heads(read, n_kv), _heads(read, n_kv)

    def attention(
        self,
        attn: str,
        layer: int,
        inputs: tuple[Tensor, ...],
        visible: Tensor,
        bias: Tensor | None,
        turning: tuple[Tensor, Tensor, bool] | None,
    ) -> Tensor:
        """The heads' sum; `turning`: places, which are real, and whether the layer is local."""
        cfg, w = self.cfg, self.w
        q_in, k_in, v_in = inputs
        n_kv = k_in.shape[2]
        stored = "_" if f"{attn}._W_K" in w else ""
        own = torch.arange(n_kv) * cfg.n_key_value_heads // n_kv  # stored key/value head of each
        keys_of = torch.arange(cfg.n_heads) * n_kv // cfg.n_heads  # key/value head of each query
        queries = torch.arange(cfg.n_heads)

        def project(x: Tensor, name: str, rows: Tensor) -> Tensor:
            weight, bias = (
                w[f"{attn}.{name.replace('?', 'W')}"],
                w[f"{attn}.{name.replace('?', 'b')}"],
            )
            return torch.einsum("bphd,hde->bphe", x, weight[rows]) + bias[rows]

        q = self.at(f"{attn}.hook_q", project(q_in, "?_Q", queries))
        k = self.at(f"{attn}.hook_k", project(k_in, f"{stored}?_K", own))
        v = self.at(f"{attn}.hook_v", project(v_in, f"{stored}?_V", own))
        if cfg.qk_norm is not None:
            q, k = (
                self.qk_norm(f"{attn}.q_norm", q, queries),
                self.qk_norm(f"{attn}.k_norm", k, own),
            )
        if cfg.positional_embedding_type == "rotary" and turning is not None:
            places, real, local = turning
            lengths = real.sum(1).tolist()
            q = self.at(f"{attn}.hook_rot_q", turned(cfg, q, places, lengths, local))
            k = self.at(f"{attn}.hook_rot_k", turned(cfg, k, places, lengths, local))

        divisor = cfg.attn_scale * (layer + 1 if cfg.scale_attn_by_inverse_layer_idx else 1)
        scores = torch.einsum("bqhe,bkhe->bhqk", q, k[:, :, keys_of]) / divisor
        scores = capped(scores, cfg.attn_scores_soft_cap)
        if bias is not None:
            scores = scores + bias
        scores = torch.where(visible, scores, torch.tensor(-torch.inf, dtype=scores.dtype))
        scores = self.at(f"{attn}.hook_attn_scores", scores)
        highest = scores.detach().amax(-1, keepdim=True)
        highest = torch.where(highest.isfinite(), highest, 0.0)
        weights = torch.exp(scores - highest)
        total = weights.sum(-1, keepdim=True)
        if cfg.attn_sinks:
            total = total + torch.exp(w[f"{attn}.sinks"][:, None, None] - highest)
        pattern = self.at(f"{attn}.hook_pattern", weights / torch.where(total > 0, total, 1.0))
        z = self.at(f"{attn}.hook_z", torch.einsum("bhqk,bkhe->bqhe", pattern, v[:, :, keys_of]))
        result = self.at(f"{attn}.hook_result", torch.einsum("bqhe,hed->bqhd", z, w[f"{attn}.W_O"]))
        return result.sum(2) + w[f"{attn}.b_O"]

    def qk_norm(self, name: str, x: Tensor, own: Tensor) -> Tensor:
        """`own`: of which stored head each one has its weights."""
        w, b = self.w[f"{name}.w"], self.w.get(f"{name}.b")
        d_head = x.shape[-1]
        if self.cfg.qk_norm == "head":
            return self.weigh(name, x, self.weighted, w, b)
        w, b = w.reshape(-1, d_head)[own], None if b is None else b.reshape(-1, d_head)[own]
        if self.cfg.qk_norm == "per_head":
            return self.weigh(name, x, self.weighted, w, b)
        b = None if b is None else b.flatten()
        return self.weigh(name, x.flatten(2), self.weighted, w.flatten(), b).view_as(x)

    # --- MLPs ----------------------------------------------------------------------------------

    def mlp_out(self, block: str, norm: str, stream: Tensor) -> Tensor:
        x = self.read(f"{block}.{norm}", self.at(f"{block}.hook_mlp_in", stream))
        mlp = self.experts if self.cfg.num_experts else self.mlp
        return self.added(f"{block}.{norm}", f"{block}.hook_mlp_out", mlp(f"{block}.mlp", x))

    def mlp(self, mlp: str, x: Tensor) -> Tensor:
        cfg, w = self.cfg, self.w
        if cfg.gated_mlp:
            pre = self.at(f"{mlp}.hook_pre", x @ w[f"{mlp}.W_gate"])
            linear = self.at(f"{mlp}.hook_pre_linear", x @ w[f"{mlp}.W_in"])
            post = activation(cfg.act_fn, pre) * linear + w[f"{mlp}.b_in"]
        else:
            pre = self.at(f"{mlp}.hook_pre", x @ w[f"{mlp}.W_in"] + w[f"{mlp}.b_in"])
            post = activation(cfg.act_fn, pre)
            if cfg.act_fn == "solu_ln":
                post = self.at(f"{mlp}.hook_mid", post)
                kind = "LN" if cfg.normalization_type == "LN" else "LNPre"
                post = self.norm(f"{mlp}.ln", post, kind)
        post = self.at(f"{mlp}.hook_post", post)
        return post @ w[f"{mlp}.W_out"] + w[f"{mlp}.b_out"]

    def experts(self, mlp: str, x: Tensor) -> Tensor:
        """Every expert on every token, weighed (Jiang et al. 2024, §2.1)."""
        cfg, w = self.cfg, self.w
        logits = self.at(f"{mlp}.hook_router_logits", x @ w[f"{mlp}.W_router"])
        # How many experts a token likes better than this one.
        better = (logits[..., None, :] > logits[..., :, None]).sum(-1)
        exponents = torch.where(better < cfg.experts_per_token, logits.exp(), 0.0)
        weights = exponents / exponents.sum(-1, keepdim=True)
        weights = self.at(f"{mlp}.hook_expert_weights", weights)
        n = range(cfg.num_experts)
        pre = torch.stack([x @ w[f"{mlp}.W_gate"][e] for e in n], 2)
        pre = self.at(f"{mlp}.hook_pre", pre)
        linear = torch.stack([x @ w[f"{mlp}.W_in"][e] for e in n], 2)
        linear = self.at(f"{mlp}.hook_pre_linear", linear)
        post = activation(cfg.act_fn, pre) * linear + w[f"{mlp}.b_in"]
        post = self.at(f"{mlp}.hook_post", post)
        written = [post[:, :, e] @ w[f"{mlp}.W_out"][e] + w[f"{mlp}.b_out"][e] for e in n]
        out = self.at(f"{mlp}.hook_expert_out", torch.stack(written, 2))
        return (weights[..., None] * out).sum(2)

    # --- logits --------------------------------------------------------------------------------

    def logits(self, stream: Tensor, real: Tensor) -> Tensor:
        cfg, w = self.cfg, self.w
        if cfg.head == "mlm":
            pre = self.at("mlm_head.hook_pre", stream @ w["mlm_head.W"] + w["mlm_head.b"])
            post = self.at("mlm_head.hook_post", activation(cfg.head_act_fn, pre))
            stream = self.norm("mlm_head.ln", post, self.weighted)
        elif cfg.head in ("classification", "next-sentence"):
            firsts = [row.nonzero()[0, 0] for row in real]
            stream = torch.stack([x[first] for x, first in zip(stream, firsts, strict=True)])
            pre = self.at("pooler.hook_pre", stream @ w["pooler.W"] + w["pooler.b"])
            stream = self.at("pooler.hook_post", activation(cfg.head_act_fn, pre))
        stream = self.at("unembed.hook_in", stream)
        W_U = w["embed.W_E"].T if cfg.tie_word_embeddings else w["unembed.W_U"]
        logits = self.at("unembed.hook_out", cfg.logit_scale * stream @ W_U + w["unembed.b_U"])
        return capped(logits, cfg.output_logits_soft_cap)
