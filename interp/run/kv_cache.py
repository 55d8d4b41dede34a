"""Keys and values of the tokens so far, so that a longer text does not recompute them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.config import HookedTransformerConfig

KeysAndValues = tuple[
    Float[Tensor, "batch key_pos kv_head d_head"], Float[Tensor, "batch key_pos kv_head d_head"]
]


@dataclass
class _Room:
    """Memory for more keys and values than there are, so that a step copies its own alone.

    Attributes:
        keys, values: `[batch, capacity, kv_head, d_head]`.
        taken: How many places somebody has written to. Only who holds exactly these may go on: two
            caches that begin with the same tokens must not write into one another.
    """

    keys: Tensor
    values: Tensor
    taken: int

    @classmethod
    def for_these(cls, keys: Tensor, values: Tensor, capacity: int) -> _Room:
        """Room that begins with these."""
        with torch.inference_mode(False):  # a cache begun there may be continued elsewhere
            room = cls(_empty(keys, capacity), _empty(values, capacity), taken=0)
        room.add(keys, values)
        return room

    def has_place(self, keys: Tensor, n_before: int) -> bool:
        """Whether whoever holds `n_before` places may put these behind them."""
        batch, n_new, *rest = keys.shape
        return (
            self.taken == n_before
            and n_before + n_new <= self.keys.shape[1]
            and [batch, *rest] == [self.keys.shape[0], *self.keys.shape[2:]]
            and (keys.dtype, keys.device) == (self.keys.dtype, self.keys.device)
        )

    def add(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """All keys and values, with these behind the others."""
        start, self.taken = self.taken, self.taken + keys.shape[1]
        for room, new in ((self.keys, keys), (self.values, values)):
            room.narrow(1, start, new.shape[1]).copy_(new)
        return self.keys.narrow(1, 0, self.taken), self.values.narrow(1, 0, self.taken)


def _empty(like: Tensor, capacity: int) -> Tensor:
    batch, _, *rest = like.shape
    return torch.empty(batch, capacity, *rest, dtype=like.dtype, device=like.device)


@dataclass
class LayerKeyValueCache:
    """One layer's keys (already turned, with rotary positions) and values.

    Attributes:
        keys, values: Of the tokens so far.
        cross: Keys and values of the sequence that a decoder attends to, as projected.
        capacity: How many tokens to make room for at once. There is always room for more: what is
            full is doubled.
    """

    keys: Float[Tensor, "batch key_pos kv_head d_head"]
    values: Float[Tensor, "batch key_pos kv_head d_head"]
    cross: KeysAndValues | None = None
    capacity: int = 0
    _joined: KeysAndValues | None = None
    _remembered: KeysAndValues | None = None
    # Where `keys` and `values` lie, as long as they are the tensors in `_in_room`.
    _room: _Room | None = None
    _in_room: KeysAndValues | None = None

    def join(
        self,
        keys: Float[Tensor, "batch pos kv_head d_head"],
        values: Float[Tensor, "batch pos kv_head d_head"],
    ) -> KeysAndValues:
        """All keys and values, this run's included; they are kept once `commit` is called."""
        if self.keys.device != keys.device:  # this layer lies elsewhere than the first
            self.keys, self.values = self.keys.to(keys.device), self.values.to(keys.device)
        self._joined = self._join_in_room(keys, values)
        if self._joined is None:
            self._room = None
            self._joined = (
                torch.cat(_with_equal_heads(self.keys, keys), 1),
                torch.cat(_with_equal_heads(self.values, values), 1),
            )
        return self._joined

    def _join_in_room(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor] | None:
        """The same without copying the earlier ones each time; None where it cannot be done.

        Gradients need the tensors of every step as they were, and a traced run has no memory.
        """
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or type(keys) is not Tensor:
            return None
        n_before = self.keys.shape[1]
        mine = self._in_room is not None and (
            self.keys is self._in_room[0] and self.values is self._in_room[1]
        )
        if not (mine and self._room is not None and self._room.has_place(keys, n_before)):
            if keys.shape[2:] != self.keys.shape[2:] or keys.dtype != self.keys.dtype:
                return None
            needed = n_before + keys.shape[1]
            capacity = self.capacity if self.capacity >= needed else 2 * needed
            self._room = _Room.for_these(self.keys, self.values, capacity)
        return self._room.add(keys, values)

    def remember(self, make: Callable[[], KeysAndValues]) -> KeysAndValues:
        """The other sequence's keys and values, made if they are not kept yet."""
        self._remembered = make() if self.cross is None else self.cross
        return self._remembered

    def commit(self) -> None:
        """Keep what the last run joined and remembered."""
        assert self._joined is not None
        self.keys, self.values = self._joined
        self.cross = self._remembered
        self._in_room, self._joined = self._joined, None

    def select(self, rows: Int[Tensor, "row"], same_source: bool = False) -> LayerKeyValueCache:
        """These rows of the batch, in this order; `same_source`: `cross` stays as it is."""
        cross, rows = self.cross, rows.to(self.keys.device)
        if cross is not None and not same_source:
            cross = (cross[0][rows], cross[1][rows])
        return LayerKeyValueCache(self.keys[rows], self.values[rows], cross, self.capacity)


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
        cls,
        cfg: HookedTransformerConfig,
        device: torch.device | str,
        batch_size: int = 1,
        capacity: int = 0,
    ) -> KeyValueCache:
        """An empty cache for a batch.

        `capacity`: how many tokens it will hold, where that is known. It grows all the same.
        """
        heads = cfg.n_heads if cfg.ungroup_grouped_query_attention else cfg.n_kv_heads
        empty = torch.empty(batch_size, 0, heads, cfg.d_head, device=device, dtype=cfg.dtype)
        return cls([LayerKeyValueCache(empty, empty, None, capacity) for _ in range(cfg.n_layers)])

    def __len__(self) -> int:
        """How many tokens it holds."""
        return self.length

    def __getitem__(self, layer: int) -> LayerKeyValueCache:
        return self.layers[layer]

    def select(self, rows: Int[Tensor, "row"], same_source: bool = False) -> KeyValueCache:
        """A cache of these rows of the batch, in this order, as beam search needs it.

        `same_source`: each new row attends to the same other sequence as the row in its place did,
        so that its keys and values need no copy.
        """
        real = None if self.real_keys is None else self.real_keys[rows]
        layers = [layer.select(rows, same_source) for layer in self.layers]
        source = self.source
        if source is not None and not same_source:
            source = source[rows.to(source.device)]
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
        before, now = self.real_keys, mask
        device = next(x.device for x in (mask, before) if x is not None)
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
