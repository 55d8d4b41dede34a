"""A stack of blocks with what stands before and after it: one for most models, two for some."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.components.attention import AttentionContext
from interp.components.block import CrossContext, TransformerBlock
from interp.components.embed import TokenTypeEmbed
from interp.components.mask import AttentionMask
from interp.components.norm import NoNorm, make_norm, make_weighted_norm
from interp.config import HookedTransformerConfig
from interp.devices.placement import SharedContexts
from interp.hooks import HookPoint
from interp.positions import PositionalEncoding, make_positions
from interp.run.inputs import RunInput
from interp.run.kv_cache import KeyValueCache
from interp.run.plan import RunPlan

Residual = Float[Tensor, "batch pos d_model"]


class Stack(nn.Module):
    """Embeddings, blocks and a final norm.

    A decoder-only or encoder-only model is such a stack itself; an encoder–decoder has one of each
    as `encoder` and `decoder`, which share the token embeddings.

    Attributes:
        hook_tokens: `[batch, pos]`.
        hook_embed, hook_pos_embed: What tokens and positions put into the residual stream
            (`hook_pos_embed` only where positions are vectors: added to the embedding, or to what
            queries and keys are made from).
        hook_pos_bias: What positions add to the scores of every layer,
            `[batch, head, pos, key_pos]` (only where they do).
        hook_token_type_embed: What segments put into the residual stream (only with segments).
        ln_embed: The norm of their sum (with `cfg.post_embedding_ln`).
    """

    cfg: HookedTransformerConfig
    pos_embed: PositionalEncoding
    blocks: nn.ModuleList
    # Where these lie, in a model over several devices; None: all on one.
    block_devices: list[torch.device] | None = None
    norm_device: torch.device | None = None

    def build_stack(
        self,
        cfg: HookedTransformerConfig,
        n_layers: int,
        causal: bool,
        crosses: bool = False,
        embed: Callable[[], nn.Module] | None = None,
    ) -> None:
        """Make the modules; `embed` makes the token embedding of a stack that has its own."""
        self.cfg = cfg
        self.causal = causal
        self.hook_tokens = HookPoint()
        if embed is not None:
            self.embed = embed()
        self.hook_embed = HookPoint()
        self.pos_embed = make_positions(cfg, causal)
        if self.pos_embed.adds_embedding or self.pos_embed.adds_to_queries_and_keys:
            self.hook_pos_embed = HookPoint()
        if self.pos_embed.biases_scores:
            self.hook_pos_bias = HookPoint()
        if cfg.n_token_types:
            self.token_type_embed = TokenTypeEmbed(cfg)
            self.hook_token_type_embed = HookPoint()
        if cfg.post_embedding_ln:
            self.ln_embed = make_weighted_norm(cfg)
        self.blocks = nn.ModuleList(
            TransformerBlock(cfg, layer, self.pos_embed, crosses) for layer in range(n_layers)
        )
        self.ln_final = make_norm(cfg) if cfg.final_norm else NoNorm()

    def embed_tokens(
        self, given: RunInput, embed: Callable[[Tensor], Residual], plan: RunPlan
    ) -> tuple[Residual, Int[Tensor, "batch pos"]]:
        """What the first block reads, and the tokens as the hooks left them."""
        assert given.tokens is not None
        tokens = self.hook_tokens(given.tokens)
        residual = self.hook_embed(embed(tokens))
        if self.pos_embed.adds_embedding:
            residual = residual + self._positions(given, residual)
        if self.cfg.n_token_types:
            added = self.token_type_embed(given.token_types, tokens)
            residual = residual + self.hook_token_type_embed(added.expand_as(residual))
        if self.cfg.post_embedding_ln:
            residual = self.ln_embed(residual, "ln_embed" in plan.explicit_norms)
        return residual, tokens

    def _positions(self, given: RunInput, like: Residual) -> Residual:
        added = self.pos_embed.embedding(given.positions, given.n_keys).to(like.dtype)
        if given.real_keys is not None:
            # Padding has no position; what it holds reaches nothing else.
            added = added * given.real_keys[:, -given.positions.shape[1] :, None]
        return self.hook_pos_embed(added.expand_as(like))

    def run_blocks(
        self,
        residual: Residual,
        layers: range,
        plan: RunPlan,
        given: RunInput,
        past: KeyValueCache | None = None,
        source: CrossContext | None = None,
    ) -> Residual:
        """The residual stream after these layers; a cache is extended by this run's tokens."""
        n_new = residual.shape[1]
        watchers = self.hook_embed.watchers
        if watchers is not None and watchers.before_blocks is not None:
            watchers.before_blocks(self, residual, layers, plan, given, source)
        contexts, read = self.contexts(residual, layers, given), source
        devices = self.block_devices
        shared = None if devices is None else SharedContexts(contexts, source)
        for layer in layers:
            if devices is not None and shared is not None:
                residual = residual.to(devices[layer])
                contexts, read = shared.on(devices[layer])
            entry = None if past is None else past[layer]
            block: Any = self.blocks[layer]
            residual = block(residual, plan.blocks[layer], contexts[block.local], entry, read)
        if past is not None:
            past.extend(n_new, given.real_keys, None if source is None else source.residual)
        return residual

    def normalise_final(self, residual: Residual, plan: RunPlan) -> Residual:
        """What the final norm makes of the last residual stream."""
        if self.norm_device is not None:
            residual = residual.to(self.norm_device)
        return self.ln_final(residual, "ln_final" in plan.explicit_norms)

    def contexts(
        self, residual: Residual, layers: range, given: RunInput
    ) -> dict[bool, AttentionContext]:
        """What layers without (False) and with a window (True) share."""
        positions, dtype = self.pos_embed, residual.dtype
        bias = added = None
        if positions.biases_scores:
            bias = positions.score_bias(given.positions, given.key_positions, dtype)
            if self.hook_pos_bias.is_watched:
                bias = bias.expand(residual.shape[0], -1, -1, -1)
            bias = self.hook_pos_bias(bias)
        if positions.adds_to_queries_and_keys:
            added = self._positions(given, residual)
        padded = given.real_keys is not None
        places = (given.positions, given.key_positions) if padded else None
        shape = (residual.shape[1], given.n_keys)
        device = residual.device if self.block_devices is None else given.positions.device
        contexts = {}
        for local in {bool(self.blocks[layer].local) for layer in layers}:
            window = self.cfg.window_size if local else None
            contexts[local] = AttentionContext(
                mask=AttentionMask(*shape, self.causal, given.real_keys, device, window, places),
                rotation=positions.rotation(given.positions, given.n_keys, dtype, local),
                bias=bias,
                added_to_qk=added,
            )
        return contexts


class EncoderStack(Stack):
    """The encoder of an encoder–decoder: every position sees all others."""

    def __init__(self, cfg: HookedTransformerConfig) -> None:
        super().__init__()
        assert cfg.n_encoder_layers is not None
        self.build_stack(cfg, cfg.n_encoder_layers, causal=False)


class DecoderStack(Stack):
    """The decoder of an encoder–decoder: causal, with cross-attention in every layer."""

    def __init__(self, cfg: HookedTransformerConfig) -> None:
        super().__init__()
        self.build_stack(cfg, cfg.n_layers, causal=True, crosses=True)


def cross_context(
    encoded: Residual, real: Tensor | None, n_queries: int, device: torch.device
) -> CrossContext:
    """What a decoder's layers read of an encoder's output; `real`: False for padding."""
    mask = AttentionMask(n_queries, encoded.shape[1], False, real, device)
    return CrossContext(encoded, AttentionContext(mask))
