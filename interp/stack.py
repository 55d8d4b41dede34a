"""A stack of blocks with what stands before and after it: one for most models, two for some."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import nn

from interp.components.block import TransformerBlock
from interp.components.embed import TokenTypeEmbed
from interp.components.norm import NoNorm, make_norm, make_weighted_norm
from interp.config import HookedTransformerConfig
from interp.errors import InputError
from interp.hooks import HookPoint
from interp.positions import PositionalEncoding, make_positions


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
    _block_devices: list[torch.device] | None = None
    _norm_device: torch.device | None = None

    def _build_stack(
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

    def forward(self, *args: Any, **kwargs: Any) -> NoReturn:
        """A stack runs in its model."""
        raise InputError(
            "a stack is not called by hand. model.encode(…) runs an encoder alone; model(…, "
            "decoder_input=…), with stop_at_layer and hooks, runs a decoder."
        )


class EncoderStack(Stack):
    """The encoder of an encoder–decoder: every position sees all others."""

    def __init__(self, cfg: HookedTransformerConfig) -> None:
        super().__init__()
        assert cfg.n_encoder_layers is not None
        self._build_stack(cfg, cfg.n_encoder_layers, causal=False)


class DecoderStack(Stack):
    """The decoder of an encoder–decoder: causal, with cross-attention in every layer."""

    def __init__(self, cfg: HookedTransformerConfig) -> None:
        super().__init__()
        self._build_stack(cfg, cfg.n_layers, causal=True, crosses=True)
