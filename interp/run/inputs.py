"""What a run is given, checked and brought into one form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.config import HookedTransformerConfig
from interp.errors import InputError, as_whole, require
from interp.run.kv_cache import KeyValueCache
from interp.tokenization.text import PaddingSide, TextInput
from interp.tokenization.token_ids import WHOLE_DTYPES

if TYPE_CHECKING:
    from interp.stack import Stack
    from interp.transformer import HookedTransformer


@dataclass(frozen=True, slots=True)
class RunInput:
    """One run's input.

    Attributes:
        tokens: `[batch, pos]`; None if the run starts from a residual stream.
        residual: `[batch, pos, d_model]`, the caller's own; None if it starts from tokens.
        attention_mask: `[batch, pos]`, 0 for padding; None: no padding.
        real_keys: The same for all keys, those of earlier runs included.
        positions: `[batch or 1, pos]`: each token's place among the real tokens of its row.
        key_positions: The same for all keys.
        token_types: `[batch, pos]`: each token's segment; None: the first.
        n_keys: Number of keys, those of earlier runs included.
    """

    tokens: Int[Tensor, "batch pos"] | None
    residual: Float[Tensor, "batch pos d_model"] | None
    attention_mask: Int[Tensor, "batch pos"] | None
    real_keys: Bool[Tensor, "batch key_pos"] | None
    positions: Int[Tensor, "batch pos"]
    key_positions: Int[Tensor, "batch key_pos"]
    n_keys: int
    token_types: Int[Tensor, "batch pos"] | None = None


def prepare(
    model: HookedTransformer,
    input: TextInput | Int[Tensor, "*batch pos"] | Float[Tensor, "batch pos d_model"] | None,
    prepend_bos: bool | None,
    padding_side: PaddingSide | None,
    start_at_layer: int | None,
    attention_mask: Int[Tensor, "*batch pos"] | None,
    past: KeyValueCache | None,
    token_type_ids: Int[Tensor, "*batch pos"] | None = None,
    stack: Stack | None = None,
) -> RunInput:
    """Check the arguments of `forward` that say what is read.

    `stack` is the part of the model that reads it, where that is not the model itself.

    Raises:
        InputError: for an input, mask or length that breaks a rule.
    """
    stack = model if stack is None else stack
    is_target = stack is not model and stack.causal
    _check_kinds(attention_mask, token_type_ids, past)
    require(
        start_at_layer is None or token_type_ids is None,
        "token_type_ids are part of the residual stream already where start_at_layer is given",
    )
    if isinstance(input, Tensor) and input.ndim == 1:  # one row throughout
        attention_mask, token_type_ids = _one_row(attention_mask), _one_row(token_type_ids)
    tokens = residual = None
    unseen = False  # whether no real token notices the padding
    if start_at_layer is not None:
        residual = _checked_residual(input, model.cfg.d_model)
        shape = residual.shape[:2]
    elif isinstance(input, Tensor):
        tokens = _checked_tokens(input.to(model.W_E.device), model.cfg.d_vocab)
        shape = tokens.shape
        # A decoder's output may begin with the pad token (T5), so there it is none.
        if attention_mask is None and not past and not is_target:
            attention_mask = model.mask_of_padding(tokens, padding_side, prepend_bos, stack.causal)
    elif isinstance(input, str | Sequence):
        tokens, own_mask = model.tokenize(input, prepend_bos, padding_side, target=is_target)
        shape = tokens.shape
        if attention_mask is None:
            attention_mask = own_mask
            side = padding_side or model.tokenizer.padding_side
            unseen = side == "right" and stack.causal and not past
            unseen = unseen and not stack.pos_embed.depends_on_length
    else:
        raise InputError(f"input must be text or a tensor. Received {type(input).__name__}.")
    if past is not None:
        _check_cache(past, shape[0], model.cfg)
    n_before = 0 if past is None else len(past)
    n_keys = n_before + shape[1]
    real_keys = None
    if not (unseen and past is None):
        real_keys = _real_keys(shape, attention_mask, past, model.W_E.device)
    key_positions = places(n_keys, real_keys, model.W_E.device)
    longest = n_keys
    if real_keys is not None and n_keys > stack.pos_embed.n_ctx:
        longest = int(key_positions.max()) + 1  # padding has no position
    stack.pos_embed.check_length(longest)
    if past is not None:
        stack.pos_embed.check_cached_length(longest)
    token_types = _token_types(token_type_ids, shape, model)
    positions = key_positions[:, n_before:]
    return RunInput(
        tokens, residual, attention_mask, real_keys, positions, key_positions, n_keys, token_types
    )


def _check_kinds(attention_mask: object, token_type_ids: object, past: object) -> None:
    """Refuse what is no tensor (or cache) before somebody asks it for its shape."""
    for name, value in (("attention_mask", attention_mask), ("token_type_ids", token_type_ids)):
        if value is not None and not isinstance(value, Tensor):
            raise InputError(f"{name} must be a tensor. Received {type(value).__name__}.")
    if past is not None and not isinstance(past, KeyValueCache):
        raise InputError(f"past_kv_cache must be a KeyValueCache. Received {type(past).__name__}.")


def places(
    n_keys: int, real_keys: Bool[Tensor, "batch key_pos"] | None, device: torch.device
) -> Int[Tensor, "batch key_pos"]:
    """Each key's place among the real tokens of its row."""
    if real_keys is None:
        return torch.arange(n_keys, device=device)[None]
    return (real_keys.cumsum(1) - 1).clamp(min=0)


def _one_row(x: Tensor | None) -> Tensor | None:
    return x[None] if x is not None and x.ndim == 1 else x


def _token_types(
    ids: Tensor | None, shape: torch.Size, model: HookedTransformer
) -> Int[Tensor, "batch pos"] | None:
    if ids is None:
        return None
    n_types = model.cfg.n_token_types
    require(n_types > 0, "token_type_ids need a model with segment embeddings. This one has none")
    require(
        ids.shape == shape, f"token_type_ids must be {tuple(shape)}. Received {tuple(ids.shape)}"
    )
    if ids.device.type == "cpu":
        low, high = ids.aminmax()
        require(
            bool(low >= 0 and high < n_types),
            f"token_type_ids must lie in 0 … {n_types - 1}. Received {low} … {high}",
        )
    return ids.to(model.W_E.device).long()


def layer_range(start: int | None, stop: int | None, n_layers: int) -> tuple[int, int]:
    """The blocks from `start` to before `stop`; negative numbers count from the end.

    Raises:
        InputError: for a block that does not exist.
    """
    for name, layer in (("start_at_layer", start), ("stop_at_layer", stop)):
        if layer is not None and not -n_layers <= as_whole(name, layer) <= n_layers:
            raise InputError(f"{name} must lie in -{n_layers} … {n_layers}. Received {layer}.")
    first, last, _ = slice(start, stop).indices(n_layers)
    return first, last


def _checked_tokens(tokens: Tensor, d_vocab: int) -> Int[Tensor, "batch pos"]:
    if tokens.dtype not in WHOLE_DTYPES or tokens.ndim not in (1, 2):
        raise InputError(
            "tokens must be whole numbers of shape [batch, pos] or [pos] (a residual stream "
            f"needs start_at_layer). Received {tokens.dtype} {tuple(tokens.shape)}."
        )
    if tokens.numel() == 0:
        raise InputError(f"there must be at least one token. Received {tuple(tokens.shape)}.")
    # On a GPU this look would wait for everything before it; the CPU reads it at no cost.
    if tokens.device.type == "cpu":
        low, high = tokens.aminmax()
        if low < 0 or high >= d_vocab:
            raise InputError(f"tokens must lie in 0 … {d_vocab - 1}. Received {low} … {high}.")
    tokens = tokens.long()
    return tokens[None] if tokens.ndim == 1 else tokens


def _checked_residual(input: object, d_model: int) -> Float[Tensor, "batch pos d_model"]:
    if (
        not isinstance(input, Tensor)
        or input.ndim != 3
        or input.shape[-1] != d_model
        or not input.is_floating_point()
    ):
        found = tuple(input.shape) if isinstance(input, Tensor) else type(input).__name__
        raise InputError(
            f"start_at_layer needs a residual stream [batch, pos, {d_model}]. Received {found}."
        )
    return input


def check_dtype(residual: Float[Tensor, "batch pos d_model"] | None, dtype: torch.dtype) -> None:
    """Say after a failure that it was the dtype of the residual stream given, where it may be.

    Not before a run: parts of a model may be converted, and weights lent to it in another dtype.

    Raises:
        InputError: if it is not the model's.
    """
    if residual is not None and residual.dtype != dtype:
        raise InputError(
            f"start_at_layer needs a residual stream in the model's dtype, {dtype}. "
            f"Received {residual.dtype}."
        )


def _check_cache(past: KeyValueCache, batch: int, cfg: HookedTransformerConfig) -> None:
    if cfg.attention_dir != "causal":
        raise InputError(
            "past_kv_cache needs causal attention: in a bidirectional model old keys change."
        )
    if len(past.layers) != cfg.n_layers or any(e.keys.shape[0] != batch for e in past.layers):
        sizes = {entry.keys.shape[0] for entry in past.layers}
        raise InputError(
            f"past_kv_cache must have {cfg.n_layers} layers and a batch of {batch}. "
            f"It has {len(past.layers)} and {sorted(sizes)}."
        )


def _real_keys(
    shape: torch.Size,
    attention_mask: Tensor | None,
    past: KeyValueCache | None,
    device: torch.device,
) -> Bool[Tensor, "batch key_pos"] | None:
    """False for padding; None where there is none."""
    if attention_mask is not None:
        if attention_mask.shape != shape:
            raise InputError(
                f"attention_mask must be [batch, pos] = {tuple(shape)}. "
                f"Received {tuple(attention_mask.shape)}."
            )
        attention_mask = attention_mask.to(device).bool()
    return attention_mask if past is None else past.real_keys_with(shape, attention_mask)
