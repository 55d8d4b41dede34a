"""Keys and values of the tokens so far, so that a longer text does not recompute them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.config import HookedTransformerConfig


@dataclass
class LayerKeyValueCache:
    """One layer's keys (already turned, with rotary positions) and values.

    Attributes:
        keys, values: Of the tokens so far.
        cross: Keys and values of the sequence that a decoder attends to, as projected.
    """

    keys: Float[Tensor, "batch key_pos kv_head d_head"]
    values: Float[Tensor, "batch key_pos kv_head d_head"]
    cross: tuple[Tensor, Tensor] | None = None
    _joined: tuple[Tensor, Tensor] | None = None
    _remembered: tuple[Tensor, Tensor] | None = None

    def join(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """All keys and values, this run's included; they are kept once `commit` is called."""
        self._joined = (
            torch.cat(_with_equal_heads(self.keys, keys), 1),
            torch.cat(_with_equal_heads(self.values, values), 1),
        )
        return self._joined

    def remember(self, make: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """The other sequence's keys and values, made if they are not kept yet."""
        self._remembered = make() if self.cross is None else self.cross
        return self._remembered

    def commit(self) -> None:
        """Keep what the last run joined and remembered."""
        assert self._joined is not None
        self.keys, self.values = self._joined
        self.cross = self._remembered
        self._joined = None

    def select(self, rows: Tensor, same_source: bool = False) -> LayerKeyValueCache:
        """These rows of the batch, in this order; `same_source`: `cross` stays as it is."""
        cross = self.cross
        if cross is not None and not same_source:
            cross = (cross[0][rows], cross[1][rows])
        return LayerKeyValueCache(self.keys[rows], self.values[rows], cross)


def _with_equal_heads(before: Tensor, now: Tensor) -> tuple[Tensor, Tensor]:
    """Both with one entry per query head where either has it (`hook_attn_in` was edited)."""
    if before.shape[2] < now.shape[2]:
        before = before.repeat_interleave(now.shape[2] // before.shape[2], 2)
    elif now.shape[2] < before.shape[2]:
        now = now.repeat_interleave(before.shape[2] // now.shape[2], 2)
    return before, now


@dataclass
class KeyValueCache:
    """Every layer's keys and values. A forward pass that is given one reads and extends it.

    A run that fails on its way leaves it as it was.

    Attributes:
        layers: One entry per block (of the decoder).
        length: How many tokens it holds.
        real_keys: `[batch, key_pos]`, False for padding. None: no padding so far.
        source: The encoder's output that the cross keys and values were made from.
    """

    layers: list[LayerKeyValueCache] = field(default_factory=list)
    length: int = 0
    real_keys: Bool[Tensor, "batch key_pos"] | None = None
    source: Float[Tensor, "batch source_pos d_model"] | None = None

    @classmethod
    def init_cache(
        cls, cfg: HookedTransformerConfig, device: torch.device | str, batch_size: int = 1
    ) -> KeyValueCache:
        """An empty cache for a batch."""
        heads = cfg.n_heads if cfg.ungroup_grouped_query_attention else cfg.n_kv_heads
        empty = torch.empty(batch_size, 0, heads, cfg.d_head, device=device, dtype=cfg.dtype)
        return cls([LayerKeyValueCache(empty, empty) for _ in range(cfg.n_layers)])

    def __len__(self) -> int:
        """How many tokens it holds."""
        return self.length

    def __getitem__(self, layer: int) -> LayerKeyValueCache:
        return self.layers[layer]

    def select(self, rows: Tensor, same_source: bool = False) -> KeyValueCache:
        """A cache of these rows of the batch, in this order, as beam search needs it.

        `same_source`: each new row attends to the same other sequence as the row in its place did,
        so that its keys and values need no copy.
        """
        real = None if self.real_keys is None else self.real_keys[rows]
        layers = [layer.select(rows, same_source) for layer in self.layers]
        source = self.source
        if source is not None and not same_source:
            source = source[rows]
        return KeyValueCache(layers, self.length, real, source)

    def forget_other_source(self, source: Float[Tensor, "batch source_pos d_model"]) -> None:
        """Drop cross keys and values that were made from anything but this: they are made anew."""
        kept = self.source
        same = kept is source or (
            kept is not None and kept.shape == source.shape and torch.equal(kept, source)
        )
        if not same:
            for layer in self.layers:
                layer.cross = None

    def real_keys_with(
        self, n_tokens: torch.Size, mask: Bool[Tensor, "batch pos"] | None
    ) -> Bool[Tensor, "batch key_pos"] | None:
        """Which keys are real once this run's are added. None: all of them."""
        if self.real_keys is None and mask is None:
            return None
        device = mask.device if mask is not None else self.layers[0].keys.device
        before, now = self.real_keys, mask
        if before is None:
            before = torch.ones(n_tokens[0], self.length, dtype=torch.bool, device=device)
        if now is None:
            now = torch.ones(n_tokens, dtype=torch.bool, device=device)
        return torch.cat([before, now], 1)

    def extend(
        self,
        n_new: int,
        real_keys: Bool[Tensor, "batch key_pos"] | None,
        source: Float[Tensor, "batch source_pos d_model"] | None = None,
    ) -> None:
        """Keep this run's keys and values: all layers have joined theirs."""
        for layer in self.layers:
            layer.commit()
        self.length += n_new
        self.real_keys = real_keys
        self.source = source
