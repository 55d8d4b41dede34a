"""The steps of a run through one stack: its embeddings, its blocks, its final norm."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from interp.components.block import CrossContext
from interp.components.context import AttentionContext
from interp.components.mask import AttentionMask
from interp.devices.placement import SharedContexts
from interp.run.arguments import Residual
from interp.run.inputs import RunInput
from interp.run.kv_cache import KeyValueCache
from interp.run.plan import RunPlan

if TYPE_CHECKING:
    from interp.stack import Stack


def embed_tokens(
    stack: Stack,
    given: RunInput,
    embed: Callable[[Int[Tensor, "batch pos"]], Residual],
    plan: RunPlan,
) -> tuple[Residual, Int[Tensor, "batch pos"]]:
    """What the first block reads, and the tokens as the hooks left them."""
    assert given.tokens is not None
    tokens = stack.hook_tokens(given.tokens)
    residual = stack.hook_embed(embed(tokens))
    if stack.pos_embed.adds_embedding:
        residual = residual + _positions(stack, given, residual)
    if stack.cfg.n_token_types:
        added = stack.token_type_embed(given.token_types, tokens)
        residual = residual + stack.hook_token_type_embed(added.expand_as(residual))
    if stack.cfg.post_embedding_ln:
        residual = stack.ln_embed(residual, "ln_embed" in plan.explicit_norms)
    return residual, tokens


def run_blocks(
    stack: Stack,
    residual: Residual,
    layers: range,
    plan: RunPlan,
    given: RunInput,
    past: KeyValueCache | None = None,
    source: CrossContext | None = None,
) -> Residual:
    """The residual stream after these layers; a cache is extended by this run's tokens."""
    n_new = residual.shape[1]
    watchers = stack.hook_embed.watchers
    if watchers is not None and watchers.before_blocks is not None:
        watchers.before_blocks(stack, residual, layers, plan, given, source)
    contexts, read = attention_contexts(stack, residual, layers, given), source
    devices = stack._block_devices
    shared = None if devices is None else SharedContexts(contexts, source)
    for layer in layers:
        if devices is not None and shared is not None:
            residual = residual.to(devices[layer])
            contexts, read = shared.on(devices[layer])
        entry = None if past is None else past[layer]
        block: Any = stack.blocks[layer]
        residual = block(residual, plan.blocks[layer], contexts[block.local], entry, read)
    if past is not None:
        past.extend(n_new, given.real_keys, None if source is None else source.residual)
    return residual


def normalise_final(stack: Stack, residual: Residual, plan: RunPlan) -> Residual:
    """What the final norm makes of the last residual stream."""
    if stack._norm_device is not None:
        residual = residual.to(stack._norm_device)
    return stack.ln_final(residual, "ln_final" in plan.explicit_norms)


def attention_contexts(
    stack: Stack, residual: Residual, layers: range, given: RunInput
) -> dict[bool, AttentionContext]:
    """What layers without (False) and with a window (True) share."""
    positions, dtype = stack.pos_embed, residual.dtype
    bias = added = None
    if positions.biases_scores:
        bias = positions.score_bias(given.positions, given.key_positions, dtype)
        if stack.hook_pos_bias.is_watched:
            bias = bias.expand(residual.shape[0], -1, -1, -1)
        bias = stack.hook_pos_bias(bias)
    if positions.adds_to_queries_and_keys:
        added = _positions(stack, given, residual)
    padded = given.real_keys is not None
    places = (given.positions, given.key_positions) if padded else None
    shape = (residual.shape[1], given.n_keys)
    device = residual.device if stack._block_devices is None else given.positions.device
    contexts = {}
    for local in {bool(stack.blocks[layer].local) for layer in layers}:
        window = stack.cfg.window_size if local else None
        contexts[local] = AttentionContext(
            mask=AttentionMask(*shape, stack.causal, given.real_keys, device, window, places),
            rotation=positions.rotation(given.positions, given.n_keys, dtype, local),
            bias=bias,
            added_to_qk=added,
        )
    return contexts


def cross_context(
    encoded: Residual,
    real: Bool[Tensor, "batch key_pos"] | None,
    n_queries: int,
    device: torch.device,
) -> CrossContext:
    """What a decoder's layers read of an encoder's output; `real`: False for padding."""
    mask = AttentionMask(n_queries, encoded.shape[1], False, real, device)
    return CrossContext(encoded, AttentionContext(mask))


def _positions(stack: Stack, given: RunInput, like: Residual) -> Residual:
    added = stack.pos_embed.embedding(given.positions, given.n_keys).to(like.dtype)
    if given.real_keys is not None:
        # Padding has no position; what it holds reaches nothing else.
        added = added * given.real_keys[:, -given.positions.shape[1] :, None]
    return stack.hook_pos_embed(added.expand_as(like))
