"""A model's attention, one layer at a time, on rows without padding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.components.attention import Attention
from interp.components.block import TransformerBlock
from interp.components.mask import AttentionMask
from interp.errors import is_whole, require, require_whole
from interp.positions.base import Rotation

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

Look = Callable[[int, dict[str, Float[Tensor, "batch pos ..."]]], None]


def block_of(model: HookedTransformer, layer: int) -> TransformerBlock:
    """One block of a model with one stack.

    Raises:
        InputError: for a model with two stacks, or a layer that it does not have.
    """
    require_one_stack(model)
    n = model.cfg.n_layers
    require(is_whole(layer, 0) and layer < n, f"layer must lie in 0 … {n - 1}. Received {layer!r}")
    block: TransformerBlock = model.blocks[layer]  # type: ignore[assignment]
    return block


def chosen_layers(model: HookedTransformer, layers: Sequence[int] | None) -> list[int]:
    """The numbers of these blocks; None: of all.

    Raises:
        InputError: for none, a model with two stacks, or a layer that it does not have.
    """
    chosen = list(range(model.cfg.n_layers)) if layers is None else list(layers)
    require(bool(chosen), "there must be a layer to look at. There is none")
    for layer in chosen:
        block_of(model, layer)
    return chosen


def require_one_stack(model: HookedTransformer) -> None:
    """Raise `InputError` for an encoder–decoder: its positions are those of two texts."""
    require(
        model.cfg.architecture != "encoder-decoder",
        "what attention does with position is told of models with one stack. Received an "
        "encoder-decoder",
    )


def checked_rows(model: HookedTransformer, tokens: object) -> Int[Tensor, "batch pos"]:
    """Rows of tokens without padding, on the model's device.

    Raises:
        InputError: for a model with two stacks, what is not a matrix of whole numbers with at least
            one row, or rows that begin or end with padding.
    """
    require_one_stack(model)
    require(
        isinstance(tokens, Tensor)
        and tokens.ndim == 2
        and tokens.numel() > 0
        and not (tokens.is_floating_point() or tokens.is_complex() or tokens.dtype == torch.bool),
        "tokens must be whole numbers [batch, pos], with at least one row. Received "
        f"{tuple(tokens.shape) if isinstance(tokens, Tensor) else type(tokens).__name__}",
    )
    assert isinstance(tokens, Tensor)
    tokens = tokens.to(model.W_E.device).long()
    padding = model.mask_of_padding(tokens, None, None, model.main_stack.causal)
    require(padding is None, "rows must have no padding. Some of these begin or end with it")
    return tokens


def in_batches(
    tokens: Int[Tensor, "batch pos"], batch_size: int | None
) -> Iterator[Int[Tensor, "part pos"]]:
    """The rows in batches; None: all at once.

    Raises:
        InputError: for a batch size that is no whole number from 1 on.
    """
    if batch_size is None:
        yield tokens
        return
    require_whole("batch_size", batch_size, 1)
    yield from tokens.split(batch_size)


@torch.no_grad()
def watch_layers(
    model: HookedTransformer,
    tokens: Int[Tensor, "batch pos"],
    names: Sequence[str],
    look: Look,
    layers: Sequence[int] | None = None,
) -> None:
    """Run a model and show what some hooks of a block hold, block by block; nothing is kept.

    Blocks behind the last one asked for do not run.

    Args:
        model: With one stack.
        tokens: The rows, as `checked_rows` gives them.
        names: Of hooks within a block, such as `attn.hook_q`.
        look: Called for each layer, once all of these have fired, with the tensors by name.
        layers: Which blocks. None: all.
    """
    chosen = range(model.cfg.n_layers) if layers is None else layers
    end = max(chosen) + 1
    seen: dict[int, dict[str, Tensor]] = {layer: {} for layer in chosen}
    places = {f"blocks.{layer}.{name}": (layer, name) for layer in chosen for name in names}

    def watch(tensor: Tensor, hook: Any) -> None:
        layer, name = places[hook.name]
        seen[layer][name] = tensor
        if len(seen[layer]) == len(names):
            look(layer, seen.pop(layer))

    with model.hooks(fwd_hooks=[(name, watch) for name in places]):
        model(tokens, return_type=None, stop_at_layer=end if end < model.cfg.n_layers else None)


def visible_keys(
    model: HookedTransformer, layer: int, n_pos: int, device: torch.device
) -> Bool[Tensor, "pos key_pos"]:
    """Which keys each query of this layer may look at."""
    block = block_of(model, layer)
    window = model.cfg.window_size if block.local else None
    mask = AttentionMask(n_pos, n_pos, model.main_stack.causal, None, device, window)
    return mask.allowed[0, 0]


def rotation_of(
    model: HookedTransformer, layer: int, n_pos: int, device: torch.device, dtype: torch.dtype
) -> Rotation | None:
    """How queries and keys of this layer turn in rows of this length; None: not at all."""
    positions = torch.arange(n_pos, device=device)[None]
    local = bool(block_of(model, layer).local)
    turn: Rotation | None = model.main_stack.pos_embed.rotation(positions, n_pos, dtype, local)
    return turn


def encoding_bias(
    model: HookedTransformer, n_pos: int, device: torch.device, dtype: torch.dtype
) -> Float[Tensor, "head pos key_pos"] | None:
    """What the encoding adds to the scores of every layer; None: nothing."""
    encoding = model.main_stack.pos_embed
    if not encoding.biases_scores:
        return None
    positions = torch.arange(n_pos, device=device)[None]
    bias: Tensor = encoding.score_bias(positions, positions, dtype)[0]
    return bias


def normalised_queries_and_keys(
    attn: Attention,
    q: Float[Tensor, "batch pos head d_head"],
    k: Float[Tensor, "batch key_pos kv_head d_head"],
) -> tuple[Float[Tensor, "batch pos head d_head"], Float[Tensor, "batch key_pos head d_head"]]:
    """What `hook_q` and `hook_k` hold behind the norms that there may be; a key for each head."""
    if attn.q_norm is not None and attn.k_norm is not None:
        q, k = attn._normalise(q, attn.q_norm, False), attn._normalise(k, attn.k_norm, False)
    return q, attn._per_query_head(k)
